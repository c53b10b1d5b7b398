"""Fills cells (question x setting x repeat) with generations, thinking as little as possible. It does not grade.

For each family of settings that differ only in budget and waits, a question thinks once, under the largest; what the
smaller ones would have thought is replayed, and only answers that nobody gave yet are decoded.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from s1kit.adaptive.answering import answer_adaptively
from s1kit.analysis.settings import (
    AUTO,
    CLASS_CONTROL,
    DIRECT,
    REJECTION,
    STEP_CONTROL,
    TOKEN_CONTROL,
    budget_of,
    families,
    parent_of,
    said,
)
from s1kit.engines import Engine
from s1kit.errors import InputError
from s1kit.evaluate.exit_rules import rule_of
from s1kit.evaluate.rejection import sample_until_short
from s1kit.evaluate.sharing import Replayed, replay
from s1kit.forcing import ThinkingBudget
from s1kit.forcing.request import Request
from s1kit.recipe import Evaluate
from s1kit.records import Generation, Question, Setting

Cell = tuple[Question, Setting, int]
"""Question, setting, repeat."""

OnProgress = Callable[[int], None]
"""Told how many more cells are filled."""


@dataclass(frozen=True)
class Decoding:
    """What is the same for all cells of a run: the seed and the room for answers, in tokens."""

    seed: int
    answer_tokens: int
    rejection_tries: int = 16
    direct_tokens: int = 256
    """Room of an answer without thinking."""


def fill(engine: Engine, cells: Sequence[Cell], how: Decoding, on_progress: OnProgress) -> list[Generation]:
    """A generation for each cell, in the order of the cells."""
    limited = [(question, setting) for question, setting, _ in cells if setting.method == REJECTION]
    generations = _sample_until_short(engine, limited, how)
    on_progress(len(generations))
    generations += _left_when_settled(engine, [cell for cell in cells if cell[1].method == AUTO], how, on_progress)
    settings = dict.fromkeys(setting for _, setting, _ in cells if setting.method not in (REJECTION, AUTO))
    for family in families(settings):
        wanted = [cell for cell in cells if cell[1] in set(family)]
        generations += _named(engine, wanted, parent_of(family), how, on_progress)
    done = {(g.question_id, g.setting, g.repeat): g for g in generations}
    return [done[question.id, setting, repeat] for question, setting, repeat in cells]


def _left_when_settled(
    engine: Engine, cells: Sequence[Cell], how: Decoding, on_progress: OnProgress
) -> Iterator[Generation]:
    for setting in dict.fromkeys(setting for _, setting, _ in cells):
        requests = [_request(question, setting, repeat, how) for question, own, repeat in cells if own == setting]
        yield from answer_adaptively(engine, requests, rule_of(setting))
        on_progress(len(requests))


def _named(
    engine: Engine, cells: Sequence[Cell], parent: Setting, how: Decoding, on_progress: OnProgress
) -> list[Generation]:
    """`_fill_family`, with the name of the setting added to what the engine refuses."""
    try:
        return _fill_family(engine, cells, parent, how, on_progress)
    except InputError as error:
        raise InputError(error.what, where=f"{error.where}, evaluating {said(parent)}", fix=error.fix) from error


def _sample_until_short(engine: Engine, wanted: Sequence[tuple[Question, Setting]], how: Decoding) -> list[Generation]:
    return sample_until_short(
        engine,
        wanted,
        tries=how.rejection_tries,
        answer_tokens=how.answer_tokens,
        seed_of=lambda question_id, attempt: draw_seed(how.seed, question_id, attempt),
    )


def _fill_family(
    engine: Engine, cells: Sequence[Cell], parent: Setting, how: Decoding, on_progress: OnProgress
) -> list[Generation]:
    parents = _think(engine, cells, parent, how, on_progress)
    filled: list[Generation] = []
    asked: dict[object, Request] = {}
    open_cells: list[tuple[Setting, object, Replayed | None]] = []
    for question, setting, repeat in cells:
        whole = parents[question.id, repeat]
        if setting == parent:
            filled.append(whole)
            continue
        replayed = replay(whole, budget_of(setting))
        if replayed is not None and replayed.is_all:
            filled.append(_as_cell(whole, setting, replayed))
            on_progress(1)
            continue
        if whole.seam == "text":
            # Without token ids half of a thinking cannot be handed back exactly: the cell thinks for itself.
            replayed = None
        key = _context(question.id, repeat, setting, replayed)
        if key not in asked:
            asked[key] = _request(question, setting, repeat, how, replayed)
        open_cells.append((setting, key, replayed))
    answers = _answer(engine, asked, Counter(key for _, key, _ in open_cells), on_progress)
    return filled + [_as_cell(answers[key], setting, replayed) for setting, key, replayed in open_cells]


def _think(
    engine: Engine, cells: Sequence[Cell], parent: Setting, how: Decoding, on_progress: OnProgress
) -> dict[tuple[str, int], Generation]:
    """Each question and repeat of the cells under the parent setting, whether or not that is one of the cells."""
    questions = {(question.id, repeat): question for question, _, repeat in cells}
    wanted = {(question.id, repeat) for question, setting, repeat in cells if setting == parent}
    parents: dict[tuple[str, int], Generation] = {}
    for whole in _generate(engine, [_request(q, parent, repeat, how) for (_, repeat), q in questions.items()]):
        key = (whole.question_id, whole.repeat)
        parents[key] = whole
        on_progress(key in wanted)
    return parents


def _answer(
    engine: Engine, asked: dict[object, Request], num_cells: Counter[object], on_progress: OnProgress
) -> dict[object, Generation]:
    """The generations of requests under their keys; `num_cells`: how many cells each of them fills."""
    # Neighbours of similar length waste no padding.
    order = sorted(asked, key=lambda key: _prefix_tokens(asked[key]))
    keys = {(r.question_id, r.repeat, r.setting): key for key, r in asked.items()}
    answers: dict[object, Generation] = {}
    for generation in _generate(engine, [asked[key] for key in order]):
        key = keys[generation.question_id, generation.repeat, generation.setting]
        answers[key] = generation
        on_progress(num_cells[key])
    return answers


def _generate(engine: Engine, requests: Iterable[Request]) -> Iterable[Generation]:
    batch = list(requests)
    return engine.generate(batch) if batch else []


def _request(
    question: Question, setting: Setting, repeat: int, how: Decoding, replayed: Replayed | None = None
) -> Request:
    return Request(
        question=instructed(question.text, setting),
        budget=ThinkingBudget(0) if setting.method == DIRECT else budget_of(setting),
        answer_tokens=how.direct_tokens if setting.method == DIRECT else how.answer_tokens,
        temperature=setting.temperature,
        seed=draw_seed(how.seed, question.id, repeat),
        wait=setting.wait,
        prefix=None if replayed is None else replayed.prefix,
        setting=setting,
        repeat=repeat,
        question_id=question.id,
    )


def draw_seed(seed: int, question_id: str, repeat: int) -> int:
    """The seed of one draw: the same whatever else is asked, below 2**31."""
    text = f"{seed}:{question_id}:{repeat}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def _context(question_id: str, repeat: int, setting: Setting, replayed: Replayed | None) -> object:
    """What the answer depends on: two settings with the same context get the same answer."""
    if replayed is None:
        return (question_id, repeat, setting)
    # All prefixes of one parent: the number of tokens says which it is.
    num = replayed.prefix.num_tokens
    total = sum(s.num_tokens for s in replayed.prefix.segments)
    return (question_id, repeat, total if num is None else num, replayed.prefix.ending)


def _prefix_tokens(request: Request) -> int:
    if request.prefix is None:
        return 0
    if request.prefix.num_tokens is not None:
        return request.prefix.num_tokens
    return sum(s.num_tokens for s in request.prefix.segments)


def _as_cell(generation: Generation, setting: Setting, replayed: Replayed | None) -> Generation:
    ending = generation.ending if replayed is None or generation.ending == "failed" else replayed.ending
    return generation.model_copy(update={"setting": setting, "ending": ending})


CLASSES = {
    "short": "Answer after a short amount of thinking. Do not spend excessive time double-checking your work.",
    "long": "Answer after a long amount of thinking. If you feel like you are finished early, spend the extra time "
    "trying to double-check your work until you are absolutely sure that you have the correct answer.",
}
"""The paper's two prompts."""


