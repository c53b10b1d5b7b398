"""Distill against a server that allows so many requests in any 60 seconds and answers 429 beyond, without Retry-After.

    python bench/distill_rate_limit.py --per-minute 600 --minutes 8

Prints the share of the allowed rate that was used and the share of requests refused, after a warm-up of two minutes,
the same minute by minute, and the client's CPU seconds, which say whether it was the client that was short of time.
"""

from __future__ import annotations

import argparse
import os
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
    parser.add_argument("--minutes", type=float, default=8.0)
    given = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="s1kit-bench-"))
    server = TestServer("--ms", "1000", "--per-minute", str(given.per_minute), "--words", "200")
    try:
        make_run(scratch, int(given.per_minute * given.minutes * 1.2))
        command = [sys.executable, "-c", OURS, recipe_json(scratch, server.url, concurrency=64)]
        client = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        time.sleep(given.minutes * 60.0)
        fields = Path(f"/proc/{client.pid}/stat").read_text().rpartition(")")[2].split()
        cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        client.kill()
        client.wait()
        stats = server.stats()
    finally:
        server.stop()
        shutil.rmtree(scratch, ignore_errors=True)
    accepted, refused = stats["accepted_at"], stats["refused_at"]
    end = max(accepted) - 5.0  # the clock starts with the first request, not with the process
    for start in range(0, int(end), 60):
        until = min(end, start + 60.0)
        print(line(f"  {start:4d} to {until:4.0f} s", accepted, refused, given.per_minute, start, until))
    print(line("after the warm-up", accepted, refused, given.per_minute, WARM_UP, end))
    print(f"client {cpu:.1f} CPU s in {given.minutes * 60:.0f} s; load {os.getloadavg()[0]:.1f}")


def line(name: str, accepted: list[float], refused: list[float], per_minute: int, start: float, end: float) -> str:
    num, num_refused = (sum(start <= t < end for t in times) for times in (accepted, refused))
    share, part = num / (per_minute * (end - start) / 60.0), num_refused / max(1, num + num_refused)
    return f"{name}: {share:6.1%} of {per_minute} a minute, {part:.2%} refused"


if __name__ == "__main__":
    main()
