"""Questions from where they are: the built-in families, files, the Hugging Face Hub.

Reading a source twice gives the same rows in the same order; nothing but a sample is kept in memory.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from glob import escape
from hashlib import sha256
from heapq import nsmallest
from itertools import islice
from operator import itemgetter
from random import Random
from typing import Any

from s1kit.errors import InputError, MissingExtra, nearest
from s1kit.pool.hub import hub_files, local_copy
from s1kit.pool.hub_pools import POOLS, pool_sources
from s1kit.questions import Reject, WholeFile, question_and_shape, read_questions
from s1kit.questions.conversations import whole_conversation
from s1kit.questions.options import LETTERS
from s1kit.recipe import Source
from s1kit.records import Question, question_id

NUM_TINY = 6000
"""Questions of the built-in families, unless the source says."""


def read_source(
    source: Source,
    seed: int,
    rejects: list[Reject] | None = None,
    shapes: Counter[str] | None = None,
    hub_folder: str = "",
) -> Iterator[Question]:
    """The questions of one source, at most `source.num`; `shapes` counts how the rows were read, in words.

    `hub_folder` holds copies of Hub data sets, as `collect.hub_folder` says.

    A broken row is an InputError that names its place, or lands in `rejects` where that is given.
    """
    match kind_of(source):
        case "builtin":
            questions = _read_builtin(source, seed)
        case "path":
            questions = _read_files(source, source.path, rejects, shapes)
        case _ if source.files:
            questions = _read_hub_files(source, hub_folder, rejects, shapes)
        case _:
            questions = _read_hub(source, hub_folder, rejects, shapes)
    if source.num is None or not source.sample:
        return islice(questions, source.num)
    return _drawn(questions, source.num, seed)


def _drawn(questions: Iterable[Question], num: int, seed: int) -> Iterator[Question]:
    """`num` of the questions, drawn by a hash of seed and question, in the source's order: the same in every pass."""

    def rank(at_question: tuple[int, Question]) -> bytes:
        return sha256(f"{seed} {at_question[1].id}".encode()).digest()

    for _, question in sorted(nsmallest(num, enumerate(questions), key=rank), key=itemgetter(0)):
        yield question


def _read_files(
    source: Source, pattern: str, rejects: list[Reject] | None, shapes: Counter[str] | None
) -> Iterator[Question]:
    return read_questions(
        pattern,
        _columns(source),
        source.name,
        source.licence,
        rejects,
        prepare=lambda row: shaped(source, row) if keeps(source, row) else None,
        shapes=shapes,
    )


def _columns(source: Source) -> dict[str, str]:
    """A template makes the question's text: no shape is looked for then."""
    return source.columns | {"text": "text"} if source.template else source.columns


def kind_of(source: Source) -> str:
    """`builtin`, `path` or `hub`; InputError when a source gives none or several of them."""
    given = [name for name in ("builtin", "path", "hub") if getattr(source, name)]
    if len(given) != 1:
        raise InputError(
            f"a source names {' and '.join(given) or 'nothing'}",
            where="collect.sources",
            fix="Give exactly one of builtin, path and hub.",
        )
    kind = given[0]
    _refuse_idle(source, "builtin" if kind == "builtin" else "files" if source.files else kind)
    return kind


_IDLE = {
    "builtin": set(Source.model_fields) - {"builtin", "only", "num", "sample", "optional"},
    "path": {"only", "files", "subset", "split", "revision"},
    "hub": {"only"},
    "files": {"only", "subset", "split"},
}
"""Fields that have no effect on a source of each kind; `files` is a Hub data set whose files are named."""


def _refuse_idle(source: Source, kind: str) -> None:
    idle = _IDLE[kind] | ({"only", "sample"} if source.builtin == "tiny" else set())
    what = f"{source.builtin!r}" if source.builtin else "named files" if kind == "files" else f"a source with {kind}"
    source.refuse_idle("collect.sources", idle - {"builtin", "path", "hub"}, f"on {what}")
    if source.conversation:
        beside = {"template", "shuffle_options", "columns"}
        source.refuse_idle("collect.sources", beside, "beside conversation, which takes the row's own messages")
    if not _OPTION.search(source.template):
        why = "without options in the template, each on a line such as (A) {column}"
        source.refuse_idle("collect.sources", {"shuffle_options"}, why)
    if source.template and source.columns.get("text"):
        raise InputError(
            f"the question's text is made by template and taken from the column {source.columns['text']!r}",
            where="collect.sources",
            fix="Leave columns.text out, or the template.",
        )
    if source.sample and source.num is None:
        raise InputError("sample without num draws nothing", where="collect.sources", fix="Give num, or leave it out.")


def label(source: Source) -> str:
    """A short name for counts and messages."""
    return source.name or source.builtin or source.path or source.hub + (f"/{source.subset}" if source.subset else "")


def expand(source: Source, hub_folder: str = "") -> list[Source]:
    """The source itself, or what a built-in name stands for."""
    if source.builtin in POOLS:
        kind_of(source)
        pool = pool_sources(source.builtin, source.optional, hub_folder, source.only)
        return [_narrowed(each, source) for each in pool] if source.num else pool
    return [source]


def _narrowed(source: Source, given: Source) -> Source:
    """A data set of a pool under the `num` and `sample` that the recipe gives the pool.

    Where the pool itself takes the first rows of a data set, as the paper did, none but these are drawn from.
    """
    assert given.num is not None
    if source.num is not None and given.sample and given.num < source.num:
        raise InputError(
            f"{label(source)} is the first {source.num:,} rows of its data set, and sample draws from all",
            where="collect.sources",
            fix="Leave sample out, or name the data set itself with hub.",
        )
    return source.model_copy(update={"num": min(given.num, source.num or given.num), "sample": given.sample})


