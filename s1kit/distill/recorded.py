"""The teacher that was asked before: traces from a file, in the shapes that published trace sets have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from s1kit.errors import InputError
from s1kit.forcing.delimiters import split_thinking
from s1kit.providers.terms import terms_of
from s1kit.questions import question_from, read_rows_of
from s1kit.questions.shapes import chat_parts
from s1kit.records import FinishReason, Question, Terms, Trace, from_arrow


class RecordedTeacher:
    """Reads traces from a file instead of asking a model: JSONL, JSON, CSV or Parquet.

    A row is a trace record or a sample, or has a question and one of: `thinking` and `answer`; a reply with
    `<think>` in it (`response`, `output`, `generation`, chat messages); OpenR1's `generations`; the columns of s1K and
    s1K-1.1, where each teacher's trace is a draw. Several traces of one question are its draws, in file order.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError("there is no file of recorded traces", where=str(path), fix="Give recorded:<file>.")
        self._path = path
        self._draws: dict[str, list[Trace]] = defaultdict(list)
        for raw in read_rows_of(path):
            if raw.row is None:
                raise InputError(raw.complaint, where=raw.where, fix="Correct or delete that line.")
            for trace in _traces(raw.row, raw.where, path):
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


_S1K_TERMS: dict[str, Terms] = {
    "gemini": terms_of("chat:gemini/gemini-2.0-flash-thinking-exp").terms,
    "deepseek": terms_of("chat:deepseek/deepseek-reasoner").terms,
}
"""Terms of the two teachers whose traces s1K-1.1 has in columns of their own."""
_THINKING = ("thinking", "reasoning", "reasoning_content", "thinking_trajectories")
_ANSWER = ("answer", "attempt", "response", "content")
_REPLY = ("response", "output", "generation", "completion", "model_output", "answer", "attempt")
_STOPS = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "completed", "finish"})
_LENGTHS = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})


def _traces(row: dict[str, Any], where: str, path: Path) -> Iterator[Trace]:
    if isinstance(row.get("trace"), dict) and "picked_by" in row:
        row = row["trace"]
    try:
        if isinstance(row.get("question"), dict) and "teacher" in row:
            yield _with_terms(from_arrow(Trace, row))
            return
        if isinstance(row.get("question"), dict):
            question = Question(text=row["question"]["text"])
        else:
            question = question_from(_asked(row))
    except (InputError, KeyError, TypeError, ValidationError) as error:
        what = error.what if isinstance(error, InputError) else str(error).splitlines()[0]
        raise InputError(
            f"the row is not a trace: {what}", where=where, fix="A row needs question, thinking and answer."
        ) from error
    for number, (teacher, thinking, answer) in enumerate(_replies(row, path)):
        finish, note = _finish(row, number, thinking, answer)
        trace = Trace(
            question=question,
            teacher=teacher,
            thinking=thinking,
            answer=answer,
            thinking_tokens=len(thinking.split()),
            finish_reason=finish,
            note=note,
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
    dropped = {*_THINKING, *_REPLY, "generations"} - {"answer"}
    kept = {
        key: value
        for key, value in row.items()
        if key not in dropped or (key, "instruction" in row) == ("output", True)
    }
    if isinstance(kept.get("answer"), dict | list):
        del kept["answer"]
    return kept


def _replies(row: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str, str]]:
    """Teacher, thinking and answer of each trace that a row holds."""
    teacher = str(row.get("teacher") or row.get("model") or f"recorded:{path.name}")
    several = [
        (name, str(row[f"{name}_thinking_trajectory"]), str(row.get(f"{name}_attempt") or ""))
        for name in ("deepseek", "gemini")
        if row.get(f"{name}_thinking_trajectory")
    ]
    if several:  # s1K-1.1
        yield from ((f"recorded:{path.name}/{name}", thinking, answer) for name, thinking, answer in several)
        return
    if isinstance(row.get("generations"), list):  # OpenR1
        for text in row["generations"]:
            yield teacher, *_split(str(text))
        return
    if thinking := _first(row, _THINKING):
        yield teacher, thinking, _first(row, _ANSWER)
        return
    for column in ("messages", "conversations", "conversation", "prompt", "completion"):
        parts = chat_parts(row.get(column), column) if column != "completion" else None
        if parts is not None and parts.assistant:
            yield teacher, *_split(parts.assistant)
            return
    reply = _first(row, _REPLY)
    if not reply and isinstance(row.get("completion"), list):  # TRL
        reply = "".join(str(message.get("content", "")) for message in row["completion"])
    yield teacher, *_split(reply)


def _split(text: str) -> tuple[str, str]:
    parsed = split_thinking(text)
    return parsed.thinking, parsed.answer


def _finish(row: Mapping[str, Any], number: int, thinking: str, answer: str) -> tuple[FinishReason, str]:
    """How the reply ended, as the row says, and what a reader must know."""
    given = row.get("finish_reason", row.get("finish_reasons", row.get("stop_reason")))
    if isinstance(given, list):
        given = given[number] if number < len(given) else None
    said = str(given or "").lower()
    if said in _LENGTHS:
        return "length", ""
    if not (thinking and answer):
        if said in get_args(FinishReason) and said != "stop":
            return _as_finish(said), ""
        return "empty", ""
    if said in _STOPS or not said:
        return "stop", ""
    if said in get_args(FinishReason):
        return _as_finish(said), ""
    return "malformed", f"the finish reason {given!r} is not known"


def _as_finish(said: str) -> FinishReason:
    found: FinishReason = next(reason for reason in get_args(FinishReason) if reason == said)
    return found


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> str:
    for name in names:
        value = row.get(name)
        if isinstance(value, list):  # the s1 release keeps its trajectories in lists of one
            value = value[0] if value else ""
        if isinstance(value, str) and value:
            return value
    return ""
