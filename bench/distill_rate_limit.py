"""Distill against a server that allows so many requests in any 60 seconds and answers 429 beyond, without Retry-After.

    python bench/distill_rate_limit.py --per-minute 600 --minutes 6

Prints the share of the allowed rate that was used and the share of requests refused, after a warm-up of two minutes.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from distill_throughput import OURS, TestServer, make_run, recipe_json

WARM_UP = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-minute", type=int, default=600)
    parser.add_argument("--minutes", type=float, default=6.0)
    given = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="s1kit-bench-"))
    server = TestServer("--ms", "1000", "--per-minute", str(given.per_minute), "--words", "200")
    try:
        make_run(scratch, int(given.per_minute * given.minutes * 1.2))
        command = [sys.executable, "-c", OURS, recipe_json(scratch, server.url, concurrency=64)]
        client = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        time.sleep(given.minutes * 60.0)
        client.kill()
        client.wait()
        stats = server.stats()
        end = max(stats["accepted_at"]) - 5.0  # the clock starts with the first request, not with the process
        accepted = sum(WARM_UP <= t < end for t in stats["accepted_at"])
        refused = sum(WARM_UP <= t < end for t in stats["refused_at"])
        allowed = given.per_minute * (end - WARM_UP) / 60.0
        print(f"{accepted / allowed:.1%} of {given.per_minute} a minute, {refused / (accepted + refused):.2%} refused")
    finally:
        server.stop()
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
