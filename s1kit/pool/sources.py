"""Questions from where they are: the built-in families, files, the Hugging Face Hub.

Reading a source twice gives the same rows in the same order; nothing is kept in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from s1kit.errors import InputError, MissingExtra
from s1kit.questions import Reject, question_from, read_questions
from s1kit.recipe import Source
from s1kit.records import Question


def read_source(source: Source, seed: int, rejects: list[Reject] | None = None) -> Iterator[Question]:
    """The questions of one source, at most `source.num`.

    A broken row is an InputError that names its place, or lands in `rejects` where that is given.
    """
    match kind_of(source):
        case "builtin":
            questions = _read_builtin(source, seed)
        case "path":
            questions = read_questions(source.path, source.columns, source.name, source.licence, rejects)
        case _:
            questions = _read_hub(source, rejects)
    return islice(questions, source.num)


def kind_of(source: Source) -> str:
    """`builtin`, `path` or `hub`; InputError when a source gives none or several of them."""
    given = [name for name in ("builtin", "path", "hub") if getattr(source, name)]
    if len(given) != 1:
        raise InputError(
            f"a source names {' and '.join(given) or 'nothing'}",
            where="collect.sources",
            fix="Give exactly one of builtin, path and hub.",
        )
    return given[0]


def label(source: Source) -> str:
    """A short name for counts and messages."""
    return source.name or source.builtin or source.path or source.hub + (f"/{source.subset}" if source.subset else "")


def _read_builtin(source: Source, seed: int) -> Iterator[Question]:
    if source.builtin != "tiny":
        raise InputError(
            f"no built-in source is called {source.builtin!r}", where="collect.sources.builtin", fix="Known: tiny."
        )
    from s1kit.tiny.questions import tiny_questions

    return iter(tiny_questions(source.num or 6000, seed))


def _read_hub(source: Source, rejects: list[Reject] | None) -> Iterator[Question]:
    rows = _load_dataset(source)
    for number, row in enumerate(rows):
        try:
            yield question_from(row, source.columns, source.name or source.hub, source.licence)
        except InputError as error:
            where = f"{source.hub}, row {number}"
            if rejects is None:
                raise InputError(error.what, where=where, fix=error.fix) from error
            rejects.append(Reject(where, error.what, str(row)[:200]))


def _load_dataset(source: Source) -> Iterator[dict[str, Any]]:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra("reading a Hub data set", "datasets", extra="hub") from error
    try:
        loaded = datasets.load_dataset(
            source.hub, source.subset or None, split=source.split, revision=source.revision or None
        )
    except (OSError, ValueError, RuntimeError) as error:
        # Its errors for a missing, gated and unreachable data set are of these three families.
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"the data set {source.hub} cannot be read: {reason}",
            where="collect.sources.hub",
            fix="Check the name and your access, download it as a file, or set optional = true to go on without it.",
        ) from error
    return iter(loaded)
