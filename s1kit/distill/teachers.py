"""The teachers that cost nothing: the built-in one, a file of recorded traces, and published solutions."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from s1kit.errors import InputError
from s1kit.grade import reference
from s1kit.grade.cascade import solution_answer
from s1kit.records import Question, Trace, Usage, from_arrow


class TinyTeacher:
    """The teacher that ships with s1kit, for the questions that ship with it."""

    async def ask(self, question: Question, draw: int) -> Trace:
        from s1kit.tiny.teacher import write_trace

        written = write_trace(question, draw)
        return Trace(
            question=question,
            teacher="tiny",
            thinking=written.thinking,
            answer=written.answer,
            thinking_tokens=len(written.thinking.split()),
            finish_reason=written.finish_reason,
            terms="permits",
            draw=draw,
        )


class SolutionsTeacher:
    """Each question's published solution as its trace: worked solution as thinking, final answer as answer."""

    NOTE = "a published solution, not a model's thinking"

    async def ask(self, question: Question, draw: int) -> Trace:
        solution = question.solution or ""
        final = solution_answer(reference(question) or "")
        # A bare final answer shows no work to learn from.
        has_work = len(solution.split()) > len(final.split()) + 3
        return Trace(
            question=question,
            teacher="solutions",
            thinking=solution if has_work else "",
            answer=f"Final Answer: $\\boxed{{{final}}}$" if final else "",
            thinking_tokens=len(solution.split()) if has_work else 0,
            finish_reason="stop" if has_work and final else "empty",
            draw=draw,
            note=self.NOTE if has_work else "the source publishes no worked solution",
        )


class RecordedTeacher:
    """Traces that were written down before: JSONL (also .gz) or Parquet.

    A row is a trace record, or has a question (its text, or a question record), `thinking` and `answer`; the s1
    release's own column names are understood too. Several rows of one question are its draws, in file order.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError("there is no file of recorded traces", where=str(path), fix="Give recorded:<file>.")
        self._path = path
        self._draws: dict[str, list[Trace]] = defaultdict(list)
        for where, row in _read(path):
            trace = _trace(row, where, path)
            self._draws[trace.question.id].append(trace)

    async def ask(self, question: Question, draw: int) -> Trace:
        recorded = self._draws.get(question.id, [])
        if draw < len(recorded):
            return recorded[draw].model_copy(update={"question": question, "draw": draw})
        return Trace(
            question=question,
            teacher=f"recorded:{self._path.name}",
            thinking="",
            answer="",
            thinking_tokens=0,
            finish_reason="failed",
            draw=draw,
            note=f"{self._path.name} holds {len(recorded)} traces of this question",
        )


def _read(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}: row {number}", row
        return
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise InputError(f"not JSON: {error}", where=f"{path}:{number}", fix="Mend that line.") from error
                yield f"{path}:{number}", row


_THINKING = ("thinking", "reasoning", "reasoning_content", "deepseek_thinking_trajectory", "thinking_trajectories")
_ANSWER = ("answer", "attempt", "response", "deepseek_attempt")


def _trace(row: Any, where: str, path: Path) -> Trace:
    try:
        if isinstance(row, dict) and isinstance(row.get("question"), dict) and "teacher" in row:
            return from_arrow(Trace, row)
        question = row["question"]
        text = question["text"] if isinstance(question, dict) else question
        thinking, answer = _first(row, _THINKING), _first(row, _ANSWER)
        return Trace(
            question=Question(text=text),
            teacher=str(row.get("teacher") or f"recorded:{path.name}"),
            thinking=thinking,
            answer=answer,
            thinking_tokens=len(thinking.split()),
            finish_reason="stop" if thinking and answer else "empty",
            usage=Usage(),
        )
    except (KeyError, TypeError, AttributeError, ValidationError) as error:
        raise InputError(
            f"the row is not a trace: {str(error).splitlines()[0]}",
            where=where,
            fix="A row needs question, thinking and answer.",
        ) from error


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> str:
    for name in names:
        value = row.get(name)
        if isinstance(value, list):  # the s1 release keeps its trajectories in lists of one
            value = value[0] if value else ""
        if isinstance(value, str):
            return value
    return ""
