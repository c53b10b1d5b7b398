"""One request from its plan to its generation, decoded by a completions server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from s1kit.completions.capabilities import Capabilities
from s1kit.completions.client import CompletionsServer
from s1kit.completions.failure import ServerFailed
from s1kit.completions.protocol import CompletionRun, CompletionSettings, Piece
from s1kit.forcing.plan import Plan
from s1kit.forcing.segment_driver import Completed, drive_segments
from s1kit.records import Generation, Segment

_LONGEST_DELAY = 60.0
"""Seconds; a server may ask for more in `Retry-After`."""


def _never() -> bool:
    return False


async def decode(
    server: CompletionsServer,
    capabilities: Capabilities,
    model: str,
    plan: Plan,
    settings: CompletionSettings,
    *,
    in_events: bool = True,
    retry_after: Sequence[float] = (),
    ends_thinking: Callable[[], bool] = _never,
) -> AsyncGenerator[Piece | Generation, None]:
    """Yields the pieces of a transcript as they come, then its generation. Closing the iterator ends the work.

    `in_events`: False asks for each completion in one piece. `retry_after`: seconds to wait before each further try of
    a completion that failed for a transient reason before it brought anything. `ends_thinking`: asked while the model
    thinks, after each chunk; once True, thinking ends there as a budget spent there does. Raises ServerFailed.
    """
    shown: list[Segment] = []
    thinking_ids: list[int] = []
    steps = drive_segments(plan, show=shown.append)
    reply: Completed | None = None
    generation: Generation | None = None
    while generation is None:
        try:
            ask = next(steps) if reply is None else steps.send(reply)
        except StopIteration as done:
            generation = done.value.model_copy(update={"seam": capabilities.seam})
        except ValueError as error:
            raise ServerFailed("nonsense", f"the server {server.url} sent what was not asked for: {error}") from error
        for piece in _forced(shown):
            yield piece
        if generation is None:
            thinking_ids += [i for s in shown if s.kind in ("thinking", "wait") for i in s.token_ids]
            shown.clear()
            run = CompletionRun(capabilities, model, plan, ask, thinking_ids, settings)
            is_over = ends_thinking if ask.is_thinking else _never
            if is_over():
                run.end_thinking()
            async with aclosing(_complete(server, run, in_events, retry_after, is_over)) as pieces:
                async for piece in pieces:
                    yield piece
            reply = run.completed()
    yield generation


async def _complete(
    server: CompletionsServer,
    run: CompletionRun,
    in_events: bool,
    retry_after: Sequence[float],
    ends_thinking: Callable[[], bool],
) -> AsyncGenerator[Piece, None]:
    """Asks the server until one completion is over, and yields its pieces. The arguments are those of `decode`."""
    delays = iter(retry_after)
    while not run.is_over:
        has_begun = False
        try:
            async with aclosing(server.stream(run.body(), in_events)) as chunks:
                async for chunk in chunks:
                    has_begun = True
                    piece = run.feed(chunk)
                    if piece.text or piece.ids:
                        yield piece
                    if not run.is_over and ends_thinking():
                        yield run.end_thinking()
                    if run.is_over:
                        break
        except ServerFailed as failure:
            if has_begun or not failure.is_transient or (delay := next(delays, None)) is None:
                raise server.named(failure) from failure.__cause__
            await asyncio.sleep(min(failure.retry_seconds or delay, _LONGEST_DELAY))


def _forced(shown: Sequence[Segment]) -> list[Piece]:
    """What was not sampled in a completion: insertions and delimiters."""
    return [
        Piece(s.kind, s.origin, s.text, s.token_ids)
        for s in shown
        if s.origin == "forced" or s.kind in ("open", "close")
    ]
