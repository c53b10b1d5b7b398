"""Several servers of one model behind one reference: who takes a request, and who is left out for how long.

A request goes where least is under way; requests with the same prompt go to the same server while it is not much
busier, since it has their prefix in its cache. A server that dies is left out and asked every so often whether it is
back.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Any

from s1kit.completions.client import CompletionsServer
from s1kit.completions.discovery import Identity, identify
from s1kit.completions.failure import ServerFailed

GONE = ("down", "died", "silent", "full")
"""Failures after which a server of several is left out for a while."""
_SLACK = 4
"""Requests by which a server may be busier than the idlest one and still get those whose prefix it holds."""
_FIRST_LOOK, _LAST_LOOK = 0.25, 15.0
"""Seconds before a server that is out is asked again; doubled each time, up to the second."""
_KEPT = 4096
"""Prompts whose server is remembered."""


@dataclass(eq=False)
class Member:
    """One server of a farm."""

    server: CompletionsServer
    identity: Identity
    under_way: int = 0
    done: int = 0
    failed: int = 0
    tokens: int = 0
    """Thinking and answers of its generations."""
    seconds: float = 0.0
    """Its requests took, one after the other."""
    is_out: bool = False
    out_since: float = 0.0
    seconds_out: float = 0.0
    place: int = 0
    """Its position in the farm."""

    listed_as: str = ""
    """Its URL as the list of servers has it."""
    is_gone: bool = False
    """Whether it is on the list no more: what is under way there ends there."""

    @property
    def takes_work(self) -> bool:
        return not (self.is_out or self.is_gone)

    @property
    def url(self) -> str:
        return self.server.url


@dataclass(eq=False)
class _Turn:
    """A request that waits for room."""

    woken: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass
class Farm:
    """The servers and the requests under way at each. Used from one event loop."""

    members: list[Member]
    wait_seconds: float = 600.0
    """Longest wait for a server to come back where all are out."""
    capacity: int = 32
    """Most requests under way at one server."""
    say: Callable[[str], None] = lambda _: None
    """Told when a server is left out and when it is back."""
    on_join: list[Callable[[], None]] = field(default_factory=list)
    """Called when a server has joined, so that there are workers for it."""
    _idlest: list[tuple[int, int, Member]] = field(default_factory=list)
    """Heap of servers by what is under way; an entry whose number no longer holds is skipped."""
    _homes: OrderedDict[Hashable, Member] = field(default_factory=OrderedDict)
    _queue: deque[_Turn] = field(default_factory=deque)
    """Requests that wait for room, in the order in which they came."""
    _is_open: bool = True
    """Whether any server takes work."""
    _loop: asyncio.AbstractEventLoop | None = None
    _lookers: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        for place, member in enumerate(self.members):
            member.place = place
        self._refresh()

    @asynccontextmanager
    async def place(self, prefix: Hashable) -> AsyncIterator[Member]:
        """The server for a request with this prefix, counted as under way meanwhile.

        Raises ServerFailed (`down`) when no server has come back in time.
        """
        member = await self._choose(prefix)
        self._count(member, 1)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            yield member
        finally:
            self._count(member, -1)
            member.seconds += loop.time() - began
            self._wake()

    def _count(self, member: Member, change: int) -> None:
        member.under_way += change
        heappush(self._idlest, (member.under_way, member.place, member))
        if len(self._idlest) > 4 * len(self.members) + 64:  # most of it is out of date
            self._refresh()

    def _refresh(self) -> None:
        self._idlest = [(m.under_way, m.place, m) for m in self.members if m.takes_work]
        heapify(self._idlest)

    def _find_idlest(self) -> Member | None:
        """The available server with the fewest requests in progress; None where none has room."""
        while self._idlest:
            under_way, _, member = self._idlest[0]
            if member.takes_work and member.under_way == under_way:
                return member if under_way < self.capacity else None
            heappop(self._idlest)
        return None

    async def _choose(self, prefix: Hashable) -> Member:
        idlest = None if self._queue else self._find_idlest()
        if idlest is None:
            idlest = await self._wait_for_room()
        home = self._homes.pop(prefix, None)
        is_open = home is not None and home.takes_work and home.under_way < self.capacity
        chosen = home if home and is_open and home.under_way <= idlest.under_way + _SLACK else idlest
        self._homes[prefix] = chosen
        if len(self._homes) > _KEPT:
            self._homes.popitem(last=False)
        return chosen

    async def _wait_for_room(self) -> Member:
        """The idlest server, once it is this request's turn. Raises ServerFailed when none has come back in time."""
        turn = _Turn()
        self._queue.append(turn)
        try:
            while True:
                async with asyncio.timeout(None if self._is_open else self.wait_seconds):
                    await turn.woken
                if (idlest := self._find_idlest()) is not None:
                    return idlest
                turn.woken = asyncio.get_running_loop().create_future()
        except TimeoutError as error:
            what = f"none of {len(self.members)} servers came back within {self.wait_seconds:g} s"
            raise ServerFailed("down", what) from error
        finally:
            self._queue.remove(turn)
            # There may be room for another one, too; and who is cancelled after it was woken must not keep the place.
            asyncio.get_running_loop().call_soon(self._wake)

    def _wake(self, *, everyone: bool = False) -> None:
        """Tell the request that has waited longest, or all of them, to look again."""
        for turn in self._queue if everyone else islice(self._queue, 1):
            if not turn.woken.done():
                turn.woken.set_result(None)

    def _note_change(self) -> None:
        """A server came or went. Where it was the last, or is the first again, all who wait must know."""
        is_open = any(member.takes_work for member in self.members)
        self._wake(everyone=is_open != self._is_open)
        self._is_open = is_open

    def add(self, member: Member) -> None:
        """Add a server to the farm."""
        member.place = len(self.members)
        self.members.append(member)
        self._count(member, 0)
        self._note_change()
        self.say(f"{member.url} joins")
        for joined in self.on_join:
            joined()

    def remove(self, member: Member) -> None:
        """Send nothing more to a server; what is under way there ends there."""
        member.is_gone = True
        self._note_change()
        self.say(f"{member.url} gets no more requests")

    def watch(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the requests until the farm is closed."""
        self._keep(asyncio.get_running_loop().create_task(work))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._lookers.add(task)
        task.add_done_callback(self._lookers.discard)

    def leave_out(self, member: Member, failure: ServerFailed) -> None:
        """Send nothing more to a server that failed, until it answers again as what it was."""
        member.failed += 1
        if member.is_out:
            return
        member.is_out = True
        member.out_since = asyncio.get_running_loop().time()
        self._note_change()
        self.say(f"{member.url} is left out: {failure}")
        self._loop = asyncio.get_running_loop()
        self._keep(self._loop.create_task(self._look_for(member)))

    async def _look_for(self, member: Member) -> None:
        delay, said = _FIRST_LOOK, ""
        while not member.is_gone:
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
        member.seconds_out += asyncio.get_running_loop().time() - member.out_since
        self._count(member, 0)
        self._note_change()
        self.say(f"{member.url} is back")

    def figures(self) -> dict[str, dict[str, float]]:
        """Requests done and failed, tokens, seconds of requests and seconds out, by server."""
        now = self._loop.time() if self._loop is not None else 0.0
        return {
            member.url: {
                "done": member.done,
                "failed": member.failed,
                "tokens": member.tokens,
                "seconds": round(member.seconds, 1),
                "seconds_out": round(member.seconds_out + (now - member.out_since if member.is_out else 0.0), 1),
            }
            for member in self.members
        }

    async def close(self) -> None:
        """Stop looking for servers, and close the connections to all."""
        for task in tuple(self._lookers):
            task.cancel()
        await asyncio.gather(*self._lookers, return_exceptions=True)
        for member in self.members:
            await member.server.close()