def instructed(question: str, setting: Setting) -> str:
    """The question with the setting's request for a length, if it makes one.

    >>> instructed("1 + 1?", Setting(method="token_control", target="64"))
    '1 + 1?\\nThink for up to 64 tokens.'
    """
    if setting.method == TOKEN_CONTROL:
        return f"{question}\nThink for up to {setting.target} tokens."
    if setting.method == STEP_CONTROL:
        return f"{question}\nThink for up to {setting.target} steps."
    if setting.method == CLASS_CONTROL:
        return f"{question}\n{CLASSES[setting.target]}"
    return question


ANSWER_TOKENS = 1024
"""Answers of instruct models to GSM8K and MATH stay below it, all but about one in a hundred."""
_CONTEXT_SHARE = 4
"""One part in so many of a short context is kept for the answer; thinking gets the rest."""


def answer_room(config: Evaluate, context_tokens: int | None) -> int:
    """Tokens kept for the answer after thinking."""
    if config.answer_tokens is not None:
        return config.answer_tokens
    return ANSWER_TOKENS if context_tokens is None else max(1, min(ANSWER_TOKENS, context_tokens // _CONTEXT_SHARE))


def direct_room(config: Evaluate, context_tokens: int | None) -> int:
    """Tokens that an answer without thinking may take: it reasons inside its answer, so it gets the room of both.

    More than the context holds is lowered to what it holds, request by request.
    """
    if config.direct_tokens is not None:
        return config.direct_tokens
    answer = answer_room(config, context_tokens)
    if config.max_tokens:
        return max(config.max_tokens) + answer
    return answer if context_tokens is None else context_tokens
