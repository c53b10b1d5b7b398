"""Rows that hold the questions in a list, such as a text with its questions, or its paragraphs with theirs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from s1kit.questions.conversations import is_message
from s1kit.questions.names import columns_for, has_question, plain_name
from s1kit.questions.raw_rows import RawRow

_DEPTH = 3
"""Lists within lists: a document, its paragraphs, their questions."""
_WEAK = {"text", "input", "inputs", "term", "front", "q"}
"""Names of the question that lists of other things have, too, such as the options of a row."""


def rows_inside(raw: RawRow) -> Iterator[RawRow]:
    """The rows that a row without a question holds in its only list of objects, as SQuAD, QuALITY and MuSR nest them.

    What is beside a list goes with each of its rows. Any other row is given as it is.
    """
    names, rows = _inside(raw.row, _DEPTH) if raw.row is not None else ([], [])
    if not names:
        yield raw
        return
    form = ", ".join(filter(None, [raw.form, f"the rows in its {'/'.join(names)!r}"]))
    for number, row in enumerate(rows):
        yield replace(raw, where=f"{raw.where}, {'/'.join(names)} {number}", row=row, form=form)


def _inside(row: dict[str, Any], depth: int) -> tuple[list[str], list[dict[str, Any]]]:
    """The names of the lists on the way to the questions, and the rows there; none where no list holds questions."""
    lists = [n for n, v in row.items() if isinstance(v, list) and v and all(isinstance(one, dict) for one in v)]
    if not depth or len(lists) != 1 or has_question(row) or any(map(is_message, row[lists[0]])):
        return [], []
    (name,) = lists
    beside = {key: value for key, value in row.items() if key != name}
    inner = [beside | one for one in row[name]]
    asked = next(iter(columns_for("text", row[name][0])), "")
    if isinstance(row[name][0].get(asked), str) and plain_name(asked) not in _WEAK:
        return [name], inner
    found = [(names, rows) for names, rows in (_inside(one, depth - 1) for one in inner) if names]
    return ([name, *found[0][0]], [row for _, rows in found for row in rows]) if found else ([], [])
