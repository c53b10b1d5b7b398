"""Requests a second through one reference to 1, 2 and 4 servers with a fixed latency.

    python bench/farm.py                        # 2 s a completion, 8 requests a slot
    python bench/farm.py --latency 0.5 --each 4

The servers are in this process and only wait, so what is measured is whether the farm keeps them all busy. Each slot of
each server gets the same number of requests, so that the last round weighs the same on one server and on four. A
request of two completions takes 6 to 8 ms of this process, the server's side included (half of it the client's), and
all come at once: servers must wait long enough for that not to be what is measured. In the last line two of four
servers die when a third is done.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fixtures_models import SPECIALS, write_tokenizer
from test_completions_farm import Servers, requests

PARALLEL = 4
"""Requests at once at a server: its slots."""


def rate(num_servers: int, folder: Path, latency: float, each: int, num_deaths: int = 0) -> float:
    """Requests a second, `each` for every slot; a request is two completions of `latency` seconds."""
    num = num_servers * PARALLEL * each
    with ExitStack() as stack:
        servers = Servers(folder, stack)
        started = [servers.start(latency) for _ in range(num_servers)]
        engine = servers.engine(*started, num_parallel=PARALLEL)
        began = time.monotonic()
        for done, generation in enumerate(engine.generate(requests(num))):
            assert generation.ending != "failed", generation.note
            if done == num // 3:
                for server in started[:num_deaths]:
                    server.die()
        return num / (time.monotonic() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, default=2.0, help="seconds of a completion")
    parser.add_argument("--each", type=int, default=8, help="requests of each slot of each server")
    load = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        write_tokenizer(Path(name), (*SPECIALS, "<think>", "</think>"))
        one = rate(1, Path(name), load.latency, load.each)
        print(
            f"1 server: {one:6.2f} requests/s; a slot that never waits would give {PARALLEL / (2 * load.latency):.2f}"
        )
        for num in (2, 4):
            found = rate(num, Path(name), load.latency, load.each)
            print(f"{num} servers: {found:6.2f} requests/s, {found / one:.2f} times one server's rate")
        found = rate(4, Path(name), load.latency, load.each, num_deaths=2)
        print(f"4 servers of which 2 die: {found:6.2f} requests/s, {found / one:.2f} times, none failed")


if __name__ == "__main__":
    main()
