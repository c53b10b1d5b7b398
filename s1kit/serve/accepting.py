"""Accepting connections in bounded turns, so that thousands at once do not hold up the streams that run.

uvloop accepts all that wait in one turn of the loop and makes a transport and a protocol for each. Here a turn takes in
a bounded number, and an accepted connection is a socket in a table that is watched for its first byte; only then does
it become a connection of uvicorn's.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

import uvicorn

from s1kit.serve.connections import TOO_SLOW, ConnectionLimits, refusal_bytes
from s1kit.serve.logs import log

_AT_ONCE = 256
"""Connections accepted before others get their turn: some 5 ms."""
_PAUSE = 0.5
"""Seconds without accepting once the process has no file descriptors left."""


class BoundedServer(uvicorn.Server):
    """uvicorn's server over listening sockets of ours. `config.http` is a class of `bounded_protocol`."""

    def __init__(self, config: uvicorn.Config, limits: ConnectionLimits) -> None:
        super().__init__(config)
        self._limits = limits

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept on the given sockets, which must listen already."""
        await super().startup(sockets=[])
        for listener in sockets or ():
            # uvicorn only closes them and waits until they are closed.
            self.servers.append(Acceptor(listener, self._limits, self._make_protocol, self._num_open, self.config.ssl))  # type: ignore[arg-type]

    def _make_protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    def _num_open(self) -> int:
        return len(self.server_state.connections)


class Acceptor:
    """Accepts on one listening socket and holds the connections that have not sent anything yet."""

    def __init__(
        self,
        listener: socket.socket,
        limits: ConnectionLimits,
        make_protocol: Callable[[], asyncio.Protocol],
        num_open: Callable[[], int],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`num_open`: how many connections have got their protocol. Must be made in the loop that it serves."""
        self.sockets = (listener,)
        self._listener, self._limits, self._tls = listener, limits, tls
        self._make_protocol, self._num_open = make_protocol, num_open
        self._loop = asyncio.get_running_loop()
        self._silent: dict[socket.socket, float] = {}
        """Connections without a first byte, in the order of their coming, and until when they may be."""
        self._sweeper: asyncio.TimerHandle | None = None
        self._starting: set[asyncio.Task[None]] = set()
        self._is_closed = False
        listener.setblocking(False)
        self._listen()

    def close(self) -> None:
        """Accept no more, and close the connections that have said nothing."""
        self._is_closed = True
        self._loop.remove_reader(self._listener)
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._silent):
            self._forget(connection)
            connection.close()

    async def wait_closed(self) -> None:
        if self._starting:
            await asyncio.wait(self._starting)

    def _listen(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue  # It has left already.
            except OSError as error:
                # The rest waits in the system's queue until some have left.
                log("connections are not accepted for now", level=40, why=str(error))
                self._loop.remove_reader(self._listener)
                self._loop.call_later(_PAUSE, self._listen)
                return
            connection.setblocking(False)
            if self._num_open() + len(self._silent) + len(self._starting) >= self._limits.max_connections:
                self._refuse(connection, 503, "too many connections")
                continue
            self._silent[connection] = self._loop.time() + self._limits.header_seconds
            self._loop.add_reader(connection, self._begin, connection)
            self._sweep_later()

    def _begin(self, connection: socket.socket) -> None:
        """Its first byte, or its end, is there."""
        self._forget(connection)
        try:
            is_over = not connection.recv(1, socket.MSG_PEEK)
        except OSError:
            is_over = True
        if is_over:
            connection.close()
            return
        task = self._loop.create_task(self._connect(connection))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _connect(self, connection: socket.socket) -> None:
        handshake = self._limits.header_seconds if self._tls is not None else None
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(
                self._make_protocol, connection, ssl=self._tls, ssl_handshake_timeout=handshake
            )
        except (OSError, ssl.SSLError):
            connection.close()

    def _sweep_later(self) -> None:
        if self._sweeper is None and self._silent:
            self._sweeper = self._loop.call_at(next(iter(self._silent.values())), self._sweep)

    def _sweep(self) -> None:
        """Refuse those that have been silent for too long."""
        self._sweeper = None
        now = self._loop.time()
        for connection, deadline in list(self._silent.items()):
            if deadline > now:
                break
            self._forget(connection)
            self._refuse(connection, 408, TOO_SLOW)
        self._sweep_later()

    def _forget(self, connection: socket.socket) -> None:
        del self._silent[connection]
        self._loop.remove_reader(connection)

    def _refuse(self, connection: socket.socket, status: int, why: str) -> None:
        log("connection refused", level=30, status=status, why=why)
        try:
            if self._tls is None:
                connection.send(refusal_bytes(status, why))
        except OSError:
            pass  # It has left, or does not read.
        connection.close()
