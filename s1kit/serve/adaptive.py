"""Adaptive thinking for one request: an engine decodes in rounds until the exit rule says that the answer is settled.

A round thinks on to the next point and answers there. Thinking is passed on as it comes, since later rounds keep it as
their prefix; an answer is held back until its round is known to be the last.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from s1kit.adaptive.answering import ProbedRequest, may_go_on, next_request, sample_requests
from s1kit.adaptive.rule import ExitRule
from s1kit.forcing.plan import Plan
from s1kit.forcing.request import Request
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
        """The part of a delta that has not been shown yet; None where all of it has. Counts the delta."""
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
    own = plan.budget
    asked = ProbedRequest(replace(plan.request, budget=own))
    points = [point for point in rule.points(own.min_tokens) if point < own.max_tokens] + [own.max_tokens]
    sent = _Position()
    for number, point in enumerate(points):
        turn = _as_plan(plan, next_request(asked, rule, point, number, plan.request.question_id))
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
        goes_on = point != points[-1] and not stop.is_asked and news.ending != "failed" and may_go_on(asked)
        if goes_on and rule.agree is not None:
            plans = [_as_plan(plan, request) for request in sample_requests(asked, point, number, rule.agree)]
            asked.samples.append(await asyncio.gather(*(_whole(decode(sample)) for sample in plans)))
        if not goes_on or stop.is_asked or rule.is_settled(asked.evidence):
            probes.answer_tokens += sum(sample.answer_tokens for samples in asked.samples for sample in samples)
            if held:
                yield held
            yield news
            return
        probes.answer_tokens += news.answer_tokens


def _as_plan(plan: Plan, request: Request) -> Plan:
    """The plan of one round or sample."""
    assert request.budget is not None
    prefix = request.prefix.segments if request.prefix is not None else ()
    return replace(plan, request=request, budget=request.budget, prefix=prefix)


async def _whole(stream: AsyncGenerator[list[Delta] | Generation, None]) -> Generation:
    """What a request decodes to, streamed to nobody."""
    async with aclosing(stream) as all_news:
        async for news in all_news:
            if isinstance(news, Generation):
                return news
    raise AssertionError("decoding ends with a generation")
