"""Files of data sets on the Hugging Face Hub: from a folder of copies where there is one, else downloaded and cached.

Files are read as they are, by `s1kit.questions`: no code of a data set is run, and no package but the client of the
Hub is needed.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from s1kit.errors import InputError, MissingExtra
from s1kit.recipe import Source


class HubCopy(NamedTuple):
    """Files of one data set on this machine."""

    files: list[Path]
    commit: str
    """The commit that was read; empty for a copy in `collect.hub_folder`."""


def local_copy(source: Source, hub_folder: str) -> Path | None:
    """The folder `<hub_folder>/<owner>/<name>`, where it is there."""
    folder = Path(hub_folder) / source.hub if hub_folder else None
    return folder if folder is not None and folder.is_dir() else None


def hub_files(source: Source, hub_folder: str = "") -> HubCopy:
    """The files of a source that names some, in the order of its patterns.

    Raises InputError when the Hub cannot be reached, the data set is gone or gated, or no file matches.
    """
    folder = local_copy(source, hub_folder)
    commit = ""
    if folder is None:
        folder = Path(_download(source.hub, source.revision, tuple(source.files)))
        commit = folder.name
    files: list[Path] = []
    for pattern in source.files:
        found = sorted(path for path in folder.glob(pattern) if path.is_file())
        if not found:
            raise InputError(
                f"the data set {source.hub} has no file {pattern}",
                where=str(folder) if not commit else f"{source.hub}@{commit}",
                fix=f"See https://huggingface.co/datasets/{source.hub}/tree/{source.revision or 'main'} and name its "
                "files in the source, or set optional = true to go on without it.",
            )
        files += [path for path in found if path not in files]
    return HubCopy(files, commit)


@lru_cache
def _download(hub: str, revision: str, patterns: tuple[str, ...]) -> str:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            DisabledRepoError,
            GatedRepoError,
            HFValidationError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError as error:
        raise MissingExtra("reading the Hub", "huggingface-hub", extra="hub") from error
    page = f"https://huggingface.co/datasets/{hub}"
    try:
        return snapshot_download(hub, repo_type="dataset", revision=revision or None, allow_patterns=list(patterns))
    except GatedRepoError as error:
        what, fix = "is gated", f"Accept its terms at {page} and set HF_TOKEN, or run: hf auth login."
        raise _cannot(hub, what, fix) from error
    except RevisionNotFoundError as error:
        raise _cannot(hub, f"has no revision {revision}", f"See {page}/commits/main.") from error
    except (RepositoryNotFoundError, DisabledRepoError, HFValidationError) as error:
        what = "does not exist, was removed or is private"
        raise _cannot(hub, what, f"Check the name at {page}; HF_TOKEN opens a private one.") from error
    except (OSError, ValueError, RuntimeError) as error:
        # The client's other errors: no network, offline mode, a proxy, a server that fails.
        reason = " ".join(str(error).split())[:200]
        command = f"hf download {hub} --repo-type dataset {f'--revision {revision} ' if revision else ''}"
        fix = f"Elsewhere, run: {command}--local-dir FOLDER/{hub}; then set collect.hub_folder=FOLDER."
        raise _cannot(hub, f"cannot be read ({reason})", fix) from error


def _cannot(hub: str, what: str, fix: str) -> InputError:
    return InputError(
        f"the data set {hub} {what}",
        where="collect.sources.hub",
        fix=f"{fix} Or set optional = true to go on without it.",
    )
