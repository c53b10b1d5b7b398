"""The teachers that cost nothing: the built-in one, published solutions, and replies that are in a file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from s1kit.distill.recorded_replies import RecordedReply, model_of, replies_in, reply_columns
from s1kit.errors import InputError, first_line
from s1kit.grade import reference
from s1kit.grade.form import solution_answer
from s1kit.providers.terms import terms_of
from s1kit.questions import judged_reply, question_from, whole_rows, with_history
from s1kit.records import Question, Terms, Trace, from_arrow


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


def shows_work(solution: str, final: str) -> bool:
    """Whether a solution has more than its final answer: a bare one shows no work to learn from.

    >>> shows_work("Each has 2, and there are 3, so 6.", "6"), shows_work("It is 6.", "6")
    (True, False)
    """
    return len(solution.split()) > len(final.split()) + 3


def stated(final: str) -> str:
    """The answer of a trace whose thinking is a worked solution.

    >>> stated("6")
    'Final Answer: $\\\\boxed{6}$'
    """
    return f"Final Answer: $\\boxed{{{final}}}$"


class SolutionsTeacher:
    """Each question's published solution as its trace: worked solution as thinking, final answer as answer."""

    NOTE = "a published solution, not a model's thinking"

    async def ask(self, question: Question, draw: int) -> Trace:
        solution = question.solution or ""
        final = solution_answer(reference(question) or "")
        has_work = shows_work(solution, final)
        return Trace(
            question=question,
            teacher="solutions",
            thinking=solution if has_work else "",
            answer=stated(final) if final else "",
            thinking_tokens=len(solution.split()) if has_work else 0,
            finish_reason="stop" if has_work and final else "empty",
            terms="permits",
            draw=draw,
            note=self.NOTE if has_work else "the source publishes no worked solution",
        )


class RecordedTeacher:
    """Reads traces from a file instead of asking a model: JSONL, JSON, CSV or Parquet.

    A row is a trace record or a sample, or holds a question and replies in any of the shapes of `recorded_replies`.
    Several traces of one question are its draws, in file order.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draws: dict[str, list[Trace]] = defaultdict(list)
        for trace in recorded_traces(path):
            self._draws[trace.question.id].append(trace)

    async def ask(self, question: Question, draw: int) -> Trace:
        """The recorded draw of that number; a trace that failed where the file holds fewer."""
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


def recorded_traces(path: Path) -> Iterator[Trace]:
    """The traces of a file, in its order. Raises InputError for a file that is not there and for a row without one."""
    if not path.is_file():
        raise InputError("there is no file of recorded traces", where=str(path), fix="Give recorded:<file>.")
    for row, where in whole_rows(path):
        yield from _traces(row, where, path)


_S1K_TERMS: dict[str, Terms] = {
    "gemini": terms_of("chat:gemini/gemini-2.0-flash-thinking-exp").terms,
    "deepseek": terms_of("chat:deepseek/deepseek-reasoner").terms,
}
"""Terms of the two teachers whose traces s1K-1.1 has in columns of their own."""


def _traces(row: dict[str, Any], where: str, path: Path) -> Iterator[Trace]:
    if isinstance(row.get("trace"), dict) and "picked_by" in row:
        row = row["trace"]
    judged, columns = None, row
    try:
        if isinstance(row.get("question"), dict) and "teacher" in row:
            yield _with_terms(from_arrow(Trace, row))
            return
        if isinstance(row.get("question"), dict):
            question = Question(text=row["question"]["text"])
        else:
            judged = judged_reply(row)
            row = judged.row if judged else row
            row = with_history(row) or row
            question = question_from(_asked(row))
    except (InputError, KeyError, TypeError, ValidationError) as error:
        what = error.what if isinstance(error, InputError) else first_line(error)
        raise InputError(
            f"the row is not a trace: {what}", where=where, fix="A row needs question, thinking and answer."
        ) from error
    replies = replies_in(row)
    if not replies and judged is not None and judged.without:
        replies = [RecordedReply("", "", "failed", judged.without)]
    if not replies and any(row[column] is None for column in reply_columns(row)):
        # What failed is kept in its place as an empty reply, as distilabel does.
        replies = [RecordedReply("", "", "failed", "the row's reply is null")]
    if not replies:
        raise InputError(
            f"the row holds no reply; its columns are {', '.join(map(str, columns))}",
            where=where,
            fix="Give columns called thinking and answer, or a reply with its <think> in a column response.",
        )
    teacher = model_of(row) or f"recorded:{path.name}"
    for reply in replies:
        trace = Trace(
            question=question,
            teacher=f"recorded:{path.name}/{reply.name}" if reply.name else teacher,
            thinking=reply.thinking,
            answer=reply.answer,
            thinking_tokens=len(reply.thinking.split()),
            finish_reason=reply.finish,
            note=reply.note,
        )
        yield _with_terms(trace)


def _with_terms(trace: Trace) -> Trace:
    """The trace with its teacher's terms, where the row does not say and the ledger knows the teacher's name."""
    if trace.terms != "unknown":
        return trace
    name = trace.teacher.rpartition("/")[2] if trace.teacher.startswith("recorded:") else trace.teacher
    return trace.model_copy(update={"terms": _S1K_TERMS.get(name) or terms_of(name).terms})


def _asked(row: Mapping[str, Any]) -> dict[str, Any]:
    """The question alone: what was replied is no reference."""
    dropped = reply_columns(row)
    kept = {key: value for key, value in row.items() if key not in dropped}
    if isinstance(kept.get("answer"), dict | list):
        del kept["answer"]
    return kept
