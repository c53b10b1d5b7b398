"""What every engine is: it checks a request before it decodes anything, and says what came of it in one vocabulary.

The running batches of all engines speak alike, with one object for each request that has news in a step:

    batch = engine.decoder()
    ticket = batch.admit(plan, is_streamed=True)
    while not batch.is_idle:
        for event in batch.step():           # one step for every running request; others join and leave in between
            event.ticket, event.segments, event.generation

A batch also has `cancel(ticket)` and, for a step that raised, `fail(why)`, which settles what is not done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from s1kit.forcing.formats import ThinkingFormat
from s1kit.forcing.plan import Plan, make_plan
from s1kit.forcing.request import Request
from s1kit.forcing.token_format import TokenFormat
from s1kit.records import Generation, Segment

OnSegment = Callable[[int, Segment], None]
"""Called with the request's position in the iterable and the next run of tokens, as soon as they are there."""


class Engine(Protocol):
    """Decodes requests, each under its own budget."""

    def generate(self, requests: Iterable[Request], on_segment: OnSegment | None = None) -> Iterator[Generation]:
        """Yields one generation a request, as they finish. Raises InputError on a request it cannot honour exactly."""
        ...


class Planned:
    """The base of engines that hold `tokens` and `context_tokens`. Knows nothing about decoding."""

    tokens: TokenFormat
    context_tokens: int

    @property
    def tokenizer(self) -> Any:
        return self.tokens.tokenizer

    @property
    def format(self) -> ThinkingFormat:
        return self.tokens.format

    def plan(self, request: Request) -> Plan:
        """The request, resolved; InputError when it cannot be honoured."""
        return make_plan(request, self.tokens, self.context_tokens)


@dataclass(frozen=True, slots=True)
class Event:
    """News of one request."""

    ticket: int
    segments: tuple[Segment, ...] = ()
    """New runs of tokens, for requests admitted with `is_streamed`."""
    generation: Generation | None = None
    """Set when the request is done."""


def lost(ticket: int, generation: Generation, why: str) -> Event:
    """The end of a request that its engine could not finish; it keeps what was decoded."""
    return Event(ticket, generation=generation.model_copy(update={"ending": "failed", "note": why}))
