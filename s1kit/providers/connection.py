"""Requests and whole replies over kept-open HTTP/1.1 connections to one host.

The one thing distillation does a million times. A general client spends some 0.3 ms of CPU time on it, this a fifth.
What it leaves out (proxies, redirects, forms, long downloads) goes through aiohttp, in `http`.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import Callable, Mapping
from typing import cast
from urllib.parse import quote, urlsplit

from s1kit.errors import InputError

MAX_HEAD_BYTES = 2**16
MAX_BODY_BYTES = 2**28
"""A reply beyond this is an error, not a reason to run out of memory."""
SECONDS_TO_CONNECT = 30.0

_SAFE = "/?:@!$&'()*+,;=~%"
"""What a path and its query may hold as it is; `%` because a part may be quoted already."""

OnArrival = Callable[[], None] | None
Raw = tuple[int, dict[str, str], bytes]
"""Status, headers with names in lower case, body."""


class Connections:
    """Connections to one host, opened as they are needed, the last used first."""

    def __init__(self, root: str, headers: Mapping[str, str], tls: ssl.SSLContext | None) -> None:
        """`root` is scheme and host; `headers` go with every request."""
        parts = urlsplit(root)
        self._host, self._tls = parts.hostname or "", tls
        self._port = parts.port or (443 if tls else 80)
        host = parts.netloc.rpartition("@")[2]
        lines = {"Host": host, "Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "s1kit"}
        lines |= headers
        if any("\r" in text or "\n" in text for text in lines.values()):
            raise InputError("the key holds a line break", where=host, fix="Set the key again, on one line.")
        self._head = _lines(lines)
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()

    async def request(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], on_arrival: OnArrival = None
    ) -> Raw:
        """Send and wait for the whole reply, however long it takes. Raises OSError when none comes.

        `on_arrival` is called the moment a reply with status 2xx is whole, before whoever waits for it comes to run.
        """
        first = f"{method} {quote(path, safe=_SAFE)} HTTP/1.1\r\nContent-Length: {len(body)}\r\n".encode("ascii")
        connection = await self._take()
        try:
            raw = await connection.exchange(b"".join((first, self._head, _lines(headers), b"\r\n", body)), on_arrival)
        except BaseException:
            connection.close()  # its reply may still come, and is nobody's
            raise
        if connection.is_open:
            self._idle.append(connection)
        return raw

    async def _take(self) -> _Connection:
        while self._idle:
            if (connection := self._idle.pop()).is_open:
                return connection
        async with asyncio.timeout(SECONDS_TO_CONNECT):
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self._open), self._host, self._port, ssl=self._tls
            )
        return connection

    def close(self) -> None:
        for connection in list(self._open):
            connection.close()
        self._idle.clear()


def _lines(headers: Mapping[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1", "replace")


class _Connection(asyncio.Protocol):
    """One connection: a request out, its reply in, then the next."""

    def __init__(self, open_ones: set[_Connection]) -> None:
        self._open_ones = open_ones
        self._buffer = bytearray()
        self._on_arrival: OnArrival = None
        self._reply: asyncio.Future[Raw] | None = None
        self._transport: asyncio.Transport | None = None
        self._start_reply()

    def _start_reply(self) -> None:
        self._status, self._headers = 0, dict[str, str]()
        self._position = 0
        """Where what has not been read begins."""
        self._end: int | None = None
        """Where the body ends; None: not known, or known only when the connection closes."""
        self._chunks: list[bytes] | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def exchange(self, request: bytes, on_arrival: OnArrival) -> Raw:
        assert self._transport is not None
        self._on_arrival = on_arrival
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._reply

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # ---- what the event loop calls ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._open_ones.add(self)

    def data_received(self, data: bytes) -> None:
        if self._reply is None or self._reply.done():
            self.close()  # nobody asked
            return
        self._buffer += data
        if self._end is not None and len(self._buffer) < self._end:
            return
        try:
            self._advance()
        except ValueError as error:
            self._fail(f"the server does not speak HTTP: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_ones.discard(self)
        self._transport = None
        if self._reply is None or self._reply.done():
            return
        if exc is None and self._status and self._end is None and self._chunks is None:
            self._finish(bytes(self._buffer[self._position :]))  # such a body ends with its connection
        else:
            self._fail("the server closed the connection before its reply was whole")

    # ---- reading a reply --------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        while not self._status:
            end = self._buffer.find(b"\r\n\r\n", self._position)
            if end < 0:
                if len(self._buffer) - self._position > MAX_HEAD_BYTES:
                    raise ValueError("its head has no end")
                return
            self._read_head(bytes(self._buffer[self._position : end]), end + 4)
        if self._chunks is not None:
            self._read_chunks()
        elif self._end is not None and len(self._buffer) >= self._end:
            self._finish(bytes(self._buffer[self._position : self._end]), self._end)
        elif len(self._buffer) > MAX_BODY_BYTES:
            raise ValueError("its reply has no end")

    def _read_head(self, head: bytes, body_at: int) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        version, _, rest = first.partition(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError(f"its reply begins with {first[:40]!r}")
        status = int(rest[:3])
        self._position = body_at
        if status < 200:
            return  # an interim reply, the real one follows
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if version == "HTTP/1.0":
            headers.setdefault("connection", "close")
        self._status, self._headers = status, headers
        if "chunked" in headers.get("transfer-encoding", "").lower():
            self._chunks = []
        elif status in (204, 304):
            self._end = body_at
        elif (length := headers.get("content-length")) is not None:
            if not 0 <= int(length) <= MAX_BODY_BYTES:
                raise ValueError(f"its reply has {length} bytes")
            self._end = body_at + int(length)

    def _read_chunks(self) -> None:
        assert self._chunks is not None
        while (line_end := self._buffer.find(b"\r\n", self._position)) >= 0:
            size = int(bytes(self._buffer[self._position : line_end]).partition(b";")[0], 16)
            if size < 0 or self._position + size > MAX_BODY_BYTES:
                raise ValueError("a chunk of its reply has no sensible size")
            if size == 0:  # trailers may follow, and are not used
                if (end := self._buffer.find(b"\r\n\r\n", line_end)) >= 0:
                    self._finish(b"".join(self._chunks), end + 4)
                return
            start = line_end + 2
            if len(self._buffer) < start + size + 2:
                return
            self._chunks.append(bytes(self._buffer[start : start + size]))
            self._position = start + size + 2

    def _finish(self, body: bytes, end: int | None = None) -> None:
        assert self._reply is not None
        status, headers = self._status, self._headers
        if headers.get("content-encoding", "").lower() == "gzip":
            try:
                body = zlib.decompressobj(31).decompress(body, MAX_BODY_BYTES)
            except zlib.error as error:
                self._fail(f"the reply cannot be unpacked: {error}")
                return
        # Bytes after the reply belong to nothing that was asked.
        if end is None or len(self._buffer) > end or headers.get("connection", "").lower() == "close":
            self.close()
        self._buffer.clear()
        self._start_reply()
        if self._on_arrival is not None and 200 <= status < 300:
            self._on_arrival()
        self._reply.set_result((status, headers, body))

    def _fail(self, text: str) -> None:
        self.close()
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(ConnectionError(text))
