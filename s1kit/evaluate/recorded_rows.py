"""One row of a file as a generation: which column says what, and what an unusual value means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import nan
from typing import Any, NamedTuple

from s1kit.analysis.results import NO_COUNT, RECORDED
from s1kit.errors import InputError
from s1kit.evaluate.published_outputs import ENDS, STARTS, TEXT_COLUMNS, generation_of
from s1kit.evaluate.recorded_shapes import QUESTION_COLUMNS, VERDICTS, flat_row
from s1kit.records import Generation, Question, Segment, Setting, Verdict, from_arrow

FIELDS: dict[str, tuple[str, ...]] = {
    "question": QUESTION_COLUMNS,
    "solution": ("gold", "target", "reference", "ground_truth", "expected_answer", "gts", "answer", "solution"),
    "output": TEXT_COLUMNS,
    "thinking": ("thinking", "reasoning", "reasoning_content"),
    "final_answer": (
        "final_answer",
        "extracted",
        "extracted_answer",
        "predicted_answer",
        "prediction",
        "predicted",
        "pred",
    ),
    "correct": ("correct", "is_correct", "verdict", "symbolic_correct"),
    "thinking_tokens": (
        "thinking_tokens",
        "reasoning_tokens",
        "tokens",
        "num_tokens",
        "completion_tokens",
        "num_generated_tokens",
    ),
    "cut_off": ("cut_off", "was_cut_off", "truncated", "hit_max"),
    "error": ("error",),
    "model": ("model",),
    "benchmark": ("benchmark", "dataset", "task"),
    "max_tokens": ("max_tokens_thinking", "thinking_token_budget", "thinking_budget", "budget", "max_thinking_tokens"),
    "min_tokens": ("min_thinking_tokens",),
    "num_waits": ("num_waits", "waits", "num_ignore", "thinking_n_ignore"),
    "wait": ("wait", "thinking_n_ignore_str"),
    "temperature": ("temperature",),
    "mean_logprob": ("mean_logprob", "avg_logprob", "average_logprob"),
    "sum_logprob": ("cumulative_logprob", "sum_logprob", "total_logprob"),
    "logprobs": ("logprobs", "token_logprobs"),
    "token_ids": ("token_ids", "output_token_ids"),
    "output_tokens": ("completion_tokens", "output_tokens", "num_output_tokens"),
}
"""What a row may say, and the columns in which it is looked for."""

SETTING_FIELDS = ("max_tokens", "min_tokens", "num_waits", "wait", "temperature")


class Recorded(NamedTuple):
    """One generation with its question and the model that made it."""

    model: str
    question: Question
    generation: Generation
    limit: int | None = None
    """What the row calls `max_tokens` where nothing states its thinking budget; perhaps the limit of an output."""
    states_budget: bool = True
    """Whether the row states its thinking budget, also that there is none."""


def recorded(
    row: Mapping[str, Any],
    where: str,
    of_file: Mapping[str, str],
    columns: Mapping[str, str],
    known: dict[str, Question],
) -> Iterator[Recorded]:
    """The generations of one row: several where a row holds several draws."""
    if "segments" in row and "ending" in row:
        generation = from_arrow(Generation, dict(row))
        question = known.get(generation.question_id) or Question(text=generation.question_id)
        yield Recorded("", question, generation.model_copy(update={"question_id": question.id}))
        return
    row, texts = flat_row(row)
    said = {field: _value(row, field, columns) for field in FIELDS} | dict(of_file)
    question = _question(said, row, where)
    setting = _setting(said, where)
    for text in texts:
        made = _generation(said, row, text, question.id, setting, where)
        stated = said["max_tokens"] is not None
        yield Recorded(str(said["model"] or ""), question, made, None if stated else _limit(row), stated)


def _value(row: Mapping[str, Any], field: str, columns: Mapping[str, str]) -> Any:
    """A field's value from the column named for it, or from the first usual one that has any; None without.

    An output that is there and empty is an empty text: the model gave no answer.
    """
    if field in columns:
        parts = [row.get(column.strip()) for column in columns[field].split(",")]
        return parts[0] if len(parts) == 1 else " ".join(str(part) for part in parts)
    candidates = FIELDS[field]
    if _is_answer_own(row):
        candidates = (*candidates, "answer") if field == "output" else tuple(c for c in candidates if c != "answer")
    nothing = "" if field == "output" and any(row.get(column) == "" for column in candidates) else None
    return next((row[column] for column in candidates if row.get(column) not in (None, "")), nothing)


def _is_answer_own(row: Mapping[str, Any]) -> bool:
    """Whether `answer` is the model's: no column of outputs, but its thinking or another reference stands beside it."""
    if any(row.get(column) is not None for column in FIELDS["output"]):
        return False
    others = (c for c in ("thinking", *FIELDS["solution"]) if c != "answer")
    return any(row.get(column) not in (None, "") for column in others)


