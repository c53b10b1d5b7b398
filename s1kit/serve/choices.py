"""Decodes the choices of one request: each waits for a place, and its deltas become the reply or its events."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import aclosing
from typing import Literal

from s1kit.concurrency import in_parallel
from s1kit.serve.decoding import Delta, End, Job, thinking_part
from s1kit.serve.http import EventStream
from s1kit.serve.messages_reply import MessagesReply
from s1kit.serve.replies import Choice, HttpReply
from s1kit.serve.responses_reply import ResponsesReply
from s1kit.serve.state import Server

AnyReply = HttpReply | MessagesReply | ResponsesReply


class RequestDecoder:
    """Decodes the choices of one request, whole or into a stream."""

    def __init__(self, server: Server, reply: AnyReply, started: float) -> None:
        """`started`: when the request came, as `time.monotonic` has it."""
        self._server, self._reply, self._started = server, reply, started
        self._saw_thinking = self._saw_answer = False

    async def run(self, jobs: Sequence[Job], stream: EventStream | None = None) -> None:
        """Decode all choices; events are sent as they come where a stream is given. The first failure ends all."""
        choices = zip(jobs, self._reply.choices, strict=True)
        await in_parallel([self._decode(job, choice, stream) for job, choice in choices])

    async def _decode(self, job: Job, choice: Choice, stream: EventStream | None) -> None:
        async with self._server.admission.place(), aclosing(self._server.backend.decode(job)) as news:
            async for new in news:
                end: End | None = None
                event = ""
                if isinstance(new, End):
                    end = new if job.has_answer else self._early_end(job, choice, "length")
                else:
                    event, end = self._take(job, choice, new, stream is not None)
                if not self._saw_answer:
                    self._note_first(choice)
                if end is not None:
                    event += self._finish(choice, end, stream is not None)
                if stream is not None and event:
                    await stream.send(event.encode())
                if end is not None:
                    # Leaving the loop ends what the backend still does for this job.
                    return

    def _take(self, job: Job, choice: Choice, deltas: list[Delta], is_streamed: bool) -> tuple[str, End | None]:
        """Account for deltas; their events, and the end where the reply needs no more than these."""
        is_over = False
        if not job.has_answer:
            deltas, is_over = thinking_part(deltas)
        event = ""
        for delta in deltas:
            if is_streamed:
                event += self._reply.chunk(choice, delta)
            else:
                choice.take(delta)
        if is_over:
            return event, self._early_end(job, choice, "length")
        return event, self._early_end(job, choice, "stop") if choice.wants_one_call and choice.is_over else None

    def _early_end(self, job: Job, choice: Choice, finish: Literal["stop", "length"]) -> End:
        """The end of a reply that is complete before the backend says so."""
        if not job.plan.thinks:
            return End(None, finish)
        is_spent = job.stop.is_asked or choice.tally.thinking_tokens >= job.plan.budget.max_tokens
        seam: Literal["ids", "text"] = getattr(self._server.backend, "seam", "ids")
        return End("cut_off" if is_spent else "closed", finish, seam)

    def _finish(self, choice: Choice, end: End, is_streamed: bool) -> str:
        event = ""
        if is_streamed:
            event = self._reply.last_chunk(choice, end)
        else:
            choice.finish(end)
        self._server.metrics.count_choice(choice.tally)
        return event

    def _note_first(self, choice: Choice) -> None:
        if not self._saw_thinking and choice.tally.thinking_tokens:
            self._saw_thinking = True
            self._server.metrics.first_thinking.observe(time.monotonic() - self._started)
        if not self._saw_answer and choice.tally.answer_tokens:
            self._saw_answer = True
            self._server.metrics.first_answer.observe(time.monotonic() - self._started)
