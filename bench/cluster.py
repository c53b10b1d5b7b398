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
import resource
import sys
import time
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
    ledger: Ledger
    is_dead: bool = False
    under_way: dict[asyncio.Future[bool], float] = field(default_factory=dict)
    """Requests that are being decoded, and when each began."""

    async def get_json(self, path: str) -> Any:
        if self.is_dead:
            raise ServerFailed("down", "dead")
        return {"data": [{"id": "model", "max_model_len": 40000}]}

    async def close(self) -> None:
        return None

    async def decode(self, seconds: float) -> bool:
        """Take so many seconds; whether it ended well. A death ends all that is under way, at once."""
        if self.is_dead:
            return False
        loop = asyncio.get_running_loop()
        done: asyncio.Future[bool] = loop.create_future()
        self.under_way[done] = loop.time()
        handle = loop.call_later(seconds, done.set_result, True)
        try:
            return await done
        finally:
            handle.cancel()
            self.under_way.pop(done, None)

    async def live(self) -> None:
        """Die at random, and come back, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.draw.expovariate(1 / (HOURS_TO_FAILURE * 3600)))
            self.is_dead = True
            for done, began in self.under_way.items():
                if not done.done():
                    self.ledger.lost += loop.time() - began
                    done.set_result(False)
            await asyncio.sleep(SECONDS_DOWN)
            self.is_dead = False


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
        if await cast(Server, member.server).decode(plan.seconds):
            self.ledger.busy += plan.seconds
            member.done += 1
            return None
        self.farm.leave_out(member, ServerFailed("died", "dead"))
        self.ledger.begun_again += 1
        raise _Elsewhere


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
    servers = [Server(f"http://{n}", random.Random(draw.random()), ledger) for n in range(num_engines)]
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
    print("engines   requests  of a slot  hours  utilisation  tail min  begun again  lost work  CPU s  peak MiB")
    for num_engines in counts:
        ledger, began = Ledger(), time.process_time()
        seconds, tail = run_virtually(simulate(num_requests, num_engines, ledger))
        used = ledger.busy / (seconds * num_engines * SLOTS)
        lost = ledger.lost / (ledger.busy + ledger.lost)
        print(
            f"{num_engines:7,} {num_requests:10,} {num_requests / (num_engines * SLOTS):10.1f} {seconds / 3600:6.1f} "
            f"{used:12.1%} {tail / 60:9.1f} {ledger.begun_again:12,} {lost:10.2%} {time.process_time() - began:6.0f} "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:9.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
