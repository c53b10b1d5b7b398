"""HTTP/1.1 replies in every shape a server may give them, over connections that stay open."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import pytest

from s1kit.errors import InputError
from s1kit.providers.connection import Connections, Raw

OK = b"HTTP/1.1 200 OK\r\n"
PACKED = gzip.compress(b"four")


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
T = TypeVar("T")


def against(serve: Serve, work: Callable[[Connections], Awaitable[T]]) -> T:
    """What `work` brings with connections to a server that serves each like this."""

    async def run() -> T:
        writers: list[asyncio.StreamWriter] = []

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                await serve(reader, writer)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        client = Connections(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", {"X-Key": "k"}, None)
        try:
            async with asyncio.timeout(10):
                return await work(client)
        finally:
            client.close()
            server.close()
            for writer in writers:
                writer.close()
            await asyncio.sleep(0.01)

    return asyncio.run(run())


async def read_request(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))


def exchange(replies: list[bytes], *, piece: int = 0, close: bool = False, num: int = 1) -> tuple[list[Raw], int]:
    """What `num` posts bring from a server that gives these replies in turn, and how many connections they took."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await read_request(reader)
            reply = replies.pop(0)
            for start in range(0, len(reply), piece or max(1, len(reply))):
                writer.write(reply[start : start + (piece or len(reply))])
                await asyncio.sleep(0)
            if close:
                writer.close()
                return

    async def work(client: Connections) -> list[Raw]:
        return [await client.request("POST", "/v1/a b?x=1", b"{}", {}) for _ in range(num)]

    return against(serve, work), connections


@pytest.mark.parametrize("piece", [0, 1, 7], ids=["whole", "byte by byte", "in pieces"])
@pytest.mark.parametrize(
    "reply",
    [
        OK + b"Content-Length: 4\r\n\r\nfour",
        OK + b"content-length:4\r\n\r\nfour",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nfo\r\n2;ext=1\r\nur\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n0\r\nTrailer: x\r\n\r\n",
        OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(PACKED) + PACKED,
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 4\r\n\r\nfour",
    ],
    ids=["length", "lower case", "chunked", "trailers", "gzip", "interim"],
)
def test_a_body_comes_whole_and_the_connection_is_used_again(reply: bytes, piece: int) -> None:
    got, connections = exchange([reply, reply, reply], piece=piece, num=3)
    assert [(status, body) for status, _, body in got] == [(200, b"four")] * 3
    assert connections == 1


def test_a_body_without_a_length_ends_with_its_connection() -> None:
    got, connections = exchange([b"HTTP/1.0 200 OK\r\n\r\nfour"] * 2, close=True, num=2)
    assert [body for _, _, body in got] == [b"four"] * 2
    assert connections == 2


def test_a_server_that_will_close_gets_a_new_connection_next_time() -> None:
    reply = OK + b"Connection: close\r\nContent-Length: 4\r\n\r\nfour"
    assert exchange([reply] * 2, num=2)[1] == 2


def test_a_status_without_a_body_has_none() -> None:
    assert exchange([b"HTTP/1.1 204 No Content\r\n\r\n"])[0][0][::2] == (204, b"")


@pytest.mark.parametrize(
    "reply",
    [
        OK + b"Content-Length: 9\r\n\r\nfour",
        OK + b"Transfer-Encoding: chunked\r\n\r\n9\r\nfour",
        OK,
        b"",
    ],
    ids=["short", "short chunk", "head only", "nothing"],
)
def test_a_reply_that_breaks_off_is_a_fault_of_the_connection(reply: bytes) -> None:
    with pytest.raises(ConnectionError, match="closed the connection before its reply was whole"):
        exchange([reply], close=True)


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        OK + b"Content-Length: many\r\n\r\n",
        OK + b"Content-Length: -4\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        OK + b"X: " + b"y" * 70_000,
    ],
    ids=["another protocol", "no number", "negative", "chunk size", "endless head"],
)
def test_what_is_not_http_is_a_fault_of_the_connection(reply: bytes) -> None:
    with pytest.raises(ConnectionError, match="does not speak HTTP"):
        exchange([reply])


def test_a_packed_body_that_cannot_be_unpacked_is_a_fault_of_the_connection() -> None:
    with pytest.raises(ConnectionError, match="cannot be unpacked"):
        exchange([OK + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nfour"])


def test_who_is_cancelled_leaves_no_connection_for_the_next() -> None:
    """Its reply would be taken for the next one's."""
    names = iter([b"first", b"later"])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await asyncio.sleep(0.05)
        writer.write(OK + b"Content-Length: 5\r\n\r\n" + next(names))

    async def work(client: Connections) -> bytes:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.request("POST", "/", b"{}", {}), 0.02)
        await asyncio.sleep(0.1)
        return (await client.request("POST", "/", b"{}", {}))[2]

    assert against(serve, work) == b"later"


def test_the_next_request_may_leave_before_whoever_waits_comes_to_run() -> None:
    order: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK + b"Content-Length: 4\r\n\r\nfour")

    async def work(client: Connections) -> None:
        await client.request("POST", "/", b"{}", {}, lambda: order.append("arrived"))
        order.append("read")

    against(serve, work)
    assert order == ["arrived", "read"]


def test_a_key_over_two_lines_cannot_smuggle_a_header() -> None:
    with pytest.raises(InputError, match="the key holds a line break") as caught:
        Connections("http://127.0.0.1:1", {"Authorization": "Bearer a\r\nX: b"}, None)
    assert "Bearer" not in str(caught.value)
