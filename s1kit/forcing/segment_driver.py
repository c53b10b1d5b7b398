"""The segment-level driver of forcing: a generator that asks for completions and receives segments. It does no I/O.

    steps = drive_segments(plan)
    ask = next(steps)
    while True:
        try:
            ask = steps.send(complete(ask))      # however the caller completes: a server, a thread, an event loop
        except StopIteration as done:
            generation = done.value              # and `show` was called with each segment on the way

Token ids cross the seam, so nothing is tokenised twice and the transcript is that of the token driver.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from s1kit.forcing.plan import Plan
from s1kit.forcing.repetition import first_loop
from s1kit.forcing.transcript import Transcript
from s1kit.records import Generation, Segment


@dataclass(frozen=True, slots=True)
class Complete:
    """One completion to ask a server for: context, limit and stops."""

    context: tuple[int, ...]
    max_tokens: int
    """At least 1; a token that stops counts too."""
    stop_ids: frozenset[int]
    stop_texts: tuple[str, ...]
    """Strings to stop at: a delimiter of several tokens while thinking, the request's own in the answer."""
    request_seed: int
    """Differs from one completion of a request to the next, so that a sampled segment does not repeat its draws."""
    is_thinking: bool = False
    """What is completed: thinking, or the answer. For drivers that show text before the completion is over."""


@dataclass(frozen=True, slots=True)
class Completed:
    """The reply to a `Complete`: ids, and what stopped it."""

    ids: tuple[int, ...]
    """Without the token or the text that stopped it."""
    stop_id: int | None = None
    """The id that stopped it, when one did."""
    stop_text: str | None = None
    """The string that stopped it, when one did. With neither, it ran to `max_tokens`."""
    ends_thinking: bool = False
    """Whether the caller cut it here to end thinking as a budget spent there does."""


Steps = Generator[Complete, Completed, Generation]


def drive_segments(plan: Plan, show: Callable[[Segment], None] | None = None) -> Steps:
    """Drive one request: yields what to complete, receives what came back, returns the generation.

    Raises ValueError when a reply is longer than was asked for, or neither full nor stopped.
    """
    transcript = Transcript(plan)
    context = list(transcript.begin())
    tokens, request = plan.tokens, plan.request
    num_asked = 0
    while transcript.phase != "done":
        _show(transcript, show)
        is_thinking = transcript.phase == "thinking"
        if is_thinking:
            stop_ids = tokens.thinking_stop_ids
            stop_texts: tuple[str, ...] = () if tokens.trigger_id is not None else (tokens.format.end.rstrip(),)
        else:
            reopen_id = tokens.reopen_id if plan.thinks else None
            stop_ids = tokens.answer_stop_ids | ({reopen_id} if reopen_id is not None else set())
            stop_texts = request.stop
        seed = (request.seed + 7919 * num_asked) % 2**31
        reply = yield Complete(tuple(context), transcript.room, stop_ids, stop_texts, seed, is_thinking)
        num_asked += 1
        _check(reply, transcript.room)
        context += _think(transcript, reply) if is_thinking else _answer(transcript, reply)
    _show(transcript, show)
    return transcript.generation()


def _think(transcript: Transcript, reply: Completed) -> list[int]:
    """Add a completion of thinking to the transcript; returns the ids to append to the context."""
    plan, ids = transcript.plan, reply.ids
    if transcript.guards_against_loops:
        # A stop that came with the reply is later than a loop inside it.
        before = transcript.thinking_ids
        length = first_loop([*before, *ids], len(before), plan.budget.min_tokens, plan.tokens.id_kinds)
        if length is not None:
            ids = ids[: length - len(before)]
    forced = transcript.add_thinking(ids)
    if transcript.phase == "thinking" and reply.ends_thinking:
        forced = transcript.end_thinking()
    elif transcript.phase == "thinking":
        matched = plan.tokens.match_ids if reply.stop_text is not None else ()
        if reply.stop_id is not None and reply.stop_id == plan.tokens.trigger_id:
            matched = (reply.stop_id,)
        forced = transcript.stop_thinking(matched)
    return [*ids, *forced]


def _answer(transcript: Transcript, reply: Completed) -> list[int]:
    """Add a completion of the answer to the transcript; returns the ids to append to the context."""
    plan, ids = transcript.plan, reply.ids
    if transcript.guards_against_loops:
        before = list(transcript.tail)
        length = first_loop([*before, *ids], len(before), 0, plan.tokens.id_kinds)
        if length is not None:
            ids = ids[: length - len(before)]
    transcript.add_answer(ids)
    if transcript.phase == "done":
        return list(ids)
    if plan.thinks and reply.stop_id is not None and reply.stop_id == plan.tokens.reopen_id:
        return [*reply.ids, reply.stop_id, *transcript.reopen()]
    if reply.stop_text is not None:
        transcript.cut_answer()
        return list(reply.ids)
    return [*reply.ids, *transcript.stop_answer()]


def _check(reply: Completed, room: int) -> None:
    if len(reply.ids) > room:
        raise ValueError(f"{len(reply.ids)} tokens came back where at most {room} were asked for.")
    is_explained = reply.stop_id is not None or reply.stop_text is not None or reply.ends_thinking
    if len(reply.ids) < room and not is_explained:
        raise ValueError(f"{len(reply.ids)} of {room} tokens came back, and nothing says why they stopped.")


def _show(transcript: Transcript, show: Callable[[Segment], None] | None) -> None:
    if show is not None:
        for segment in transcript.new_segments():
            show(segment)
