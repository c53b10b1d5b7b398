"""Rejection sampling: draw until the thinking is no longer than a limit (s1 paper, section 5.2).

All limits of a question look at the same draws, so the longest wait is paid once. A draw longer than the largest limit
is broken off there: it would be rejected anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from s1kit.engines import Engine
from s1kit.forcing import ThinkingBudget
from s1kit.forcing.request import Request
from s1kit.records import Generation, Question, Setting


@dataclass
class _Open:
    """A question whose limits are not all met."""

    question: Question
    limits: dict[int, Setting]
    spent: int = 0
    last: Generation | None = field(default=None)


def sample_until_short(
    engine: Engine,
    wanted: Iterable[tuple[Question, Setting]],
    *,
    tries: int,
    answer_tokens: int,
    seed_of: Callable[[str, int], int],
) -> list[Generation]:
    """One generation a question and limit: the first draw within it, with its price in `note`.

    Where no draw fits, the generation has failed and says so: it counts as wrong, not as a longer one.
    """
    waiting: dict[str, _Open] = {}
    for question, setting in wanted:
        entry = waiting.setdefault(question.id, _Open(question, {}))
        entry.limits[setting.max_tokens or 0] = setting
    done: list[Generation] = []
    for attempt in range(tries):
        still = [entry for entry in waiting.values() if entry.limits]
        if not still:
            break
        requests = [_request(entry, attempt, answer_tokens, seed_of) for entry in still]
        for generation in engine.generate(requests):
            done += _accept(waiting[generation.question_id], generation, attempt)
    for entry in waiting.values():
        done += [_none_fits(entry, setting, tries) for setting in entry.limits.values()]
    return done


def _request(entry: _Open, attempt: int, answer_tokens: int, seed_of: Callable[[str, int], int]) -> Request:
    setting = next(iter(entry.limits.values()))
    return Request(
        question=entry.question.text,
        budget=ThinkingBudget(max(entry.limits)),
        answer_tokens=answer_tokens,
        temperature=setting.temperature,
        seed=seed_of(entry.question.id, attempt),
        question_id=entry.question.id,
        setting=setting,
    )


def _accept(entry: _Open, generation: Generation, attempt: int) -> list[Generation]:
    entry.spent += generation.thinking_tokens
    entry.last = generation
    if generation.ending != "closed":
        return []
    met = [limit for limit in entry.limits if generation.thinking_tokens <= limit]
    note = f"draw {attempt + 1}, {entry.spent} thinking tokens in all"
    return [generation.model_copy(update={"setting": entry.limits.pop(limit), "note": note}) for limit in met]


def _none_fits(entry: _Open, setting: Setting, tries: int) -> Generation:
    note = f"none of {tries} draws fits, {entry.spent} thinking tokens in all"
    return Generation(question_id=entry.question.id, setting=setting, ending="failed", note=note, answer_finish="none")
