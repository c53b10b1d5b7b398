"""What `s1kit push` uploads, what it refuses, and that the Hub's own client can send it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard
from servers.hub import Hub

from s1kit.cli import main
from s1kit.errors import InputError
from s1kit.files import write_rows
from s1kit.forcing.formats import FORMATS
from s1kit.recipe import Train
from s1kit.records import Question, Sample, Terms, Trace
from s1kit.share.cards import LICENCES, SIZES, dataset_card
from s1kit.share.push import plan_push
from s1kit.train.checkpoint import model_card


def sample(number: int, *, terms: Terms = "permits", licence: str = "MIT") -> Sample:
    question = Question(text=f"What is {number} + 1?", solution=str(number + 1), source="sums", licence=licence)
    trace = Trace(
        question=question, teacher="chat:deepseek/r1", thinking="one more", answer="2", thinking_tokens=2, terms=terms
    )
    return Sample(trace=trace, picked_by="random")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run, as far as it is shared."""
    folder = tmp_path / "mine"
    (folder / "train" / "checkpoint").mkdir(parents=True)
    (folder / "train" / "checkpoint" / "config.json").write_text("{}")
    (folder / "train" / "checkpoint" / "README.md").write_text("---\nlibrary_name: transformers\n---\n")
    (folder / "train" / "receipt.json").write_text("{}")
    (folder / "report").mkdir()
    (folder / "report" / "report.html").write_text("<p>")
    (folder / "report" / "started.json").write_text("{}")
    (folder / "evaluate").mkdir()
    (folder / "evaluate" / "generations-00000.parquet").write_bytes(b"questions of a benchmark")
    (folder / "curate").mkdir()
    write_rows(folder / "curate" / "samples-00000.parquet", Sample, [sample(n) for n in range(3)])
    return folder


def acknowledge(run: Path, reason: str) -> None:
    (run / "run.json").write_text(json.dumps({"resolved": {"train": {"acknowledge_terms": reason}}}))


def test_the_checkpoint_the_report_and_the_samples_are_shared_and_benchmarks_are_not(run: Path) -> None:
    model, data = plan_push(run, "me/mine").repositories
    assert (model.name, model.kind) == ("me/mine", "model")
    assert set(model.files) == {"config.json", "README.md", "report/report.html"}
    assert (data.name, data.kind) == ("me/mine-samples", "dataset")
    assert set(data.files) == {"README.md", "samples-00000.parquet"}


@pytest.mark.parametrize(
    "name", ["mine", "me/", "me/a b", "../x/y", "me/mine/more", "me/a--b", "me/a..b", "me/-a", f"me/{'a' * 90}"]
)
def test_a_name_that_the_hub_would_refuse_is_refused(run: Path, name: str) -> None:
    with pytest.raises(InputError, match="no repository name"):
        plan_push(run, name)


@pytest.mark.parametrize("terms", ["forbids", "unknown"])
def test_samples_whose_terms_do_not_permit_it_are_refused_unless_a_reason_was_given(run: Path, terms: Terms) -> None:
    write_rows(run / "curate" / "samples-00000.parquet", Sample, [sample(1, terms=terms)])
    with pytest.raises(InputError, match=r"deepseek.*--no-samples"):
        plan_push(run, "me/mine")
    assert len(plan_push(run, "me/mine", with_samples=False).repositories) == 1
    acknowledge(run, "a contract")
    assert "a contract" in str(plan_push(run, "me/mine").repositories[1].files["README.md"])


def test_questions_that_may_not_be_republished_stay_here(run: Path) -> None:
    closed = sample(1, licence="CC BY 4.0; not to be republished in plain text")
    write_rows(run / "curate" / "samples-00000.parquet", Sample, [closed])
    with pytest.raises(InputError, match="not to be republished"):
        plan_push(run, "me/mine")


