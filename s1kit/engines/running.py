"""What the running batches of all engines say, one object for each request that has news in a step.

    batch = engine.decoder()
    ticket = batch.admit(plan, is_streamed=True)
    while not batch.is_idle:
        for event in batch.step():           # one step for every running request; others join and leave in between
            event.ticket, event.segments, event.generation

A batch also has `cancel(ticket)` and, for a step that raised, `fail(why)`, which settles what is not done.
"""

from __future__ import annotations

from dataclasses import dataclass

from s1kit.records import Generation, Segment


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
