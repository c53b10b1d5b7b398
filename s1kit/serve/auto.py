"""Thinking that is left when its answer is settled, behind one request: rounds of an engine under an exit rule.

A round thinks on to the next point and answers there. Thinking is passed on as it comes, since later rounds keep it as
their prefix; an answer is held back until its round is known to be the last.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from s1kit.adaptive.answering import ProbedRequest, goes_on
from s1kit.adaptive.rule import ExitRule
from s1kit.forcing import ThinkingBudget
from s1kit.forcing.plan import Plan
from s1kit.forcing.request import Prefix
from s1kit.records import Generation
from s1kit.serve.decoding import Delta, Probes, ThinkingStop, thinking_part

Decode = Callable[[Plan], AsyncGenerator[list[Delta] | Generation, None]]
"""One round: deltas, then the generation."""


@dataclass(slots=True)
class _Position:
    """A place in the thinking."""

    tokens: int = 0
    chars: int = 0

    def add(self, deltas: list[Delta]) -> None:
        self.tokens += sum(delta.num_tokens for delta in deltas)
        self.chars += sum(len(delta.text) for delta in deltas)

    def beyond(self, delta: Delta) -> Delta | None:
        """What of a delta lies beyond this place, which comes nearer by the rest; None: nothing."""
        tokens, chars = min(self.tokens, delta.num_tokens), min(self.chars, len(delta.text))
        self.tokens, self.chars = self.tokens - tokens, self.chars - chars
        if tokens == delta.num_tokens and chars == len(delta.text):
            return None if tokens or chars else delta
        return replace(delta, text=delta.text[chars:], num_tokens=delta.num_tokens - tokens)


async def decode_adaptively(
    decode: Decode, plan: Plan, rule: ExitRule, stop: ThinkingStop, probes: Probes
) -> AsyncGenerator[list[Delta] | Generation, None]:
    """The deltas of the whole reply, then its generation; `probes` counts what earlier rounds answered.

    Minimum, maximum and waits of the plan hold, and so does a client's wish to end thinking.
    """
    asked = ProbedRequest(plan.request)
    own = plan.budget
    points = [point for point in rule.points(own.min_tokens) if point < own.max_tokens] + [own.max_tokens]
    sent = _Position()
    for number, point in enumerate(points):
        turn = _round(plan, asked, point, number)
        held: list[Delta] = []
        news: list[Delta] | Generation
        again = replace(sent)  # the engine gives the prefix once more, as the beginning of this round's thinking
        async with aclosing(decode(turn)) as stream:
            async for news in stream:
                if isinstance(news, Generation):
                    break
                thinking, _ = thinking_part(news)
                held += news[len(thinking) :]
                if fresh := [new for delta in thinking if (new := again.beyond(delta)) is not None]:
                    sent.add(fresh)
                    yield fresh
        assert isinstance(news, Generation)
        asked.probes.append(news)
        is_last = point == points[-1] or stop.is_asked or news.ending == "failed" or not goes_on(asked, rule)
        if is_last:
            if held:
                yield held
            yield news
            return
        probes.num_rounds += 1
        probes.answer_tokens += news.answer_tokens


def _round(plan: Plan, asked: ProbedRequest, point: int, number: int) -> Plan:
    own, request = plan.budget, plan.request
    budget = ThinkingBudget(min(own.max_tokens, point), own.min_tokens, own.num_waits)
    prefix = asked.prefix
    # A round must not repeat the random numbers of the one before.
    seed = request.seed + number if request.temperature else request.seed
    request = replace(request, budget=budget, prefix=Prefix(prefix) if prefix else None, seed=seed)
    return replace(plan, request=request, budget=budget, prefix=prefix)
