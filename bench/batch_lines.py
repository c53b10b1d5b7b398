"""Batches of 10,000 and 100,000 lines through the driver and the journal, without a network: seconds and memory.

python bench/batch_lines.py 10000 100000
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from s1kit.journal import Journal
from s1kit.providers.batch.driver import ask_batch
from s1kit.providers.batch.wire import Line, Status
from s1kit.providers.chat import ChatRequest
from s1kit.providers.client import open_client
from s1kit.providers.http import Http

REPLY = "<think>" + "hm " * 300 + "</think>4"


@dataclass
class Instant:
    """A batch API that answers at once, in reverse order."""

    max_requests: int = 100_000
    max_bytes: int = 10**9
    jobs: dict[str, list[str]] = field(default_factory=dict)

    def line(self, key: str, request: ChatRequest) -> bytes:
        return json.dumps({"key": key, "messages": request.messages}).encode()

    async def submit(self, http: Http, model: str, tag: str, lines: Sequence[bytes]) -> str:
        self.jobs[tag] = [json.loads(line)["key"] for line in lines]
        return tag

    async def find(self, http: Http, tag: str, num_requests: int, since: str) -> list[str]:
        return []

    async def status(self, http: Http, job: str) -> Status:
        return Status("ended", len(self.jobs[job]))

    async def results(self, http: Http, job: str) -> AsyncIterator[Line]:
        for key in reversed(self.jobs[job]):
            usage = {"prompt_tokens": 10, "completion_tokens": 300, "total_tokens": 310}
            yield Line(key, {"choices": [{"message": {"content": REPLY}, "finish_reason": "stop"}], "usage": usage})


async def run(num: int) -> None:
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "journal.sqlite") as journal:
        price = {"input": 1.0, "output": 1.0}
        client = open_client("chat:http://127.0.0.1:9/v1#m", journal, price=price, cap_usd=1e6)
        requests = [client.request([{"role": "user", "content": f"question {n}"}]) for n in range(num)]
        started, cpu = time.monotonic(), time.process_time()
        outcome = await ask_batch(client, requests, poll_seconds=0.01)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        seconds, cpu = time.monotonic() - started, time.process_time() - cpu
        print(f"{outcome.collected} lines in {outcome.jobs} jobs: {seconds:.1f} s, {cpu:.1f} CPU s, {memory:.0f} MiB")


if __name__ == "__main__":
    with patch("s1kit.providers.batch.driver.batch_wire", lambda client: Instant()):
        for each in sys.argv[1:] or ["10000"]:
            asyncio.run(run(int(each)))
