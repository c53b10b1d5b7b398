"""What abusive clients do to others: the delay of `/health`, and memory, while each kind of abuse runs.

    python bench/serve_abuse.py

Starts `s1kit serve` with the tiny model on the loopback address. Prints, for each abuse, the median and the longest
time that `/health` took meanwhile, and the server's memory before and after. The abuser is a process of its own, so
that its work is not taken for the server's.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from serve_load import memory_mb, running

PORT = 8650
HEAD = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\nContent-Type: application/json\r\n".encode()


async def send(*parts: bytes, seconds: float = 0.0) -> bytes:
    """Send the parts, stay for so many seconds, and return what had been answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    got = b""
    with suppress(ConnectionError, TimeoutError):
        for part in parts:
            writer.write(part)
            await writer.drain()
        async with asyncio.timeout(seconds or None):
            while data := await reader.read(1 << 16):
                got += data
                if not seconds:
                    break
    writer.close()
    return got


async def endless_header() -> None:
    await send(HEAD, b"X: ", *(b"a" * (1 << 18),) * 200, seconds=2)


async def idle_connections() -> None:
    await asyncio.gather(*(send(seconds=4) for _ in range(3000)))


async def unfinished_bodies() -> None:
    body = (HEAD + b"Content-Length: 8000000\r\n\r\n", *(b"x" * (1 << 18),) * 30)
    await asyncio.gather(*(send(*body, seconds=4) for _ in range(60)))


async def large_prompt() -> None:
    text = "raspberry " * 400_000
    body = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
    await send(HEAD + b"Content-Length: %d\r\n\r\n" % len(body), body)


async def health() -> float:
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    writer.write(f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\nConnection: close\r\n\r\n".encode())
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()
    return time.perf_counter() - started


def run_abuse(name: str) -> None:
    abuse: Callable[[], Awaitable[None]] = globals()[name]

    async def main() -> None:
        await abuse()

    asyncio.run(main())


def during(name: str) -> list[float]:
    """How long `/health` took, asked for every 20 ms while the abuse runs."""
    abuser, times = multiprocessing.get_context("spawn").Process(target=run_abuse, args=(name,)), []
    abuser.start()
    while abuser.is_alive():
        times.append(asyncio.run(health()))
        time.sleep(0.02)
    return times


def main() -> None:
    program = "import sys; from s1kit.cli import main; sys.exit(main())"
    command = (sys.executable, "-c", program, "serve", "--model", "tiny", "--port", str(PORT), "--log", "none")
    with tempfile.TemporaryDirectory() as folder, running(command, PORT, Path(folder) / "log") as pid:
        asyncio.run(health())
        print(f"{'':20}{'median ms':>12}{'longest ms':>12}{'MB before':>12}{'MB after':>12}")
        for name in ("endless_header", "idle_connections", "unfinished_bodies", "large_prompt"):
            before = memory_mb(pid)
            times = [1000 * t for t in during(name)]
            time.sleep(1)
            figures = (statistics.median(times), max(times), before, memory_mb(pid))
            print(f"{name:20}" + "".join(f"{f:12.1f}" for f in figures), flush=True)


if __name__ == "__main__":
    main()
