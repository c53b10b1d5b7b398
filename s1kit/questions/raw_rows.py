"""One row: as it stands in a file, rewritten into plain columns, and what makes a value impossible to keep."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

MEND = "Correct or delete it, or go on without it with --allow-rejects."

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class RawRow:
    """One row as it stands in a file."""

    where: str
    """`file:line`, or `file, row n` where a file has no lines."""
    row: dict[str, Any] | None
    """None when the line is broken."""
    complaint: str = ""
    line: str = ""
    """The beginning of the line, for people."""
    fix: str = MEND
    form: str = ""
    """How the file was read where that was found out, e.g. `CSV separated by ;`."""


class Shaped(NamedTuple):
    """A row rewritten into plain columns: `text`, `solution`, `final_answer` and the rest."""

    name: str
    """What the row was taken for; empty when it is plain columns."""
    row: dict[str, Any]
    counted: tuple[str, int] | None = None
    """The column of a right option that was given as a number, taken to count from 0, and the number of options."""


class TooLong(str):
    """The digits of an integer that is longer than Python converts."""


def find_fault(value: Any, place: str = "") -> str:
    """What makes a value of JSON or Parquet impossible to keep, and where it stands; empty when nothing does.

    >>> find_fault({"a": [1, {"b": "x\\ud83d"}]})
    "a[1].b holds half of a surrogate pair, '\\\\ud83d', which is no character"
    """
    match value:
        case TooLong():
            return f"{place} is an integer of {len(value):,} digits; put it in quotes to keep it"
        case str() if found := _SURROGATE.search(value):
            return f"{place} holds half of a surrogate pair, {found.group()!r}, which is no character"
        case dict():
            dotted = f"{place}." if place else ""
            for key, item in value.items():
                if fault := find_fault(key, "a column's name") or find_fault(item, f"{dotted}{key}"):
                    return fault
        case list():
            for number, item in enumerate(value):
                if fault := find_fault(item, f"{place}[{number}]"):
                    return fault
    return ""


def repeated(names: Sequence[str]) -> str:
    """The first name that stands twice; empty where none does."""
    return next((name for name, count in Counter(names).items() if count > 1), "")


def printable(text: str) -> str:
    """The text with what cannot be printed escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
