"""Accuracies that others printed, without their outputs: shown beside the curve, marked, and never given an interval
that cannot be known.

A file of them is CSV, JSONL or Parquet with a row a number:

    name,benchmark,accuracy_percent,num_questions,thinking_tokens,source,date
    s1-32B,aime24,50.0,30,6109,"arXiv 2501.19393, Table 13",2025-02-03

`name`, `benchmark`, `accuracy_percent` and `source` are needed. `s1-paper` is a file that ships with s1kit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from s1kit.analysis.results import PublishedNumber
from s1kit.errors import InputError
from s1kit.questions import find_files, whole_rows
from s1kit.recipe import Comparator

PACKAGED = {"s1-paper": "s1_paper_numbers.csv"}
NEEDED = ("name", "benchmark", "accuracy_percent", "source")


def read_numbers(comparators: Sequence[Comparator], benchmarks: Sequence[str]) -> list[PublishedNumber]:
    """The published numbers of all comparators for these benchmarks.

    Raises InputError for a row that is not one, naming its line, and for a file without a number for any of them.
    """
    found: list[PublishedNumber] = []
    for reference in dict.fromkeys(c.numbers for c in comparators if c.numbers):
        numbers = list(_read(reference))
        fitting = [n for n in numbers if n.benchmark in benchmarks]
        if not fitting:
            there = ", ".join(sorted({n.benchmark for n in numbers})) or "nothing"
            raise InputError(
                f"the file has no number for {', '.join(benchmarks)}; it has some for {there}",
                where=reference,
                fix="Name a number's benchmark as the recipe names it.",
            )
        found += fitting
    return found


def _read(reference: str) -> Iterator[PublishedNumber]:
    if reference in PACKAGED:
        paths = [Path(str(resources.files("s1kit.evaluate"))) / "data" / PACKAGED[reference]]
    else:
        paths = find_files(reference)
    for path in paths:
        for row, where in whole_rows(path):
            yield _number(row, where)


def _number(row: dict[str, Any], where: str) -> PublishedNumber:
    missing = [name for name in NEEDED if row.get(name) in (None, "")]
    if missing:
        fix = f"A published number has {', '.join(NEEDED)}, and where known num_questions, thinking_tokens, date."
        raise InputError(f"the row has no {missing[0]}", where=where, fix=fix)
    percent = _as_number(row, "accuracy_percent", where)
    if percent is None or not 0 <= percent <= 100:
        raise InputError(f"accuracy_percent is {row['accuracy_percent']}", where=where, fix="Give 0 to 100.")
    questions = _as_number(row, "num_questions", where)
    return PublishedNumber(
        name=str(row["name"]),
        benchmark=str(row["benchmark"]),
        accuracy=percent / 100,
        num_questions=None if questions is None else int(questions),
        thinking_tokens=_as_number(row, "thinking_tokens", where),
        source=str(row["source"]),
        date=str(row.get("date") or ""),
    )


def _as_number(row: dict[str, Any], name: str, where: str) -> float | None:
    value = row.get(name)
    if value in (None, ""):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} is {value!r}", where=where, fix="Give a number, or leave it out.") from None
    if not 0 <= number < float("inf"):
        raise InputError(f"{name} is {value}", where=where, fix="Give a number of 0 or more.")
    return number
