"""Odd days of a provider, each with what the client must make of it: written down before any was tried.

All days are lived through at once, each by a client of its own with three questions in a row.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from s1kit.journal import Journal
from s1kit.providers.chat import Problem, Stopped
from s1kit.providers.client import open_client
from tests.servers.odd_server import FOREVER, RESET, OddServer, Part, Script

GOOD = {
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"content": "4", "reasoning_content": "hm"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14},
}
BODY = json.dumps(GOOD).encode()
EVENTS = [
    {"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {"content": "4"}, "finish_reason": "stop"}]},
    {"choices": [], "usage": GOOD["usage"]},
]
FAILED = {"error": {"message": "Provider returned error", "code": 502}}


def sse(*events: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


STREAM = sse(*EVENTS) + b"data: [DONE]\n\n"
PAGE = b"<!DOCTYPE html><html><title>Sign in</title></html>"


def http(body: bytes = BODY, status: str = "200 OK", kind: str = "application/json", **headers: str) -> bytes:
    named = {"Content-Type": kind, "Content-Length": str(len(body))} | {
        n.replace("_", "-"): v for n, v in headers.items()
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items() if value)
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body


def chunked(*pieces: bytes, kind: str = "text/event-stream", end: bytes = b"0\r\n\r\n", **headers: str) -> bytes:
    head = http(b"", kind=kind, Content_Length="", Transfer_Encoding="chunked", **headers)
    return head + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + end


def error(status: str, message: str, code: str = "", **headers: str) -> bytes:
    return http(json.dumps({"error": {"message": message, "code": code}}).encode(), status, **headers)


def always(*parts: Part) -> Script:
    return lambda number, head: list(parts)


def at(which: int, *parts: Part) -> Script:
    """So at one request, and well at all others."""
    return lambda number, head: list(parts) if number == which else [http()]


def from_(which: int, *parts: Part) -> Script:
    return lambda number, head: list(parts) if number >= which else [http()]


def soon(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


class Day(NamedTuple):
    script: Script
    outcome: str = "aaa"
    """Of the three questions: a(nswer), s(topped), p(roblem of this question alone)."""
    num_requests: int = 3
    says: str = ""
    """Words of the last message."""
    seconds: float = 30.0
    """It is over by then."""
    at_least: float = 0.0
    timeout: float = 60.0


DAYS: dict[str, Callable[[], Day]] = {
    "slow headers": lambda: Day(always(0.2, http()), at_least=0.6),
    "a page of a login for one request": lambda: Day(at(1, http(PAGE, kind="text/html")), num_requests=4),
    "the key is revoked": lambda: Day(from_(2, error("401 X", "Incorrect API key provided")), "aas", 3, "key"),
    "the model is renamed": lambda: Day(
        from_(2, error("404 X", "The model `m` does not exist", "model_not_found")), "aas", 3, "does not exist"),
    "a balancer's page for one request": lambda: Day(
        at(1, http(b"default backend - 404", "404 Not Found", "text/plain")), num_requests=4),
    "a wrong address": lambda: Day(always(http(b"404 page not found", "404 X", "text/plain")), "sss", 1),
    "wait until yesterday": lambda: Day(at(1, error("429 X", "slow", Retry_After=soon(-86400))), num_requests=4),
    "wait until a moment": lambda: Day(
        at(1, error("429 X", "slow", Retry_After=soon(2))), num_requests=4, at_least=0.5),
    "wait a negative time": lambda: Day(at(1, error("429 X", "slow", Retry_After="-5")), num_requests=4),
    "wait soon": lambda: Day(at(1, error("429 X", "slow", Retry_After="soon")), num_requests=4),
    "wait until a second since 1970": lambda: Day(
        at(1, error("429 X", "slow", Retry_After=str(int(time.time()) + 2))), num_requests=4, at_least=0.5),
    "wait a time that the message tells": lambda: Day(
        at(1, error("429 X", "Rate limit reached. Please try again in 2.2s.")), num_requests=4, at_least=2.2),
    "wait a time that Azure's message tells": lambda: Day(
        at(1, error("429 X", "Requests have exceeded the rate limit. Please retry after 1 second.")), num_requests=4,
        at_least=0.9),
    "a limit's end in milliseconds": lambda: Day(always(http(
        x_ratelimit_limit_requests="1000", x_ratelimit_remaining_requests="7", x_ratelimit_reset_requests="17ms"))),
    "a limit's end since 1970": lambda: Day(always(http(
        x_ratelimit_limit_requests="6000", x_ratelimit_remaining_requests="0",
        x_ratelimit_reset_requests=str(int(time.time()) + 1)))),
    "limits of nothing": lambda: Day(always(http(
        x_ratelimit_limit_requests="0", x_ratelimit_remaining_requests="-1", x_ratelimit_limit_tokens="0",
        x_ratelimit_remaining_tokens="-1", x_ratelimit_reset_requests="0"))),
    "limits without number": lambda: Day(always(http(
        x_ratelimit_limit_requests="unlimited", x_ratelimit_remaining_requests="unlimited"))),
    "reset after the whole body": lambda: Day(always(http(), 0.02, RESET)),
    "reset after the whole stream": lambda: Day(always(chunked(STREAM, end=b""), 0.02, RESET)),
    "a stream in chunks without an end": lambda: Day(always(chunked(STREAM, end=b"", Connection="close"))),
    "a body in chunks without an end": lambda: Day(
        always(chunked(BODY, kind="application/json", end=b"", Connection="close"))),
    "a stream whose connection stays open": lambda: Day(always(chunked(STREAM, end=b""), FOREVER)),
    "gzip": lambda: Day(always(http(gzip.compress(BODY), Content_Encoding="gzip"))),
    "a stream in gzip": lambda: Day(always(chunked(gzip.compress(STREAM), Content_Encoding="gzip"))),
    "deflate": lambda: Day(always(http(zlib.compress(BODY), Content_Encoding="deflate"))),
    "gzip that is none": lambda: Day(at(1, http(Content_Encoding="gzip")), num_requests=4),
    "an encoding that nobody asked for": lambda: Day(
        at(1, http(b"\x28\xb5\x2f\xfd\x04\x58", Content_Encoding="zstd")), num_requests=4),
    "a length beyond the body": lambda: Day(always(http(Content_Length=str(len(BODY) + 9), Connection="close"))),
    "a length within the body": lambda: Day(
        at(1, http(Content_Length="40", Connection="close")), num_requests=4),
    "a redirect": lambda: Day(
        always(http(b"", "307 X", Location="https://other.example/v1/chat")), "sss", 1, "other.example"),
    "a permanent redirect": lambda: Day(always(http(b"", "308 X", Location="/v2/chat")), "sss", 1, "redirect"),
    "a redirect to a login in the middle": lambda: Day(
        from_(1, http(b"", "302 Found", Location="https://sso.example/login")), "ass", 2, "sso.example"),
    "HTTP/1.0": lambda: Day(always(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + BODY)),
    "nothing once": lambda: Day(at(1, http(b"")), num_requests=4),
    "no content once": lambda: Day(at(1, http(b"", "204 No Content", Content_Length="")), num_requests=4),
    "accepted once": lambda: Day(
        at(1, http(b"", "202 Accepted", NVCF_REQID="r", NVCF_STATUS="pending")), num_requests=4),
    "closed before a byte": lambda: Day(at(1, RESET), num_requests=4),
    "closed after each reply without a word": lambda: Day(always(http(), RESET)),
    "a header of 20 KB": lambda: Day(always(http(Content_Security_Policy="x" * 20_000))),
    "200 headers": lambda: Day(always(http(**{f"X_Trace_{n}": "y" * 50 for n in range(200)}))),
    "a cookie that is none": lambda: Day(always(http(Set_Cookie="a b=\x01; Domain=;;"))),
    "early hints": lambda: Day(always(b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n", http())),
    "no reason phrase": lambda: Day(always(b"HTTP/1.1 200\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY))),
    "a stream without its type": lambda: Day(always(chunked(STREAM, kind="application/octet-stream"))),
    "a stream that is silent for a while": lambda: Day(
        always(http(STREAM[:40], kind="text/event-stream", Content_Length="", Connection="close"), 0.3, STREAM[40:],
               b"\n\nConnection: close"), at_least=0.9),
    "a stream that is cut once": lambda: Day(
        at(1, http(STREAM[:100], kind="text/event-stream", Content_Length="", Connection="close")), num_requests=4),
    "a stream that breaks off with an error once": lambda: Day(
        at(1, chunked(b'data: {"error": {"message": "Overloaded", "type": "overloaded_error"}}\n\n')), num_requests=4),
    "a stream of which an event is broken once": lambda: Day(
        at(1, chunked(sse(EVENTS[0]), b'data: {"choices": [{"ind\n\n', sse(*EVENTS[1:]))), num_requests=4),
    "a stream that breaks off with an error after a part once": lambda: Day(
        at(1, chunked(sse(EVENTS[0], FAILED))), num_requests=4),
    "an error after the whole reply": lambda: Day(always(chunked(sse(*EVENTS, FAILED)))),
    "no empty line between events": lambda: Day(always(chunked(STREAM.replace(b"\n\n", b"\n") + b"\n"))),
    "a locked model once": lambda: Day(at(1, error("423 Locked", "the resource is locked")), num_requests=4),
    "a quota of the day that says not when it is back": lambda: Day(
        from_(2, error("429 X", "request reached organization TPD rate limit, current: 9, limit: 8")), "aas", 3, "TPD"),
    "an empty account as a fault of the server": lambda: Day(
        from_(2, error("500 X", "insufficient balance (1008)")), "aas", 3, "Fill the account"),
    "a proxy that wants a password": lambda: Day(
        always(http(b"", "407 Proxy Authentication Required")), "sss", 1, "HTTPS_PROXY"),
    "UTF-16": lambda: Day(always(http(json.dumps(GOOD).encode("utf-16")))),
    "empty lines before the reply": lambda: Day(always(http(b"\n\n  \n" + BODY))),
    "comments before the reply": lambda: Day(always(http(b": keep-alive\n\n: keep-alive\n\n" + BODY))),
    "silence once": lambda: Day(at(1, http(b"", Content_Length="100"), FOREVER), num_requests=4, timeout=4.0),
    "too large for the proxy": lambda: Day(
        at(1, http(b"<html>413 Request Entity Too Large</html>", "413 X", "text/html")), "apa", 3),
    "misdirected once": lambda: Day(at(1, http(b"", "421 Misdirected Request")), num_requests=4),
    "a gateway's page once": lambda: Day(
        at(1, http(b"<html>502 Bad Gateway</html>", "502 X", "text/html")), num_requests=4),
    "Cloudflare's limit once": lambda: Day(at(1, http(b"error code: 1015", "429 X", "text/plain")), num_requests=4),
    "overloaded once": lambda: Day(at(1, error("529 X", "Overloaded")), num_requests=4),
}  # fmt: skip


class Lived(NamedTuple):
    outcome: str
    num_requests: int
    said: str
    seconds: float
    replies: list[Any]


async def live(day: Day, folder: Path) -> Lived:
    outcome, said, replies, begun = "", "", [], time.monotonic()
    async with OddServer(day.script) as server:
        with Journal(folder / "journal.sqlite") as journal:
            reference = f"chat:{server.base_url}#m"
            async with open_client(reference, journal, price="free", timeout_seconds=day.timeout) as client:
                for n in range(3):
                    try:
                        replies.append(await client.chat([{"role": "user", "content": f"{n}?"}]))
                        outcome += "a"
                    except Stopped as stop:
                        outcome, said = f"{outcome}s", str(stop)
                    except Problem as problem:
                        outcome, said = f"{outcome}p", str(problem)
        return Lived(outcome, server.num_requests, said, time.monotonic() - begun, replies)


@cache
def all_days(root: Path) -> dict[str, tuple[Day, Lived]]:
    async def run() -> dict[str, tuple[Day, Lived]]:
        days = {name: make() for name, make in DAYS.items()}
        folders = [root / str(n) for n in range(len(days))]
        for folder in folders:
            folder.mkdir()
        lives = [asyncio.wait_for(live(*each), 40.0) for each in zip(days.values(), folders, strict=True)]
        found = await asyncio.gather(*lives, return_exceptions=True)
        lived = [each if isinstance(each, Lived) else Lived(repr(each), 0, "", 99.0, []) for each in found]
        return dict(zip(days, zip(days.values(), lived, strict=True), strict=True))

    return asyncio.run(run())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("days")


@pytest.mark.parametrize("name", DAYS)
def test_an_odd_day_is_lived_through(root: Path, name: str) -> None:
    day, lived = all_days(root)[name]
    assert (lived.outcome, lived.num_requests) == (day.outcome, day.num_requests), lived.said
    assert day.says in lived.said
    assert day.at_least <= lived.seconds <= day.seconds
    for reply in lived.replies:
        assert (reply.thinking, reply.answer, reply.finish_reason) == ("hm", "4", "stop")
        assert reply.usage.output_tokens == 5
