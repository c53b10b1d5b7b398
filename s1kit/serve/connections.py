"""Where the server listens, and limits on connections that hold before a request is complete.

They bound the bytes and the seconds of headers and bodies, and how many connections there are. uvicorn bounds neither
the time that a client takes nor, with httptools, the size of a header, which its parser joins in quadratic time. These
limits are kept here, on every read, whichever parser is installed. A connection gets its parser with its first byte, so
that thousands that say nothing cost little, and whoever connects after them is answered soon.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from s1kit.errors import InputError
from s1kit.serve.logs import log
from s1kit.serve.refusals import Refusal

_BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A listening socket of an address. Raises InputError where there is none to be had."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    except (OSError, OverflowError) as error:
        raise InputError(
            f"cannot listen on {host}:{port}: {error}",
            where="--host, --port",
            fix="Choose another port, or stop the program that uses this one.",
        ) from error
    return listener


@contextmanager
def listening_at(path: Path) -> Iterator[socket.socket]:
    """A listening socket at a path, which is removed at the end. What a program that died left there is replaced.

    Who may call it is up to the process's umask. Raises InputError where there is none to be had.
    """
    listener = _bound(path)
    made = path.stat()
    try:
        with listener:
            yield listener
    finally:
        with suppress(OSError):
            # A server that was started meanwhile may have put its own there.
            if os.path.samestat(path.stat(), made):
                path.unlink()


def _bound(path: Path) -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise InputError("this system has no Unix sockets", where="--uds", fix="Leave it out; give --host and --port.")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_left_over(path):
            path.unlink()
        listener.bind(str(path))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise InputError(
            f"cannot listen at {path}: {error}",
            where="--uds",
            fix="Give a path of at most 100 bytes in a folder that is there, at which there is nothing.",
        ) from error
    return listener


def _is_left_over(path: Path) -> bool:
    """Whether there is a socket that nobody listens at."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        try:
            caller.connect(str(path))
        except ConnectionRefusedError:
            return True
    return False


def shown(listener: socket.socket, is_tls: bool) -> str:
    """The address of a listening socket, as people write it."""
    name = listener.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    address = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{'https' if is_tls else 'http'}://{address}:{name[1]}/"


@dataclass(slots=True)
class ConnectionLimits:
    """What one process takes from all its clients together, and what it has taken of it."""

    max_header_bytes: int = 1 << 16
    """Largest request line and headers together. At most one read beyond it is parsed."""
    header_seconds: float = 20.0
    """To send a header, from the connection or the header's first byte on."""
    body_seconds: float = 60.0
    """To send a body, from the end of its header on."""
    max_connections: int = 4096
    max_unfinished_bytes: int = 96 << 20
    """Largest total of request bodies that are still arriving."""
    max_headers: int = 100
    unfinished_bytes: int = field(default=0, init=False)


if TYPE_CHECKING:
    _Protocol = Any
else:
    _Protocol = AutoHTTPProtocol


def bounded_protocol(limits: ConnectionLimits, parser: type[asyncio.Protocol] = _Protocol) -> type[asyncio.Protocol]:
    """The class of uvicorn's HTTP connections, with limits. `parser` is one of uvicorn's own."""
    bounded: Any = type("BoundedProtocol", (_Bounded, parser), {"limits": limits})

    class SilentConnection(asyncio.Protocol):
        """A connection before its first byte."""

        __slots__ = ("_given", "_timer", "_transport")

        def __init__(self, **given: Any) -> None:
            self._given = given

        def connection_made(self, transport: Any) -> None:
            self._transport = transport
            connections = self._given["server_state"].connections
            connections.add(self)
            if len(connections) > limits.max_connections:
                self._timer = None
                _refuse(transport, 503, "too many connections")
            else:
                loop = self._given["_loop"] or asyncio.get_running_loop()
                self._timer = loop.call_later(limits.header_seconds, _refuse, transport, 408, _TOO_SLOW)

        def data_received(self, data: bytes) -> None:
            self._leave()
            if self._transport.is_closing():
                return
            protocol = bounded(**self._given)
            self._transport.set_protocol(protocol)
            protocol.connection_made(self._transport)
            protocol.data_received(data)

        def connection_lost(self, _: Exception | None) -> None:
            self._leave()

        def shutdown(self) -> None:
            """Called by uvicorn when it stops."""
            self._transport.close()

        def _leave(self) -> None:
            self._given["server_state"].connections.discard(self)
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    return SilentConnection


_TOO_SLOW = "the request did not arrive in time"


def _refuse(transport: asyncio.Transport, status: int, why: str, has_replied: bool = False) -> None:
    """Answer with an error, unless a reply has begun, and close."""
    log("connection refused", level=30, status=status, why=why)
    if transport.is_closing():
        return
    if not has_replied:
        _answer(transport, status, why)
    transport.close()


def _answer(transport: asyncio.Transport, status: int, why: str) -> None:
    body = Refusal(status, f"{why}.").encoded()
    head = f"HTTP/1.1 {status} Refused\r\ncontent-type: application/json\r\nconnection: close\r\n"
    transport.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)


_UPGRADE = re.compile(rb"(?im)^upgrade:(?![ \t]*websocket)")
"""An offer to go on in another protocol, such as HTTP/2, which Java's HTTP client makes with every first request."""


def _without_upgrade(data: bytes) -> bytes:
    """The bytes of a header without offers that nobody takes: httptools drops the body of a request that makes one."""
    head, end, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(b"x-upgrade:", head) + end + rest


class _Bounded(asyncio.Protocol):
    """Limits on a connection; the class of uvicorn's connections that it bounds comes after it among the bases."""

    limits: ConnectionLimits
    cycle: Any
    transport: Any
    loop: asyncio.AbstractEventLoop
    _timer: asyncio.TimerHandle | None = None
    _num_header_bytes = 0
    _num_body_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._start_timer(self.limits.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._forget_body()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        before = self.cycle
        is_header = before is None or not before.more_body
        if is_header and self._timer is None:
            self._start_timer(self.limits.header_seconds)
        super().data_received(_without_upgrade(data) if is_header else data)
        cycle = self.cycle
        if is_header and cycle is before:
            self._num_header_bytes += len(data)
            if self._num_header_bytes > self.limits.max_header_bytes:
                self._refuse(431, f"the header is larger than {self.limits.max_header_bytes} bytes")
            return
        self._num_header_bytes = 0
        if cycle is not before and len(cycle.scope["headers"]) > self.limits.max_headers:
            self._refuse(431, f"there are more than {self.limits.max_headers} headers")
            return
        if not cycle.more_body:
            self._stop_timer()
            self._forget_body()
            return
        if cycle is not before:
            self._start_timer(self.limits.body_seconds)
        self._num_body_bytes += len(data)
        self.limits.unfinished_bytes += len(data)
        if self.limits.unfinished_bytes > self.limits.max_unfinished_bytes:
            self._refuse(503, "too many requests are being received at once")

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn, which has logged why."""
        _answer(self.transport, 400, "the request is not valid HTTP")
        self.transport.close()

    def _forget_body(self) -> None:
        self.limits.unfinished_bytes -= self._num_body_bytes
        self._num_body_bytes = 0

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._refuse, 408, _TOO_SLOW)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: int, why: str) -> None:
        self._stop_timer()
        _refuse(self.transport, status, why, self.cycle is not None and self.cycle.response_started)
