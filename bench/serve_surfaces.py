"""What each surface costs the server, beside chat completions: processor time of a request, streamed and whole.

    python bench/serve_surfaces.py [--tokens 1000] [--rounds 20]

The application is called directly, with a backend that hands out tokens that lie ready, so that nothing but reading the
request and writing the reply is measured. The surfaces take turns in one process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import AsyncGenerator
from typing import Any

from s1kit.engines.scripted import ScriptedEngine
from s1kit.forcing.request import Sampling
from s1kit.serve.app import make_app
from s1kit.serve.decoding import Delta, End, Job

MESSAGES = [{"role": "user", "content": "How many r's are in raspberry?"}]
SURFACES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": MESSAGES},
    "/v1/responses": {"input": MESSAGES[0]["content"]},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 3000}},
}


class Ready:
    """A backend whose tokens lie ready: as many of thinking as of the answer, one a delta."""

    model = "ready"
    features: frozenset[str] = frozenset()
    sampling = Sampling()
    rule = None

    def __init__(self, num_tokens: int) -> None:
        engine = ScriptedEngine()
        self.tokens, self.context_tokens = engine.tokens, 1 << 16
        half = num_tokens // 2
        self._deltas = [Delta("thinking", "sampled", " word", 1)] * half
        self._deltas += [Delta("close", "forced", "", 4)] + [Delta("answer", "sampled", " word", 1)] * half

    async def decode(self, job: Job) -> AsyncGenerator[list[Delta] | End, None]:
        for delta in self._deltas:
            yield [delta]
        yield End("closed", "stop")

    async def check(self) -> str:
        return ""

    async def close(self) -> None:
        pass


async def one(app: Any, path: str, body: dict[str, Any]) -> tuple[float, int]:
    """Processor seconds of one request, and the bytes of its reply."""
    raw = json.dumps(body).encode()
    messages = [{"type": "http.request", "body": raw, "more_body": False}]
    size, status = 0, 0

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        nonlocal size, status
        size += len(message.get("body", b""))
        status = message.get("status", status)

    headers = [(b"content-type", b"application/json"), (b"host", b"127.0.0.1")]
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
    started = time.process_time()
    await app(scope | {"headers": headers, "root_path": ""}, receive, send)
    seconds = time.process_time() - started
    assert status == 200, status
    return seconds, size


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1000, help="of a reply (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=20, help="each surface in turn (default: %(default)s)")
    given = parser.parse_args()
    app = make_app(Ready(given.tokens))
    print(f"{'':32}{'ms':>10}{'of chat':>10}{'KiB':>10}   (median of {given.rounds}, {given.tokens} tokens)")
    for stream in (True, False):
        times: dict[str, list[float]] = {path: [] for path in SURFACES}
        sizes: dict[str, int] = {}
        for _ in range(given.rounds + 1):
            for path, body in SURFACES.items():
                seconds, sizes[path] = await one(app, path, body | {"stream": stream})
                times[path].append(seconds)
        # The first of each builds what is kept.
        medians = {path: statistics.median(found[1:]) for path, found in times.items()}
        chat = medians["/v1/chat/completions"]
        for path, seconds in medians.items():
            name = f"{path} {'streamed' if stream else 'whole'}"
            print(f"{name:32}{1000 * seconds:10.1f}{seconds / chat:10.2f}{sizes[path] / 1024:10.0f}")


if __name__ == "__main__":
    asyncio.run(main())