def _question(said: Mapping[str, Any], row: Mapping[str, Any], where: str) -> Question:
    if said["question"] is None:
        fix = f"Name its column: --column question=NAME. The columns are {', '.join(row)}."
        raise InputError("the row has no question", where=where, fix=fix)
    name = str(said["benchmark"] or "")
    solution = said["solution"]
    metadata = {"benchmark": name} if name else {}
    return Question(
        text=str(said["question"]), solution=None if solution is None else str(solution), source=name, metadata=metadata
    )


def _limit(row: Mapping[str, Any]) -> int | None:
    found = row.get("max_tokens")
    try:
        return None if isinstance(found, bool) or found is None else int(float(found))
    except (TypeError, ValueError, OverflowError):
        return None


def _setting(said: Mapping[str, Any], where: str) -> Setting:
    values: dict[str, Any] = {name: said[name] for name in SETTING_FIELDS if said[name] not in (None, "")}
    for name in ("max_tokens", "min_tokens", "num_waits", "temperature"):
        if name in values:
            values[name] = _number(values[name], name, where)
    if values.get("max_tokens", 0) < 0:
        del values["max_tokens"]  # -1 is no limit
    if not values.get("num_waits"):
        values.pop("wait", None)
    return Setting(**values)


def _number(value: Any, name: str, where: str) -> float:
    """A count, or a temperature; -1 only as a budget, where it is no limit. Raises InputError for anything else."""
    try:
        number = float(value)
        is_whole = number == int(number)
    except (TypeError, ValueError, OverflowError):
        number, is_whole = nan, False
    if (is_whole or name == "temperature") and number >= (-1 if name == "max_tokens" else 0):
        return number if name == "temperature" else int(number)
    fix = f"Give a number from 0, or name another column: --column {name}=NAME."
    raise InputError(f"{name} is {value!r}", where=where, fix=fix)


def _generation(
    said: Mapping[str, Any], row: Mapping[str, Any], text: str | None, question: str, setting: Setting, where: str
) -> Generation:
    counted = said["thinking_tokens"]
    tokens = int(_number(counted, "thinking_tokens", where)) if counted is not None else None
    is_seen = True
    if text is None:
        output, thinking = said["output"], said["thinking"]
        if not output and said["correct"] is None:  # a bare answer, which is all there is to judge
            output = said["final_answer"]
        if thinking is not None:
            text = f"{STARTS[0]}{thinking}{ENDS[0]}{'' if output is None else output}"
        else:
            text, is_seen = "" if output is None else str(output), output is not None
    made = generation_of(text, question, setting, 0, {"thinking_tokens": tokens} if tokens is not None else {})
    if tokens is not None and not any(s.kind == "thinking" for s in made.segments):
        part = Segment(origin="sampled", kind="thinking", text="", num_tokens=tokens)
        made = made.model_copy(update={"segments": (part, *made.segments)})
    if not is_seen:  # there is a verdict at most: whether there was an answer is not known
        note = "" if tokens is not None else NO_COUNT
        made = made.model_copy(update={"segments": [s for s in made.segments if s.kind != "answer"], "note": note})
    verdict = _verdict(said["correct"], where)
    final = said["final_answer"]
    is_cut = str(said["cut_off"]).lower() in ("true", "1")
    return made.model_copy(
        update={
            "verdict": verdict,
            "evidence": RECORDED if verdict else "",
            "final_answer": "" if final is None else str(final),
            "ending": "failed" if said["error"] else "cut_off" if is_cut else made.ending,
            "mean_logprob": _mean_logprob(said, where),
            "note": str(said["error"]).splitlines()[0][:200] if said["error"] else made.note,
        }
    )


def _mean_logprob(said: Mapping[str, Any], where: str) -> float | None:
    """The mean log-probability of a draw's tokens, from the mean, the tokens' own, or a sum and a count.

    Read are lists of numbers, the lists of OpenAI's chat (`content`) and completions (`token_logprobs`), and vLLM's
    `cumulative_logprob` beside `token_ids`. A sum without a count is no mean, and says nothing here.
    """
    try:
        if said["mean_logprob"] is not None:
            return float(said["mean_logprob"])
        found = said["logprobs"]
        if isinstance(found, Mapping):
            found = found.get("content") or found.get("token_logprobs")
        if isinstance(found, Sequence) and not isinstance(found, str) and found:
            values = [one["logprob"] if isinstance(one, Mapping) else one for one in found]
            known = [float(value) for value in values if value is not None]
            return sum(known) / len(known) if known else None
        num = len(said["token_ids"]) if said["token_ids"] is not None else said["output_tokens"]
        if said["sum_logprob"] is not None and num:
            return float(said["sum_logprob"]) / float(num)
    except (TypeError, ValueError, KeyError) as error:
        fix = "Give numbers, or name another column: --column mean_logprob=NAME."
        raise InputError(f"its log-probabilities cannot be read: {error}", where=where, fix=fix) from None
    return None


def _verdict(value: Any, where: str) -> Verdict | None:
    if value is None:
        return None
    if (found := VERDICTS.get(str(value).strip().lower())) is None:
        fix = "Give true or false, or correct, wrong or abstain."
        raise InputError(f"the verdict is {value!r}", where=where, fix=fix)
    return found
