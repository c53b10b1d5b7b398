"""What engines and running batches offer, and the `generate` loop that engines in this process share.

The running batches of all engines speak alike, with one object for each request that has news in a step:

    batch = engine.running_batch()
    ticket = batch.admit(plan, is_streamed=True)
    while not batch.is_idle:
        for event in batch.step():           # one step for every running request; others join and leave in between
            event.ticket, event.segments, event.generation

A batch also has `cancel(ticket)` and, for a step that raised, `fail(why)`, which settles what is not done.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from s1kit.engines.grammar import check_grammar
from s1kit.errors import InputError
from s1kit.forcing.formats import ThinkingFormat
from s1kit.forcing.plan import Plan, make_plan
from s1kit.forcing.request import OnSegment, Request, Sampling
from s1kit.forcing.token_format import TokenFormat
from s1kit.records import Generation, Segment

ServerFigures = dict[str, dict[str, float]]
"""By URL: requests `done` and `failed`, `tokens`, `seconds` of requests, `seconds_out`."""


@dataclass(frozen=True, slots=True)
class Event:
    """What a step brought for one request: new segments, or its generation."""

    ticket: int
    segments: tuple[Segment, ...] = ()
    """New runs of tokens, for requests admitted with `is_streamed`."""
    generation: Generation | None = None
    """Set when the request is done."""


class RunningBatch(Protocol):
    """Requests that decode together; others join and leave between steps."""

    @property
    def is_idle(self) -> bool:
        """Whether no request is running or waiting."""
        ...

    def admit(self, plan: Plan, is_streamed: bool = False) -> int:
        """Queue a request; returns the ticket that its events carry."""
        ...

    def cancel(self, ticket: int) -> None:
        """Forget a request; a no-op once it is done."""
        ...

    def end_thinking(self, ticket: int) -> None:
        """End a request's thinking at the next token, as a budget spent there does; a no-op once it answers."""
        ...

    def step(self) -> list[Event]:
        """Decode one step of every running request."""
        ...

    def fail(self, why: str) -> list[Event]:
        """Settle every unfinished request after a step raised; each event keeps what was decoded and says why."""
        ...


class PlanningEngine:
    """An engine with a tokenizer of its own: it resolves requests against `tokens` and `context_tokens`."""

    tokens: TokenFormat
    context_tokens: int
    takes_grammar: ClassVar[bool] = False
    """Whether answers can be held to a grammar."""
    measures_answers: ClassVar[bool] = False
    """Whether a generation can say how probable its answer was."""

    @property
    def tokenizer(self) -> Any:
        return self.tokens.tokenizer

    @property
    def format(self) -> ThinkingFormat:
        return self.tokens.format

    @property
    def sampling(self) -> Sampling:
        """The model's own sampling settings: the default where a caller leaves them to the model."""
        return Sampling.of(getattr(self.tokenizer, "generation", {}))

    def plan(self, request: Request) -> Plan:
        """Resolve a request for this engine. Raises InputError when it cannot be honoured."""
        if request.answer_grammar:
            if not self.takes_grammar:
                raise InputError(
                    "this engine cannot hold an answer to a grammar",
                    where="request.answer_grammar",
                    fix="Leave it out, or use the engine hf:.",
                )
            check_grammar(request.answer_grammar)
        if request.measures_answer and not self.measures_answers:
            raise InputError(
                "this engine does not say how probable its answers are",
                where="request.measures_answer",
                fix="Leave it out, or use the engine hf:.",
            )
        return make_plan(request, self.tokens, self.context_tokens)


class BatchEngine(PlanningEngine):
    """An engine that decodes in this process, in a running batch."""

    failures: ClassVar[tuple[type[Exception], ...]] = (RuntimeError,)
    """What a step of the batch may raise; it ends the requests under way, not the caller."""

    def running_batch(self) -> RunningBatch:
        """An empty running batch."""
        raise NotImplementedError

    def batch_for(self, plans: Sequence[Plan]) -> RunningBatch:
        """A running batch of the size that these requests need."""
        return self.running_batch()

    def order(self, plans: Sequence[Plan]) -> Sequence[Plan]:
        """The order in which requests are admitted when none is streamed."""
        return plans

    def step(self, batch: RunningBatch) -> list[Event]:
        """The events of one step of a running batch; when the step fails, an event for every request says so."""
        try:
            return batch.step()
        except self.failures as error:
            return batch.fail(f"{type(error).__name__}: {error}"[:500])

    def generate(self, requests: Iterable[Request], on_segment: OnSegment | None = None) -> Iterator[Generation]:
        """Yields generations as they finish. All requests are checked before any is decoded."""
        plans = [self.plan(request) for request in requests]
        if not plans:
            return
        batch = self.batch_for(plans)
        admitted = plans if on_segment else self.order(plans)
        position = {batch.admit(plan, is_streamed=on_segment is not None): i for i, plan in enumerate(admitted)}
        try:
            while not batch.is_idle:
                for event in self.step(batch):
                    if on_segment is not None:
                        for segment in event.segments:
                            on_segment(position[event.ticket], segment)
                    if event.generation is not None:
                        yield event.generation
        finally:
            # A caller that stops listening leaves nothing running behind.
            for ticket in position:
                batch.cancel(ticket)


def close_engine(engine: Any) -> None:
    """Free what an engine holds (memory, connections, a thread). Engines that hold nothing need not have `close`."""
    if (close := getattr(engine, "close", None)) is not None:
        close()


def lost(ticket: int, generation: Generation, why: str) -> Event:
    """The last event of a request that its engine could not finish: the generation so far, marked as failed."""
    return Event(ticket, generation=generation.model_copy(update={"ending": "failed", "note": why}))


class ServerMeter:
    """Reads the figures of engines shard by shard, so that they can be added up over processes."""

    def __init__(self) -> None:
        self._before: ServerFigures = {}

    def take(self, engines: Iterable[Any]) -> ServerFigures:
        """What was added since the last time."""
        now: ServerFigures = {}
        for engine in engines:
            add_up(now, getattr(engine, "figures", None) or {})
        before, self._before = self._before, now
        return {
            url: {name: round(value - before.get(url, {}).get(name, 0), 1) for name, value in figures.items()}
            for url, figures in now.items()
        }


def add_up(total: ServerFigures, part: ServerFigures) -> None:
    """Add the figures of a part to the total."""
    for url, figures in part.items():
        of_server = total.setdefault(url, {})
        for name, value in figures.items():
            of_server[name] = round(of_server.get(name, 0) + value, 1)
