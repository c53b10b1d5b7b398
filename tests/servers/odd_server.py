"""A provider of one model whose replies are written byte by byte, as a script says.

    async with OddServer(script) as server:     server.base_url

`script(number, head)` gets the number of the request, from 0, and its head; it returns what is written: bytes, and
seconds to wait between them. `RESET` breaks the connection off; `FOREVER` leaves it open in silence.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

Part = bytes | float
Script = Callable[[int, str], list[Part]]
FOREVER, RESET = float("inf"), -1.0


class OddServer:
    """An async context manager."""

    def __init__(self, script: Script) -> None:
        self.num_requests = 0
        self._script = script
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    async def __aenter__(self) -> OddServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports close in the loop's next turn

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._answer(reader, writer):
                pass
        writer.close()
        self._tasks.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answers one request; whether the connection stays open."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lengths = [line.partition(":")[2] for line in head.splitlines() if line.lower().startswith("content-length:")]
        await reader.readexactly(int(lengths[0]) if lengths else 0)
        if head.startswith("GET"):  # the queue's gauges, which this server has not
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return True
        number, self.num_requests = self.num_requests, self.num_requests + 1
        is_open = True
        for part in self._script(number, head):
            if part == RESET:
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                return False
            if isinstance(part, float):
                await asyncio.sleep(3600.0 if part == FOREVER else part)
                continue
            writer.write(part)
            await writer.drain()
            is_open = is_open and b"onnection: close" not in part and not part.startswith(b"HTTP/1.0")
        return is_open
