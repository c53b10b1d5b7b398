"""The scheduler of server farms against simulated engines, in virtual time.

    python bench/cluster.py [REQUESTS] [ENGINES,...] [SLOTS]       e.g. python bench/cluster.py 1000000 1,64,512 32

What runs is the engine's own code: `CompletionsEngine._decode_all`, which hires workers, begins requests again and
leaves servers out, over `Farm`. Only the server behind it is simulated: a request takes as long as its thinking
(lengths are log-normal, their tail heavy), servers die at random, lose what is under way and come back. The clock
jumps from event to event. Utilisation is what slots were busy with requests that ended well, of all slots and
the time from the first request to the last; the tail is the time from when the first slot idles to the end.
"""

from __future__ import annotations

import asyncio
import math
import random
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from virtual_time import run_virtually

from s1kit.completions.discovery import Identity
from s1kit.completions.failure import ServerFailed
from s1kit.completions.farm import Farm, Member
from s1kit.engines.completions.engine import CompletionsEngine, _Elsewhere

SLOTS = 32
SECONDS_A_TOKEN = 0.02
MEAN_TOKENS, SIGMA, MOST_TOKENS = 5000, 1.0, 32000
HOURS_TO_FAILURE, SECONDS_DOWN = 24.0, 300.0


@dataclass
class Server:
    """A simulated server: it knows when it is dead, and answers for its model when it is not."""

    url: str
    draw: random.Random
    is_dead: bool = False
    died: asyncio.Event = field(default_factory=asyncio.Event)

    async def get_json(self, path: str) -> Any:
        if self.is_dead:
            raise ServerFailed("down", "dead")
        return {"data": [{"id": "model", "max_model_len": 40000}]}

    async def close(self) -> None:
        return None

    async def live(self) -> None:
        while True:
            await asyncio.sleep(self.draw.expovariate(1 / (HOURS_TO_FAILURE * 3600)))
            self.is_dead = True
            self.died.set()
            await asyncio.sleep(SECONDS_DOWN)
            self.is_dead, self.died = False, asyncio.Event()


@dataclass
class Ledger:
    """What came of all requests, in seconds of a slot."""

    busy: float = 0.0
    lost: float = 0.0
    begun_again: int = 0


class Simulated(CompletionsEngine):
    """The engine with its server exchanged for a clock."""

    ledger: Ledger

    async def _decode_at(self, member: Member, index: int, plan: Any, news: Any, is_last: bool) -> Any:
        server = cast(Server, member.server)
        seconds, began, loop = plan.seconds, asyncio.get_running_loop().time(), asyncio.get_running_loop()
        if not server.is_dead:
            dies = server.died
            with suppress(TimeoutError):
                # Without a timer of its own for each: the death of a server wakes only its own requests.
                await _until(loop, seconds, dies)
            if not dies.is_set():
                self.ledger.busy += seconds
                member.done += 1
                return None
            self.ledger.lost += loop.time() - began
        self.farm.leave_out(member, ServerFailed("died", "dead"))
        self.ledger.begun_again += 1
        raise _Elsewhere


async def _until(loop: asyncio.AbstractEventLoop, seconds: float, event: asyncio.Event) -> None:
    """Sleep, or return when the event is set."""
    done = loop.create_future()
    handle = loop.call_later(seconds, lambda: done.done() or done.set_result(None))
    waiters = cast(list[Any], event.__dict__.setdefault("sleepers", []))
    waiters.append(done)
    if len(waiters) > 4 * SLOTS:
        event.__dict__["sleepers"] = [w for w in waiters if not w.done()]
    try:
        await done
    finally:
        handle.cancel()


class Bell(asyncio.Event):
    """An event that wakes the sleepers of `_until`."""

    def set(self) -> None:
        super().set()
        for sleeper in self.__dict__.get("sleepers", ()):
            if not sleeper.done():
                sleeper.set_result(None)


class Lengths:
    """Plans one at a time: ten million of them are never in memory together."""

    def __init__(self, num: int, draw: random.Random) -> None:
        self._num, self._draw = num, draw

    def __len__(self) -> int:
        return self._num

    def __iter__(self) -> Any:
        mean = math.log(MEAN_TOKENS) - SIGMA**2 / 2
        for index in range(self._num):
            tokens = min(MOST_TOKENS, self._draw.lognormvariate(mean, SIGMA))
            # Questions are asked four times each, so that there are prefixes to keep together.
            yield SimpleNamespace(prompt_ids=(index // 4,), seconds=tokens * SECONDS_A_TOKEN)


async def simulate(num_requests: int, num_engines: int, ledger: Ledger) -> tuple[float, float]:
    """Seconds of virtual time, and those from when the first slot had nothing left to do to the end."""
    draw = random.Random(f"{num_requests}:{num_engines}")
    asyncio.Event = Bell  # type: ignore[misc]
    servers = [Server(f"http://{n}", random.Random(draw.random())) for n in range(num_engines)]
    identity = Identity("model", context_tokens=40000, is_listed=True)
    farm = Farm([Member(cast(Any, server), identity) for server in servers])
    engine = object.__new__(Simulated)
    engine.farm, engine.num_parallel, engine.ledger = farm, SLOTS, ledger
    engine.capabilities = cast(Any, SimpleNamespace(dialect=SimpleNamespace(name="vllm"), seam="ids"))
    lives = [asyncio.create_task(server.live()) for server in servers]
    loop, drained = asyncio.get_running_loop(), [0.0]

    class Sink:
        """Where generations go; the first one that finds no request left ends the full time."""

        left = num_requests

        def put(self, item: object) -> None:
            Sink.left -= 1
            if not drained[0] and Sink.left < num_engines * SLOTS:
                drained[0] = loop.time()

    await engine._decode_all(cast(Any, Lengths(num_requests, draw)), cast(Any, Sink()), False)
    end = loop.time()
    for life in lives:
        life.cancel()
    await asyncio.gather(*lives, return_exceptions=True)
    await farm.close()
    assert sum(member.done for member in farm.members) == num_requests
    return end, end - drained[0]


def main() -> None:
    num_requests = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    counts = [int(n) for n in sys.argv[2].split(",")] if len(sys.argv) > 2 else [1, 8, 64, 512]
    global SLOTS
    SLOTS = int(sys.argv[3]) if len(sys.argv) > 3 else SLOTS
    print(f"{SLOTS} requests an engine, {MEAN_TOKENS:,} tokens on average, log-normal with sigma {SIGMA:g},", end=" ")
    print(f"a failure every {HOURS_TO_FAILURE:g} h an engine, {SECONDS_DOWN:g} s down")
    print("engines   requests  of a slot  hours  utilisation  tail min  begun again  lost work  CPU s")
    for num_engines in counts:
        ledger, began = Ledger(), time.process_time()
        seconds, tail = run_virtually(simulate(num_requests, num_engines, ledger))
        used = ledger.busy / (seconds * num_engines * SLOTS)
        lost = ledger.lost / (ledger.busy + ledger.lost)
        print(
            f"{num_engines:7,} {num_requests:10,} {num_requests / (num_engines * SLOTS):10.1f} {seconds / 3600:6.1f} "
            f"{used:12.1%} {tail / 60:9.1f} {ledger.begun_again:12,} {lost:10.2%} {time.process_time() - began:6.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
