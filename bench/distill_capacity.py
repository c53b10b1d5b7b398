"""What the benchmark's server can give: a client that sends, counts bytes, and sends again, and does nothing else.

python bench/distill_capacity.py http://127.0.0.1:PORT --num 20000 --in-flight 256
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from urllib.parse import urlsplit

BODY = b'{"model": "m", "messages": [{"role": "user", "content": "capacity"}], "max_tokens": 32768}'
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
    + str(len(BODY)).encode()
    + b"\r\n\r\n"
    + BODY
)


class Asker(asyncio.Protocol):
    """One connection, always one request in flight on it."""

    def __init__(self, left: list[int], done: asyncio.Event) -> None:
        self._left, self._done = left, done
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        if not self._missing:
            end = data.index(b"\r\n\r\n")
            self._missing = end + 4 + int(data[data.index(b"Content-Length: ") + 16 : end].split(b"\r")[0])
        self._missing -= len(data)
        if self._missing:
            return
        self._left[0] -= 1
        if self._left[0] >= 0:
            self._transport.write(REQUEST)
        if self._left[0] == 0:
            self._done.set()


async def measure(url: str, num: int, in_flight: int) -> float:
    """Requests a second."""
    parts, left, done = urlsplit(url), [num], asyncio.Event()
    loop, start = asyncio.get_running_loop(), time.monotonic()
    for _ in range(in_flight):
        await loop.create_connection(lambda: Asker(left, done), parts.hostname, parts.port)
    await done.wait()
    return num / (time.monotonic() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--num", type=int, default=20_000)
    parser.add_argument("--in-flight", type=int, default=256)
    given = parser.parse_args()
    rate = asyncio.run(measure(given.url, given.num, given.in_flight))
    print(json.dumps({"requests_per_second": round(rate, 1), "cpu_seconds": time.process_time()}))


if __name__ == "__main__":
    main()
