"""ASGI input and output: request bodies, replies, event streams, and noticing that a client has disconnected."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

from s1kit.serve.refusals import Refusal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class ClientLeft(Exception):
    """The client closed its connection before the reply was finished."""


def header(scope: Scope, name: bytes) -> str:
    """The value of a request header, or empty."""
    return next((v.decode("latin-1") for k, v in scope["headers"] if k == name), "")


def check_media(scope: Scope) -> None:
    """Raises Refusal (415) for a body that is not plain JSON by its headers."""
    kind = header(scope, b"content-type").partition(";")[0].strip().lower()
    if kind != "application/json":
        # A web page of somebody else can send other types without asking first.
        raise Refusal(415, f"the body is of type {kind or 'nothing'}. Send content-type: application/json.")
    coding = header(scope, b"content-encoding").strip().lower()
    if coding not in ("", "identity"):
        raise Refusal(415, f"content-encoding is {coding}, and bodies are not unpacked here. Send the JSON itself.")


async def read_body(scope: Scope, receive: Receive, most_bytes: int) -> bytes:
    """The whole body. Raises Refusal (413) as soon as it is too large, ClientLeft when it never ends."""
    too_large = Refusal(413, f"the body is larger than {most_bytes} bytes. Send less.", code="body_too_large")
    declared = header(scope, b"content-length")
    if declared.isdigit() and int(declared) > most_bytes:
        raise too_large
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if size > most_bytes:
            raise too_large
        if not message.get("more_body", False):
            return b"".join(parts)


async def send_whole(
    send: Send, status: int, body: bytes, media: str, headers: Mapping[str, str] | None = None
) -> None:
    """A reply of known length."""
    fields = {"content-type": media, "content-length": str(len(body)), **(headers or {})}
    await send({"type": "http.response.start", "status": status, "headers": _encoded(fields)})
    await send({"type": "http.response.body", "body": body})


async def send_json(send: Send, status: int, value: object, headers: Mapping[str, str] | None = None) -> None:
    await send_whole(send, status, json.dumps(value).encode(), "application/json", headers)


class EventStream:
    """An event stream. Its headers go out with the first event, so that a failure before it still gets its status.

    While nothing comes for `every` seconds after that, a ping is sent. `send` waits when the client reads
    slowly; several tasks may send.
    """

    def __init__(self, send: Send, headers: Mapping[str, str], ping: bytes, every: float) -> None:
        self._send, self._headers, self._ping, self._every = send, headers, ping, every
        self._starting = asyncio.Lock()
        self._has_begun = False
        self._last = 0.0
        self._pinger: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> EventStream:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._pinger is not None:
            self._pinger.cancel()
        if kind is None:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def send(self, event: bytes) -> None:
        """Send one or more whole events."""
        if not self._has_begun:
            async with self._starting:
                await self._start()
        await self._send({"type": "http.response.body", "body": event, "more_body": True})
        self._last = self._loop.time()

    async def _start(self) -> None:
        if self._has_begun:
            return
        fields = {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache",
            # Asks nginx not to collect the events.
            "x-accel-buffering": "no",
            **self._headers,
        }
        await self._send({"type": "http.response.start", "status": 200, "headers": _encoded(fields)})
        self._has_begun = True
        self._last = self._loop.time()
        self._pinger = self._loop.create_task(self._keep_open())

    async def _keep_open(self) -> None:
        while True:
            silent = self._loop.time() - self._last
            if silent >= self._every:
                await self.send(self._ping)
                silent = 0.0
            await asyncio.sleep(self._every - silent)


async def while_connected(work: Callable[[], Awaitable[None]], receive: Receive) -> None:
    """Run `work`; cancel it and raise ClientLeft as soon as the client leaves."""
    task = asyncio.ensure_future(work())
    watcher = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            raise ClientLeft
        await task
    finally:
        watcher.cancel()
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
