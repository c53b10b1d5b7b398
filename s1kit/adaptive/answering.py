"""Asks an engine under an exit rule, a round a probe: think on to the next point, answer there, leave or go on.

Each round hands back the thinking so far as a prefix, so nothing is thought twice. Minimum, maximum and waits hold
exactly: every round is a request under an ordinary budget.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from s1kit.adaptive.rule import ExitRule
from s1kit.engines import Engine
from s1kit.errors import InputError
from s1kit.forcing import ThinkingBudget
from s1kit.forcing.request import Prefix, Request
from s1kit.grade.equality import group_equal
from s1kit.grade.extract import final_answer
from s1kit.records import Generation, Segment


@dataclass
class ProbedRequest:
    """One question on its way."""

    request: Request
    probes: list[Generation] = field(default_factory=list)
    """What each round gave; the last one is the answer."""

    @property
    def probe_tokens(self) -> int:
        """Answer tokens of all rounds but the last: the price of asking."""
        return sum(probe.answer_tokens for probe in self.probes[:-1])

    @property
    def prefix(self) -> tuple[Segment, ...]:
        """The thinking so far, to be handed back to the engine."""
        return tuple(s for s in self.probes[-1].segments if s.kind in ("thinking", "wait")) if self.probes else ()

    @property
    def run(self) -> int:
        """How many of the last probes agree with the last; 0 where it has no answer."""
        answers = [answer_of(probe) for probe in self.probes]
        if not answers or not answers[-1]:
            return 0
        names = group_equal([a for a in answers if a])
        last = iter(reversed(names))
        count = 0
        for answer in reversed(answers):
            if not answer or next(last) != names[-1]:
                break
            count += 1
        return count


def answer_of(generation: Generation) -> str:
    """The final answer that a generation states; empty for none."""
    found = final_answer(generation.answer)
    return found.text if found is not None else ""


_PRICE = re.compile(r"auto: \d+ probes?, (\d+) answer tokens")


def probe_tokens(note: str) -> int:
    """Answer tokens of earlier probes, as `answer_adaptively` noted them; 0 where it noted none.

    >>> probe_tokens("auto: 3 probes, 24 answer tokens in earlier ones; left after 2 equal answers")
    24
    """
    found = _PRICE.search(note)
    return int(found[1]) if found else 0


def answer_adaptively(
    engine: Engine,
    requests: Sequence[Request],
    rule: ExitRule,
    on_round: Callable[[int, int], None] | None = None,
) -> Iterator[Generation]:
    """One generation a request, in the order of the requests; its note says where thinking was left and what it cost.

    `on_round` is told how many questions are still thinking, and up to which point. Raises InputError on a minimum
    above the rule's largest budget, and for an engine that cannot take thinking back as token ids.
    """
    for asked in _rounds(engine, [ProbedRequest(request) for request in requests], rule, on_round):
        generation, num = asked.probes[-1], len(asked.probes)
        note = f"auto: {num} {'probe' if num == 1 else 'probes'}, {asked.probe_tokens} answer tokens in earlier ones"
        if generation.ending == "cut_off" and generation.thinking_tokens < rule.max_tokens:
            note = f"{note}; left after {rule.stable} equal answers"
        yield generation.model_copy(update={"note": f"{generation.note}; {note}".removeprefix("; ")})


def probe_all(engine: Engine, requests: Sequence[Request], rule: ExitRule) -> list[ProbedRequest]:
    """Every probe of every request, none left early: what a calibration learns from."""
    return _rounds(engine, [ProbedRequest(request) for request in requests], rule, None, leaves=False)


def _rounds(
    engine: Engine,
    asked: list[ProbedRequest],
    rule: ExitRule,
    on_round: Callable[[int, int], None] | None,
    leaves: bool = True,
) -> list[ProbedRequest]:
    minimum = max((a.request.budget.min_tokens for a in asked if a.request.budget is not None), default=0)
    if minimum > rule.max_tokens:
        raise InputError(
            f"the minimum is {minimum}, above the rule's largest budget, which is {rule.max_tokens}",
            where="request.budget.min_tokens",
            fix=f"Give {rule.max_tokens} or less.",
        )
    thinking = list(range(len(asked)))
    for number, point in enumerate(rule.points(minimum)):
        if on_round is not None and thinking:
            on_round(len(thinking), point)
        requests = {str(i): _request(asked[i], point, number, str(i)) for i in thinking}
        for generation in engine.generate(requests.values()) if requests else ():
            one = asked[int(generation.question_id)]
            one.probes.append(generation.model_copy(update={"question_id": one.request.question_id}))
            if generation.seam == "text":
                raise InputError(
                    "this engine exchanges text, and half a thinking cannot be handed back exactly",
                    where="model",
                    fix="Use hf:, vllm:, llama.cpp:, or a completions server that takes token ids.",
                )
        thinking = [i for i in thinking if goes_on(asked[i], rule, leaves)]
    return asked


def _request(asked: ProbedRequest, point: int, number: int, name: str) -> Request:
    request = asked.request
    own = request.budget or ThinkingBudget(point)
    budget = ThinkingBudget(min(own.max_tokens, point), own.min_tokens, own.num_waits)
    prefix = Prefix(asked.prefix) if asked.prefix else None
    # A round must not repeat the random numbers of the one before.
    seed = request.seed + number if request.temperature else request.seed
    return replace(request, budget=budget, prefix=prefix, seed=seed, question_id=name)


def goes_on(asked: ProbedRequest, rule: ExitRule, leaves: bool = True) -> bool:
    """Whether thinking goes on after the last probe; without `leaves` it is left at its own end only."""
    last, own = asked.probes[-1], asked.request.budget
    if last.ending != "cut_off" or (own is not None and last.thinking_tokens >= own.max_tokens):
        return False
    return not (leaves and rule.stable is not None and asked.run >= rule.stable)
