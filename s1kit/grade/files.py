"""Grading the rows of a file: pairs of answer and solution, or an evaluation's generations."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from s1kit.errors import InputError
from s1kit.grade.cases import Case, Judgement
from s1kit.grade.load import load_grader
from s1kit.questions import RawRow, read_rows_of
from s1kit.questions.references import aliases_in

BATCH = 512

ANSWER_COLUMNS = ("answer", "pred")
SOLUTION_COLUMNS = ("solution", "gold")
KINDS = ("", "math", "choice", "exact")


JudgeAll = Callable[[Iterable[Sequence[Case]]], Iterator[list[Judgement]]]
"""Judgements of batches of cases, in their order."""


def grade_file(path: Path, out: TextIO, judge_all: JudgeAll | None = None) -> Counter[str]:
    """Write each row back as a JSON line with `verdict` and `evidence`; count the verdicts.

    A row holds `solution` (or `gold`), `answer` (or `pred`), perhaps `kind`, `question` and `aliases`, further
    references any of which is right. Batches are drawn as
    `judge_all` takes them; None: they are judged in this process. Raises InputError naming the line of the first row
    that does not.
    """
    counts: Counter[str] = Counter()
    taken: deque[list[dict[str, Any]]] = deque()

    def batches() -> Iterator[list[Case]]:
        rows = read_rows_of(path)
        while batch := list(islice(rows, BATCH)):
            read = [_case(raw) for raw in batch]
            taken.append([row for row, _ in read])
            yield [case for _, case in read]

    judged_batches = judge_all(batches()) if judge_all is not None else map(load_grader().grade, batches())
    for judgements in judged_batches:
        for row, judged in zip(taken.popleft(), judgements, strict=True):
            counts[judged.verdict] += 1
            graded = row | {"verdict": judged.verdict, "evidence": judged.evidence}
            out.write(json.dumps(graded, ensure_ascii=False, default=str) + "\n")
    return counts


def _case(raw: RawRow) -> tuple[dict[str, Any], Case]:
    row = raw.row
    if row is None:
        raise InputError(raw.complaint, where=raw.where, fix="Correct or delete the line.")
    answer, solution = (_field(raw.where, row, columns) for columns in (ANSWER_COLUMNS, SOLUTION_COLUMNS))
    kind = row.get("kind") or ""
    if kind not in KINDS:
        raise InputError(f"kind is {kind!r}", where=raw.where, fix="Known: math, choice, exact.")
    return row, Case(answer, solution, kind, str(row.get("question") or ""), _aliases(raw.where, row))


def _aliases(where: str, row: dict[str, Any]) -> tuple[str, ...]:
    """The further references of a row."""
    try:
        return tuple(aliases_in(row.get("aliases")))
    except InputError as error:
        raise InputError(error.what, where=where, fix=error.fix) from error


def _field(where: str, row: dict[str, Any], columns: tuple[str, ...]) -> str:
    if "segments" in row and columns == ANSWER_COLUMNS:
        segments = row["segments"] or []
        return "".join(s["text"] for s in segments if s["kind"] in ("closing_phrase", "answer"))
    for column in columns:
        if column in row and row[column] is not None:
            return str(row[column])
    raise InputError(
        f"the row has no {columns[0]}; its columns are {', '.join(row) or 'none'}",
        where=where,
        fix=f"Call the column {' or '.join(columns)}.",
    )