def test_a_run_that_is_not_finished_is_refused_with_what_is_missing(tmp_path: Path, run: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint"):
        plan_push(tmp_path, "me/mine")
    (run / "curate" / "samples-00000.parquet").unlink()
    with pytest.raises(InputError, match="no samples"):
        plan_push(run, "me/mine")


def test_the_card_has_the_metadata_that_the_hub_reads() -> None:
    card = dataset_card("me/mine-samples", [sample(1), sample(2, licence="MIT")])
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["license"] == "mit"
    assert "license_name" not in metadata
    assert metadata["size_categories"] == ["n<1K"]
    assert "| chat:deepseek/r1 | permits | 2 |" in card


@pytest.mark.parametrize("licences", [("MIT", "CC-BY-4.0"), ("own terms",), ("", "MIT")])
def test_questions_without_one_licence_come_with_a_file_that_says_which_holds(
    run: Path, licences: tuple[str, ...]
) -> None:
    mixed = [sample(number, licence=licence) for number, licence in enumerate(licences)]
    write_rows(run / "curate" / "samples-00000.parquet", Sample, mixed)
    files = plan_push(run, "me/mine").repositories[1].files
    metadata = yaml.safe_load(str(files["README.md"]).split("---")[1])
    # As the Hub's own rules for a licence that it does not list.
    assert (metadata["license"], metadata["license_link"]) == ("other", "LICENSE.md")
    assert re.fullmatch(r"[a-z0-9.-]+", metadata["license_name"])
    for licence in licences:
        assert f"| sums | {licence or 'unknown'} | 1 |" in str(files["LICENSE.md"])


MODEL_FIELDS = {"base_model", "library_name", "pipeline_tag", "tags", "datasets"}
DATA_FIELDS = {"license", "license_name", "license_link", "task_categories", "language", "size_categories", "tags"}


def test_the_cards_of_a_run_pass_what_the_hub_checks(run: Path) -> None:
    """The fields and values of huggingface/hub-docs; the Hub's own check of them needs the network."""
    shipped = (Path(__file__).parents[1] / "s1kit" / "tiny" / "base" / "README.md").read_text(encoding="utf-8")
    train = Train(base="hf:Qwen/Qwen2.5-1.5B-Instruct")
    figures = {"tokens": 5, "training_seconds": 1.0, "processes": 1, "dollars": 0.0, "saved_dtype": "bfloat16"}
    log = run / "train" / "log.jsonl"
    log.write_text('{"step": 1, "loss": 1.0, "learning_rate": 0.1, "tokens": 5}\n')
    card = model_card([sample(1)], FORMATS["s1"], train, 0, figures, log)
    (run / "train" / "checkpoint" / "README.md").write_text(card)
    model, data = (str(r.files["README.md"]) for r in plan_push(run, "me/mine").repositories)
    for text in (model, shipped):
        metadata = ModelCard(text).data.to_dict()
        assert set(metadata) <= MODEL_FIELDS | {"license"}
        assert (metadata["library_name"], metadata["pipeline_tag"]) == ("transformers", "text-generation")
        assert metadata.get("license", "apache-2.0") in LICENCES
    assert ModelCard(model).data.datasets == ["me/mine-samples"]
    assert ModelCard(model).data.base_model == "Qwen/Qwen2.5-1.5B-Instruct"
    metadata = DatasetCard(data).data.to_dict()
    assert set(metadata) <= DATA_FIELDS | {"configs"}
    assert metadata["license"] in LICENCES
    assert metadata["size_categories"][0] in {name for _, name in SIZES}
    assert metadata["configs"] == [{"config_name": "default", "data_files": "samples-*.parquet"}]


def test_dry_run_lists_every_file_and_uploads_nothing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(run), "--to", "me/mine", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("model me/mine  README.md  ")


@pytest.mark.parametrize("public", [False, True])
def test_the_hubs_own_client_uploads_both_repositories(run: Path, public: bool) -> None:
    hub = Hub()
    with hub.running() as url:
        done = push(run, url, "hf_test", *(["--public"] if public else []))
    assert done.returncode == 0, done.stderr
    assert hub.private == {"model/me/mine": not public, "dataset/me/mine-samples": not public}
    assert hub.files["model/me/mine"]["config.json"] == b"{}"
    assert hub.files["dataset/me/mine-samples"]["samples-00000.parquet"][:4] == b"PAR1"


def test_a_wrong_token_is_one_paragraph_without_the_token(run: Path) -> None:
    with Hub().running() as url:
        done = push(run, url, "hf_wrong_secret")
    assert done.returncode == 1
    assert "the Hub did not take me/mine" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hf_wrong_secret" not in done.stderr


def push(run: Path, url: str, token: str, *more: str) -> subprocess.CompletedProcess[str]:
    # In a process of its own: the client reads where the Hub is when it is imported.
    environment = os.environ | {
        "HF_ENDPOINT": url,
        "HF_TOKEN": token,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    command = [sys.executable, "-m", "s1kit", "push", str(run), "--to", "me/mine", *more]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
