"""Several servers of one model behind one reference: who takes a request, and who is left out for how long.

A request goes where least is under way; requests with the same prompt go to the same server while it is not much
busier, since it has their prefix in its cache. A server that dies is left out and asked every so often whether it is
back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from s1kit.completions.client import CompletionsServer
from s1kit.completions.discovery import Identity, identify
from s1kit.completions.failure import ServerFailed

_SLACK = 4
"""Requests by which a server may be busier than the idlest one and still get those whose prefix it holds."""
_FIRST_LOOK, _LAST_LOOK = 0.25, 15.0
"""Seconds before a server that is out is asked again; doubled each time, up to the second."""
_KEPT = 4096
"""Prompts whose server is remembered."""


@dataclass
class Member:
    """One server of a farm."""

    server: CompletionsServer
    identity: Identity
    under_way: int = 0
    done: int = 0
    failed: int = 0
    is_out: bool = False

    @property
    def url(self) -> str:
        return self.server.url


@dataclass
class Farm:
    """The servers, and who is where. Used from one event loop."""

    members: Sequence[Member]
    wait_seconds: float = 600.0
    """Longest wait for a server to come back where all are out."""
    capacity: int = 32
    """Most requests under way at one server."""
    say: Callable[[str], None] = lambda _: None
    """Told when a server is left out and when it is back."""
    _homes: dict[Hashable, Member] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a server has room again or is back."""
    _lookers: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def place(self, prefix: Hashable) -> AsyncIterator[Member]:
        """The server for a request with this prefix, counted as under way meanwhile.

        Raises ServerFailed (`down`) when no server has come back in time.
        """
        member = await self._choose(prefix)
        member.under_way += 1
        try:
            yield member
        finally:
            member.under_way -= 1
            self._changed.set()

    async def _choose(self, prefix: Hashable) -> Member:
        while not (free := [m for m in self.members if not m.is_out and m.under_way < self.capacity]):
            self._changed.clear()
            is_anyone_there = any(not m.is_out for m in self.members)
            try:
                async with asyncio.timeout(None if is_anyone_there else self.wait_seconds):
                    await self._changed.wait()
            except TimeoutError as error:
                what = f"none of {len(self.members)} servers came back within {self.wait_seconds:g} s"
                raise ServerFailed("down", what) from error
        idlest = min(free, key=lambda m: m.under_way)
        home = self._homes.get(prefix)
        chosen = home if home in free and home.under_way <= idlest.under_way + _SLACK else idlest
        self._homes.pop(prefix, None)
        self._homes[prefix] = chosen
        if len(self._homes) > _KEPT:
            del self._homes[next(iter(self._homes))]
        return chosen

    def leave_out(self, member: Member, failure: ServerFailed) -> None:
        """Send nothing more to a server that failed, until it answers again as what it was."""
        member.failed += 1
        if member.is_out:
            return
        member.is_out = True
        self._changed.set()
        self.say(f"{member.url} is left out: {failure}")
        task = asyncio.get_running_loop().create_task(self._look_for(member))
        self._lookers.add(task)
        task.add_done_callback(self._lookers.discard)

    async def _look_for(self, member: Member) -> None:
        delay, said = _FIRST_LOOK, ""
        while True:
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LAST_LOOK)
            try:
                found = await identify(member.server, member.identity.model)
            except ServerFailed:
                continue
            difference = member.identity.difference(found) if member.identity.is_listed else ""
            if not difference:
                break
            if difference != said:
                said = difference
                self.say(f"{member.url} stays out: {difference}")
        member.is_out = False
        self._changed.set()
        self.say(f"{member.url} is back")

    def figures(self) -> dict[str, dict[str, int]]:
        """Requests done and failed, by server."""
        return {member.url: {"done": member.done, "failed": member.failed} for member in self.members}

    async def close(self) -> None:
        """Stop looking for servers, and close the connections to all."""
        for task in tuple(self._lookers):
            task.cancel()
        await asyncio.gather(*self._lookers, return_exceptions=True)
        for member in self.members:
            await member.server.close()
