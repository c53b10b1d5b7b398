"""Admission control: how many choices are decoded at once, how many wait, and when 429 is sent. First in, first out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from s1kit.serve.refusals import Refusal


class Admission:
    """At most `max_running` choices are decoded at once; at most `max_waiting` wait; more are refused with 429."""

    def __init__(self, max_running: int, max_waiting: int) -> None:
        self.max_running = max_running
        self.max_waiting = max_waiting
        self.running = 0
        self._admitted = 0
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    @contextmanager
    def admit(self, wanted: int) -> Iterator[None]:
        """Take in a request of `wanted` choices until it is answered.

        Raises Refusal (429, Retry-After in seconds) where they would not even find room to wait.
        """
        places = self.max_running + self.max_waiting
        if wanted > places:
            raise Refusal(
                400, f"{wanted} choices at once, and this server takes {places}. Give a smaller n.", param="n"
            )
        if self._admitted + wanted > places:
            seconds = min(60, 1 + self.waiting // max(self.max_running, 1))
            raise Refusal(
                429,
                f"the server is full: {self.running} choices run and {self.waiting} wait. Try again in {seconds} s.",
                code="server_full",
                headers={"Retry-After": str(seconds)},
            )
        self._admitted += wanted
        try:
            yield
        finally:
            self._admitted -= wanted

    def place(self) -> Place:
        """A place to run, waited for on entry and given back on exit."""
        return Place(self)

    async def _enter(self) -> None:
        if self.running < self.max_running and not self._waiters:
            self.running += 1
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._leave()  # The place was handed over in the same moment: pass it on.
            else:
                self._waiters.remove(waiter)
            raise

    def _leave(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.running -= 1


class Place:
    """The right to decode one choice."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    async def __aenter__(self) -> None:
        await self._admission._enter()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._admission._leave()
