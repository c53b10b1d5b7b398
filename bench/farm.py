"""Requests a second through one reference to 1, 2 and 4 servers with a fixed latency: python bench/farm.py

The servers are in this process and only wait, so what is measured is whether the farm keeps them all busy.
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

LATENCY, PARALLEL, NUM = 0.5, 4, 160


def rate(num_servers: int, folder: Path) -> float:
    """Requests a second; a request is two completions of `LATENCY` seconds."""
    with ExitStack() as stack:
        servers = Servers(folder, stack)
        engine = servers.engine(*(servers.start(LATENCY) for _ in range(num_servers)), num_parallel=PARALLEL)
        began = time.monotonic()
        assert all(g.ending != "failed" for g in engine.generate(requests(NUM)))
        return NUM / (time.monotonic() - began)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        write_tokenizer(Path(name), (*SPECIALS, "<think>", "</think>"))
        one = rate(1, Path(name))
        for num in (1, 2, 4):
            found = one if num == 1 else rate(num, Path(name))
            print(f"{num} servers: {found:6.2f} requests/s, {found / one:.2f} times one server's rate")


if __name__ == "__main__":
    main()
