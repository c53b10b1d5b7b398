"""Requests a second through one reference to 1, 2 and 4 servers with a fixed latency: python bench/farm.py

The servers are in this process and only wait, so what is measured is whether the farm keeps them all busy. Each slot of
each server gets the same number of requests, so that the last round weighs the same on one server and on four. A
request of two completions takes 6 to 8 ms of this process, the server's side included (half of it the client's), and
all come at once: servers must wait long enough for that not to be what is measured. In the last line two of four
servers die when a third is done.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fixtures_models import SPECIALS, write_tokenizer
from test_completions_farm import Servers, requests

LATENCY, PARALLEL, EACH = 2.0, 4, 8
"""Seconds of a completion, requests at once at a server, and requests of each such slot."""


def rate(num_servers: int, folder: Path, num_deaths: int = 0) -> float:
    """Requests a second; a request is two completions of `LATENCY` seconds."""
    num = num_servers * PARALLEL * EACH
    with ExitStack() as stack:
        servers = Servers(folder, stack)
        started = [servers.start(LATENCY) for _ in range(num_servers)]
        engine = servers.engine(*started, num_parallel=PARALLEL)
        began = time.monotonic()
        for done, generation in enumerate(engine.generate(requests(num))):
            assert generation.ending != "failed", generation.note
            if done == num // 3:
                for server in started[:num_deaths]:
                    server.die()
        return num / (time.monotonic() - began)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        write_tokenizer(Path(name), (*SPECIALS, "<think>", "</think>"))
        one = rate(1, Path(name))
        print(f"1 server: {one:6.2f} requests/s; a slot that never waits would give {PARALLEL / (2 * LATENCY):.2f}")
        for num in (2, 4):
            found = rate(num, Path(name))
            print(f"{num} servers: {found:6.2f} requests/s, {found / one:.2f} times one server's rate")
        found = rate(4, Path(name), num_deaths=2)
        print(f"4 servers of which 2 die: {found:6.2f} requests/s, {found / one:.2f} times, none failed")


if __name__ == "__main__":
    main()
