"""Processor time of the client for streamed replies, beside the same replies in one piece.

    python bench/distill_streams.py --num 1000

Replies of about 5,000 tokens (some 20 KB) come in one piece and as 50, 500 and 5,000 events. The server is a process of
its own; only the client's processor time is taken, from the first request to the last, so other work on the machine
changes it little.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
from pathlib import Path

from distill_throughput import TestServer, text_of

from s1kit.journal import Journal
from s1kit.providers.sync import chat_many


def cpu_seconds(num: int, chunks: int) -> float:
    """Seconds of user and system time for so many replies."""
    scratch = Path(tempfile.mkdtemp(prefix="s1kit-streams-"))
    server = TestServer("--ms", "50", "--chunks", str(chunks))
    try:
        with Journal(scratch / "journal.sqlite") as journal:
            questions = [[{"role": "user", "content": text_of(n)}] for n in range(num)]
            before = resource.getrusage(resource.RUSAGE_SELF)
            replies = chat_many(f"chat:{server.url}/v1#m", questions, journal, concurrency=64)
            after = resource.getrusage(resource.RUSAGE_SELF)
        assert {(reply.finish_reason, len(reply.thinking) > 10_000) for reply in replies} == {("stop", True)}
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    finally:
        server.stop()
        shutil.rmtree(scratch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=1000)
    given = parser.parse_args()
    print(f"{given.num} replies, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    cpu_seconds(100, 0)  # imports, the first connections
    whole = cpu_seconds(given.num, 0) / given.num
    print(f"in one piece   {whole * 1000:7.2f} CPU ms a reply")
    for chunks in (50, 500, 5000):
        num = max(50, given.num * 50 // max(50, chunks // 10))
        each = cpu_seconds(num, chunks) / num
        print(
            f"{chunks:5d} events  {each * 1000:8.2f} CPU ms a reply, {(each - whole) / chunks * 1e6:6.1f} us an event"
        )


if __name__ == "__main__":
    main()
