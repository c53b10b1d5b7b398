"""Several servers of one model: the least busy is asked, a dead one is left out for a while."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from s1kit.providers.chat import Problem
from s1kit.providers.http import Answer, Http

FIRST_SECONDS_OUT = 2.0
"""How long a server that cannot be reached is left out; doubled each time, up to a minute."""
MAX_SECONDS_OUT = 60.0
MAX_FAILURES = 3
"""Failures in a row after which a server that can be reached is left out too, while others answer."""


@dataclass(eq=False)
class _Server:
    http: Http
    in_flight: int = 0
    failures: int = 0
    out_until: float = 0.0


class Balance:
    """Sends each request to one of the servers."""

    def __init__(self, servers: Sequence[Http]) -> None:
        self._servers = [_Server(http) for http in servers]

    async def send(self, ask: Callable[[Http], Awaitable[Answer]]) -> Answer:
        """Call `ask` with one of the servers, passing over those that cannot be reached.

        Raises Problem when none can be, and the Problem of the one that was.
        """
        for _ in self._servers[1:]:
            server = self._pick()
            try:
                return await self._ask(server, ask)
            except Problem as problem:
                if problem.kind != "unreachable" or not self._is_another_in(server):
                    raise
        return await self._ask(self._pick(), ask)

    async def _ask(self, server: _Server, ask: Callable[[Http], Awaitable[Answer]]) -> Answer:
        server.in_flight += 1
        try:
            answer = await ask(server.http)
        except Problem as problem:
            if problem.kind in ("unreachable", "connection", "timeout", "server"):
                server.failures += 1
                if problem.kind == "unreachable" or server.failures >= MAX_FAILURES:
                    out = min(MAX_SECONDS_OUT, FIRST_SECONDS_OUT * 2.0 ** (server.failures - 1))
                    server.out_until = time.monotonic() + out
            raise
        finally:
            server.in_flight -= 1
        server.failures, server.out_until = 0, 0.0
        return answer

    def _pick(self) -> _Server:
        if len(self._servers) == 1:
            return self._servers[0]
        now = time.monotonic()
        there = [server for server in self._servers if server.out_until <= now]
        if there:
            return min(there, key=lambda server: server.in_flight)
        return min(self._servers, key=lambda server: server.out_until)

    def _is_another_in(self, server: _Server) -> bool:
        now = time.monotonic()
        return any(other is not server and other.out_until <= now for other in self._servers)
