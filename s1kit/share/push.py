"""What of a run goes to the Hugging Face Hub, and what may not.

The rows of generations are never uploaded: they hold the text of whole benchmarks. The report shows some questions, and
never those of benchmarks that ask not to be republished.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from s1kit.errors import InputError, WorkFailed, first_line
from s1kit.files import read_rows
from s1kit.records import Sample
from s1kit.share.cards import dataset_card, licence_text


@dataclass(frozen=True)
class Repository:
    """One repository on the Hub and the files that go there."""

    name: str
    kind: str
    """`model` or `dataset`, as the Hub calls them."""
    files: dict[str, Path | str]
    """Path in the repository to a file, or to the text of one."""


@dataclass(frozen=True)
class PushPlan:
    """All that one `s1kit push` uploads."""

    repositories: tuple[Repository, ...]

    def lines(self) -> Iterator[str]:
        """One line a file: repository, path, bytes."""
        for repository in self.repositories:
            for path, file in repository.files.items():
                size = file.stat().st_size if isinstance(file, Path) else len(file.encode())
                yield f"{repository.kind} {repository.name}  {path}  {size:,} bytes"


def plan_push(run: Path, name: str, with_samples: bool = True) -> PushPlan:
    """The repositories of a run folder; nothing is uploaded.

    Raises InputError on a name that the Hub would refuse, a run without a checkpoint, and samples that may not be
    shared.
    """
    data_name = f"{name}-samples"
    for one in (name, data_name):
        _check_name(one)
    checkpoint = run / "train" / "checkpoint"
    if not (checkpoint / "config.json").exists():
        raise InputError("the run has no checkpoint", where=str(checkpoint), fix="Finish it first: s1kit train RECIPE.")
    model = Repository(name, "model", _files(checkpoint, "") | _files(run / "report", "report/"))
    if not with_samples:
        return PushPlan((model,))
    shards = sorted((run / "curate").glob("samples-?????.parquet"))
    samples = list(read_rows(shards, Sample))
    if not samples:
        raise InputError("the run has no samples", where=str(run / "curate"), fix="Leave them out with --no-samples.")
    acknowledged = _acknowledged(run)
    _check_terms(samples, acknowledged)
    files: dict[str, Path | str] = {"README.md": dataset_card(data_name, samples, acknowledged)}
    if text := licence_text(samples):
        files["LICENSE.md"] = text
    files |= {shard.name: shard for shard in shards}
    if isinstance(card := model.files.get("README.md"), Path):
        model.files["README.md"] = _linked(card.read_text(encoding="utf-8"), data_name)
    return PushPlan((model, Repository(data_name, "dataset", files)))


def upload(plan: PushPlan, private: bool = True) -> Iterator[str]:
    """Create the repositories, upload each as one commit, and yield their addresses.

    Files that the Hub already has with the same content are not sent again.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    for repository in plan.repositories:
        try:
            url = api.create_repo(repository.name, repo_type=repository.kind, private=private, exist_ok=True)
            operations = [
                CommitOperationAdd(path, file.encode() if isinstance(file, str) else file)
                for path, file in repository.files.items()
            ]
            api.create_commit(
                repository.name, operations, commit_message="Upload from s1kit", repo_type=repository.kind
            )
        except LocalTokenNotFoundError as error:
            raise InputError(
                "there is no token for the Hub", where="HF_TOKEN", fix="Log in with: hf auth login"
            ) from error
        except (HfHubHTTPError, OSError) as error:
            raise WorkFailed(
                f"the Hub did not take {repository.name}: {first_line(error)[:300]}",
                where="--to",
                fix="Correct that and run the same command again; what was uploaded is not sent again.",
            ) from error
        yield str(url)


def _check_name(name: str) -> None:
    """Raises InputError for what the Hub does not take as a name."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        if name.count("/") != 1:
            raise HFValidationError("it is not NAMESPACE/NAME")
        validate_repo_id(name)
    except HFValidationError as error:
        raise InputError(
            f"{name!r} is no repository name: {error}",
            where="--to",
            fix="Give NAMESPACE/NAME, as in my-name/my-model.",
        ) from error


def _linked(card: str, data_name: str) -> str:
    """A model card that names the data set of its samples, to which the Hub then links."""
    from huggingface_hub import ModelCard

    found = ModelCard(card)
    found.data["datasets"] = [data_name]
    return str(found)


def _files(folder: Path, prefix: str) -> dict[str, Path | str]:
    return {
        prefix + path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("receipt.json", "started.json") and not path.name.startswith(".")
    }


def _acknowledged(run: Path) -> str:
    file = run / "run.json"
    resolved = json.loads(file.read_text(encoding="utf-8"))["resolved"] if file.exists() else {}
    return str(resolved.get("train", {}).get("acknowledge_terms", ""))


def _check_terms(samples: list[Sample], acknowledged: str) -> None:
    closed = sorted({s.trace.question.source for s in samples if "not to be republished" in s.trace.question.licence})
    if closed:
        raise InputError(
            f"the questions of {', '.join(closed)} are not to be republished",
            where="curate",
            fix="Leave the samples out with --no-samples.",
        )
    forbidden = sorted({s.trace.teacher for s in samples if s.trace.terms != "permits"})
    if forbidden and not acknowledged:
        raise InputError(
            f"nothing permits training on the output of {', '.join(forbidden)}, so the samples may not be shared",
            where="curate",
            fix="Leave them out with --no-samples, or say in train.acknowledge_terms why you may.",
        )
