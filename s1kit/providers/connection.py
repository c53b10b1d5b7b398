"""Requests and whole replies over kept-open HTTP/1.1 connections to one host.

The one thing distillation does a million times. A general client spends some 0.3 ms of CPU time on it, this a fifth:
the parser is that of node and uvicorn, and there is little around it. What it leaves out (proxies, redirects, forms,
long downloads) goes through aiohttp, in `http`.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import Callable, Mapping
from typing import cast
from urllib.parse import quote, urlsplit

import httptools

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
        self._on_arrival: OnArrival = None
        self._reply: asyncio.Future[Raw] | None = None
        self._transport: asyncio.Transport | None = None
        self._start_reply()

    def _start_reply(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._status, self._num_bytes = 0, 0
        self._is_whole = self._is_more = self._stays_open = False

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
        self._num_bytes += len(data)
        try:
            self._parser.feed_data(data)
            if self._num_bytes > (MAX_BODY_BYTES if self._status else MAX_HEAD_BYTES):
                raise httptools.HttpParserError("its reply has no end")
        except httptools.HttpParserError as error:
            if not self._is_whole:
                self._fail(f"the server does not speak HTTP: {error.__context__ or error}")
                return
            self._is_more = True
        if self._is_whole:
            # Bytes after the reply belong to nothing that was asked.
            self._finish(stays_open=self._stays_open and not self._is_more)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_ones.discard(self)
        self._transport = None
        if self._reply is None or self._reply.done():
            return
        if exc is None and self._status and not self._headers.keys() & {"content-length", "transfer-encoding"}:
            self._finish(stays_open=False)  # such a body ends with its connection
        else:
            self._fail("the server closed the connection before its reply was whole")

    # ---- what the parser calls --------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._is_more = self._is_whole

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_whole:
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        if not self._is_whole and (status := self._parser.get_status_code()) >= 200:
            self._status = status

    def on_body(self, body: bytes) -> None:
        if not self._is_whole:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._is_whole:
            return
        if self._status:
            self._is_whole, self._stays_open = True, self._parser.should_keep_alive()
        else:  # an interim reply, the real one follows
            self._headers.clear()

    def _finish(self, stays_open: bool) -> None:
        assert self._reply is not None
        status, headers, body = self._status, self._headers, b"".join(self._body)
        if headers.get("content-encoding", "").lower() == "gzip":
            try:
                body = zlib.decompressobj(31).decompress(body, MAX_BODY_BYTES)
            except zlib.error as error:
                self._fail(f"the reply cannot be unpacked: {error}")
                return
        if not stays_open:
            self.close()
        self._start_reply()
        if self._on_arrival is not None and 200 <= status < 300:
            self._on_arrival()
        self._reply.set_result((status, headers, body))

    def _fail(self, text: str) -> None:
        self.close()
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(ConnectionError(text))