def _number(value: Any, column: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        fix = 'Filter such a column by its text, for example keep = { level = "Level 3" }.'
        raise InputError(f"{value!r:.60} in {column!r} is no number", where="keep", fix=fix) from None


def keeps(source: Source, row: dict[str, Any]) -> bool:
    """Whether a row passes the source's `keep`. InputError when a column is missing."""
    for column, wanted in source.keep.items():
        if column not in row:
            raise InputError(
                f"there is no column {column!r} to filter by", where="keep", fix=f"Known: {', '.join(row)}."
            )
        value = row[column]
        match wanted:
            case "not empty":
                passes = bool(value)
            case "":
                passes = value in (None, "")
            case str() if wanted.startswith("<="):
                passes = value is not None and _number(value, column) <= _number(wanted[2:], column)
            case str() if "*" in wanted:
                passes = fnmatchcase(str(value), wanted)
            case _:
                passes = str(value) == str(wanted)
        if not passes:
            return False
    return True


def shaped(source: Source, row: dict[str, Any]) -> dict[str, Any]:
    """The row with the question that the source's `template` or `conversation` makes of it.

    Raises InputError where a field is missing.
    """
    if source.conversation:
        return whole_conversation(row)
    if not source.template:
        return row
    template = source.template

    def fill(match: re.Match[str]) -> str:
        if match[1] not in row:
            raise InputError(f"there is no column {match[1]!r}", where="template", fix=f"Known: {', '.join(row)}.")
        value = row[match[1]]
        return "\n".join(map(str, value)) if isinstance(value, list) else str(value or "").strip()

    shaped_row = dict(row)
    if source.shuffle_options:
        template, letter = _shuffled(template, fill)
        shaped_row["final_answer"] = letter
    shaped_row["text"] = _COLUMN.sub(fill, template).strip()
    return shaped_row


_COLUMN = re.compile(r"\{([^{}]+)\}")
_OPTION = re.compile(r"^\(([A-Z])\) (\{[^{}]+\})$", re.MULTILINE)


def _shuffled(template: str, fill: Callable[[re.Match[str]], str]) -> tuple[str, str]:
    """The template with its options in another order, and the letter of the first one, which is the right one.

    The order is drawn from the texts: the same on every machine, and the right option is not always A.
    """
    options = [match[2] for match in _OPTION.finditer(template)]
    drawn = Random(question_id(_COLUMN.sub(fill, template)))
    order = sorted(options, key=lambda _: drawn.random())
    rest = iter(order)
    shuffled = _OPTION.sub(lambda match: f"({match[1]}) {next(rest)}", template)
    return shuffled, LETTERS[order.index(options[0])]


def _read_builtin(source: Source, seed: int) -> Iterator[Question]:
    if source.builtin != "tiny":
        raise InputError(
            f"no built-in source is called {source.builtin!r}",
            where="collect.sources.builtin",
            fix=nearest(source.builtin, ["tiny", *POOLS]),
        )
    from s1kit.tiny.questions import tiny_pool

    return islice(tiny_pool(seed), source.num or NUM_TINY)


def _read_hub_files(
    source: Source, hub_folder: str, rejects: list[Reject] | None, shapes: Counter[str] | None
) -> Iterator[Question]:
    # A column called "source" on the Hub is of that data set's own making: the name decides.
    name = source.name or source.hub
    for path in hub_files(source, hub_folder).files:
        for question in _read_files(source, escape(str(path)), rejects, shapes):
            yield question.model_copy(update={"source": name})


def _read_hub(
    source: Source, hub_folder: str, rejects: list[Reject] | None, shapes: Counter[str] | None
) -> Iterator[Question]:
    """A source that names no files: the package `datasets` finds those of its split."""
    name = source.name or source.hub
    rows = _load_dataset(source, hub_folder)
    file = WholeFile(lambda: rows)
    for number, row in enumerate(rows):
        try:
            if not keeps(source, row):
                continue
            question, shape = question_and_shape(shaped(source, row), _columns(source), name, source.licence, file)
            if shapes is not None:
                shapes[f"{source.hub}: {shape}"] += 1
            yield question.model_copy(update={"source": name})
        except InputError as error:
            where = f"{source.hub}, row {number}"
            if rejects is None:
                raise InputError(error.what, where=where, fix=error.fix) from error
            rejects.append(Reject(where, error.what, str(row)[:200]))


def _load_dataset(source: Source, hub_folder: str) -> Iterable[dict[str, Any]]:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra(
            f"reading {source.hub} without `files`, which says which of its files are meant", "datasets", extra="hub"
        ) from error
    folder = local_copy(source, hub_folder)
    try:
        loaded: Iterable[dict[str, Any]] = datasets.load_dataset(
            str(folder or source.hub),
            source.subset or None,
            split=source.split,
            revision=None if folder else source.revision or None,
        )
    except (OSError, ValueError, RuntimeError) as error:
        # Its errors for a missing, gated and unreachable data set are of these three families.
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"the data set {source.hub} cannot be read: {reason}",
            where="collect.sources.hub",
            fix='Check the name and your access, name its files (files = ["data/train-*.parquet"]), give a copy in '
            "collect.hub_folder, or set optional = true to go on without it.",
        ) from error
    return loaded
