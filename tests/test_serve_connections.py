"""The limits of connections, over real sockets and with each of uvicorn's parsers: sizes, times, numbers."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

pytest.importorskip("starlette")

import httpx
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from s1kit.serve.connections import ConnectionLimits, bounded_protocol


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with how long the body was."""
    size, more = 0, scope["type"] == "http"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(str(size)))]})
    await send({"type": "http.response.body", "body": str(size).encode()})


PARSERS = {"httptools": HttpToolsProtocol, "h11": H11Protocol}


@pytest.fixture(params=PARSERS)
def bounded(request: pytest.FixtureRequest) -> Any:
    """Serves with limits, with one of uvicorn's parsers."""
    return partial(_bounded, PARSERS[request.param])


@contextmanager
def _bounded(parser: Any, **limits: Any) -> Iterator[tuple[int, ConnectionLimits]]:
    given = ConnectionLimits(**limits)
    config = uvicorn.Config(echo, port=0, log_config=None, lifespan="off", http=bounded_protocol(given, parser))
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1], given
    finally:
        server.should_exit = True
        thread.join(10)


async def exchange(port: int, *parts: bytes) -> bytes:
    """Send the parts, as far as the server takes them, and read until it closes or has answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = b""
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
    except ConnectionError:
        pass
    try:
        async with asyncio.timeout(10):
            while b"\r\n\r\n" not in got:
                if not (data := await reader.read(1 << 16)):
                    break
                got += data
    except ConnectionError:
        pass
    finally:
        writer.close()
    return got


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"


def test_a_header_without_an_end_is_refused_and_others_are_answered_meanwhile(bounded: Any) -> None:
    with bounded() as (port, _), httpx.Client(trust_env=False) as client:
        got = asyncio.run(exchange(port, HEAD, b"X: ", *(b"a" * (1 << 16),) * 200))
        # A client that still writes may see the connection reset before it reads the reply.
        assert got == b"" or got.startswith(b"HTTP/1.1 431")
        assert client.get(f"http://127.0.0.1:{port}/").text == "0"
        many = asyncio.run(exchange(port, HEAD, *(b"X-%d: a\r\n" % i for i in range(20_000))))
        assert many == b"" or many.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400"))


@pytest.mark.parametrize(
    "parts", [(), (b"GET / HT",), (HEAD,), (HEAD + b"Content-Length: 50\r\n\r\n", b"abc")], ids=lambda p: str(len(p))
)
def test_a_request_that_does_not_arrive_in_time_is_ended(bounded: Any, parts: tuple[bytes, ...]) -> None:
    with bounded(header_seconds=0.2, body_seconds=0.2) as (port, _):
        assert asyncio.run(exchange(port, *parts)).startswith(b"HTTP/1.1 408")


def test_what_arrives_in_time_is_answered_however_it_is_cut_and_large_bodies_are_no_headers(bounded: Any) -> None:
    with bounded(header_seconds=20, body_seconds=20) as (port, limits), httpx.Client(trust_env=False) as client:
        for _ in range(3):
            reply = client.post(f"http://127.0.0.1:{port}/", content=b"x" * 3_000_000)
            assert (reply.status_code, reply.text) == (200, "3000000")
        whole = HEAD + b"Content-Length: 300000\r\n\r\n" + b"x" * 300_000
        for cut in (1, 20, len(HEAD) + 24, len(HEAD) + 26):
            assert asyncio.run(exchange(port, whole[:cut], whole[cut:])).startswith(b"HTTP/1.1 200")
        assert limits.unfinished_bytes == 0


def test_bodies_that_never_end_are_bounded_together_and_their_memory_is_given_back(bounded: Any) -> None:
    async def main(port: int) -> list[bytes]:
        head = HEAD + b"Content-Length: 999999999\r\n\r\n"
        return await asyncio.gather(*(exchange(port, head, b"x" * 600_000) for _ in range(6)))

    with bounded(max_unfinished_bytes=2_000_000, body_seconds=0.5) as (port, limits):
        replies = asyncio.run(main(port))
        # Some are refused at once for the sum; the rest run out of time.
        assert all(r == b"" or r.startswith((b"HTTP/1.1 503", b"HTTP/1.1 408")) for r in replies)
        assert any(not r.startswith(b"HTTP/1.1 408") for r in replies)
        with httpx.Client(trust_env=False) as client:
            assert client.post(f"http://127.0.0.1:{port}/", content=b"ok").text == "2"
        assert limits.unfinished_bytes == 0


def test_more_connections_than_allowed_are_refused_and_those_that_are_open_go_on(bounded: Any) -> None:
    async def main(port: int) -> None:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
        await asyncio.sleep(0.1)
        refused = await exchange(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert refused == b"" or refused.startswith(b"HTTP/1.1 503")
        reader, writer = idle[0]
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        for _, writer in idle:
            writer.close()

    with bounded(max_connections=5) as (port, _):
        asyncio.run(main(port))


def test_connections_that_say_nothing_cost_no_parser_and_end_in_time(bounded: Any) -> None:
    async def main(port: int) -> list[bytes]:
        streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(40)]
        async with asyncio.timeout(10):
            replies = await asyncio.gather(*(reader.read() for reader, _ in streams))
        for _, writer in streams:
            writer.close()
        return replies

    with bounded(header_seconds=0.3) as (port, _):
        assert all(reply.startswith(b"HTTP/1.1 408") for reply in asyncio.run(main(port)))


def test_a_server_that_stops_closes_silent_connections(bounded: Any) -> None:
    async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", port)

    with asyncio.Runner() as runner:
        with bounded() as (port, _):
            reader, writer = runner.run(connect(port))
        assert runner.run(asyncio.wait_for(reader.read(), 10)) == b""
        writer.close()


def test_more_headers_than_allowed_are_refused(bounded: Any) -> None:
    def asked(num: int) -> bytes:
        return b"GET / HTTP/1.1\r\nhost: x\r\n" + b"".join(b"x-%d: y\r\n" % i for i in range(num - 1)) + b"\r\n"

    with bounded(max_headers=20) as (port, _):
        assert asyncio.run(exchange(port, asked(20))).startswith(b"HTTP/1.1 200")
        assert asyncio.run(exchange(port, asked(21))).startswith(b"HTTP/1.1 431")


def test_an_offer_of_another_protocol_costs_a_request_nothing(bounded: Any) -> None:
    """Java's HTTP client offers HTTP/2 with its first request, and httptools drops the body of such a one."""
    offer = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAEA"}
    with bounded() as (port, _):
        assert httpx.post(f"http://127.0.0.1:{port}/", content=b"12345", headers=offer, trust_env=False).text == "5"


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x00\xf6\x01 TLS \r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n"])
def test_what_is_no_http_is_told_so_in_json(bounded: Any, sent: bytes) -> None:
    with bounded() as (port, _):
        head, _, body = asyncio.run(exchange(port, sent)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["error"]["type"] == "invalid_request_error"
