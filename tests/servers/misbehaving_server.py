"""A completions server that writes its replies in every way that was seen or is conceivable.

    server = MisbehavingServer(tokenizer, next_id, "vllm")
    async with server.running() as url:     f"{url}/{name}" is the base URL of one behaviour

`LEGAL` are framings that must not matter. `WRONG` are behaviours that must be told as a failure, with its kind.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

from servers.scripted_upstream import NextId, ScriptedUpstream

Events = list[dict[str, Any]]
Part = bytes | float
"""Bytes to write, or seconds to wait. A server that waits for ever does so until its client leaves."""
FOREVER = float("inf")

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
_CHUNKED = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
_PLAIN = _HEAD + b"Connection: close\r\n\r\n"


def _dump(event: Any) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode()


def _events(events: Iterable[Any]) -> bytes:
    return b"".join(b"data: " + _dump(e) + b"\n\n" for e in events)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _whole(body: bytes, kind: str = "application/json", status: int = 200, more: str = "") -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def _joined(events: Events) -> dict[str, Any]:
    """The reply in one piece that a stream adds up to."""
    whole = dict(events[-1]["choices"][0])
    whole["text"] = "".join(e["choices"][0]["text"] for e in events)
    if "token_ids" in whole:
        whole["token_ids"] = [i for e in events for i in e["choices"][0]["token_ids"]]
    return {"choices": [whole], "error": None}


def _with(events: Events, **more: Any) -> Events:
    return [{**e, "choices": [{**c, **more} for c in e["choices"]]} for e in events]


def _pretty(events: Events) -> bytes:
    """Each event over many `data:` lines."""
    out = b""
    for event in events:
        text = json.dumps(event, indent=1, ensure_ascii=False).encode()
        out += b"".join(b"data: " + line + b"\n" for line in text.split(b"\n")) + b"\n"
    return out


def _textless(events: Events) -> Events:
    """Null texts, null ids and events without choices among the others."""
    idle: Events = [{"choices": [{"index": 0, "text": None, "token_ids": None, "finish_reason": None}]}]
    return [e for event in events for e in (*idle, {"choices": None}, {"usage": {}}, {"choices": []}, event)]


def _late(events: Events) -> Events:
    """Each text comes with the ids of the next event."""
    texts = [e["choices"][0]["text"] for e in events]
    shifted = ["", *texts[:-2], "".join(texts[-2:])] if len(texts) > 1 else texts
    return [{**e, "choices": [{**e["choices"][0], "text": text}]} for e, text in zip(events, shifted, strict=True)]


def _end_apart(events: Events) -> Events:
    """The finish reason in an event of its own, without text."""
    last = events[-1]["choices"][0]
    ids = {"token_ids": []} if "token_ids" in last else {}
    end = {"index": 0, "text": "", "finish_reason": last["finish_reason"], "stop_reason": last.get("stop_reason")}
    return [*events[:-1], *_with(events[-1:], finish_reason=None, stop_reason=None), {"choices": [end | ids]}]


def _matched(events: Events) -> Events:
    """SGLang's name for what stopped it, null until then."""
    choices = [dict(e["choices"][0]) for e in events]
    return [{"choices": [{**c, "matched_stop": c.pop("stop_reason", None)}]} for c in choices]


_DONE = b"data: [DONE]\n\n"
LEGAL: dict[str, Callable[[Events], list[Part]]] = {
    "as usual": lambda e: [_CHUNKED, _chunk(_events(e) + _DONE), b"0\r\n\r\n"],
    "an event a packet": lambda e: [_PLAIN, *(p for x in e for p in (_events([x]), 0.0)), _DONE],
    "a byte a packet": lambda e: [_PLAIN, *(p for b in _events(e) for p in (bytes([b]), 0.0))],
    "crlf": lambda e: [_PLAIN, _events(e).replace(b"\n", b"\r\n")],
    "crlf cut in two": lambda e: [_PLAIN, *(p for b in _events(e).split(b"\n") for p in (b + b"\r", 0.001, b"\n"))],
    "cr": lambda e: [_PLAIN, _events(e).replace(b"\n", b"\r")],
    "byte order mark": lambda e: [_PLAIN, b"\xef", 0.001, b"\xbb\xbf" + _events(e) + _DONE],
    "several data lines": lambda e: [_PLAIN, _pretty(e) + _DONE],
    "no blank lines": lambda e: [_PLAIN, _events(e).replace(b"\n\n", b"\n")],
    "no space after data": lambda e: [_PLAIN, _events(e).replace(b"data: ", b"data:")],
    "comments and fields": lambda e: [
        _PLAIN,
        b": hello\n\nretry: 10\n\n" + b"".join(b"event: x\nid: 1\n" + _events([x]) + b":\n\n" for x in e),
    ],
    "nothing after the last": lambda e: [_PLAIN, _events(e).rstrip()],
    "done without a blank line": lambda e: [_PLAIN, _events(e) + b"data: [DONE]"],
    "error null": lambda e: [_PLAIN, _events([{**x, "error": None} for x in e])],
    "nulls and events without choices": lambda e: [_PLAIN, _events(_textless(e))],
    "no index": lambda e: [
        _PLAIN,
        _events([{"choices": [{k: v for k, v in x["choices"][0].items() if k != "index"}]} for x in e]),
    ],
    "fields nobody knows": lambda e: [_PLAIN, _events(_with(e, weight=1.5, nested={"a": [None]}))],
    "finish reason empty until the end": lambda e: [_PLAIN, _events([*_with(e[:-1], finish_reason=""), e[-1]])],
    "usage after the end": lambda e: [_PLAIN, _events([*e, {"choices": [], "usage": {"total_tokens": 3}}]) + _DONE],
    "one json object": lambda e: [_whole(_dump(_joined(e)))],
    "one json object with a byte order mark": lambda e: [_whole(b"\xef\xbb\xbf" + _dump(_joined(e)))],
    "one json object of no type": lambda e: [_whole(_dump(_joined(e)), "application/octet-stream")],
    "chunks with extensions": lambda e: [
        _CHUNKED,
        b"%x;a=b\r\n%s\r\n" % (len(_events(e)), _events(e)),
        b"0\r\n\r\n",
    ],
    "connection left open": lambda e: [_CHUNKED, _chunk(_events(e)), FOREVER],
    "events of another type": lambda e: [_whole(_events(e) + _DONE, "text/plain; charset=utf-8")],
    "type in capitals": lambda e: [
        b"HTTP/1.1 200 OK\r\ncontent-type: Text/Event-Stream; Charset=UTF-8\r\nConnection: close\r\n\r\n",
        _events(e),
    ],
    "http 1.0": lambda e: [b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", _events(e) + _DONE],
    "gzip": lambda e: [
        _HEAD + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n",
        gzip.compress(_events(e) + _DONE),
    ],
    "a choice without a text": lambda e: [_PLAIN, _events([{"choices": [{"index": 0}]}, *e])],
    "error empty": lambda e: [_PLAIN, _events([{**x, "error": {}} for x in e])],
    "done without a space": lambda e: [_PLAIN, _events(e) + b"data:[DONE]\n\n"],
    "spaces after the data": lambda e: [_PLAIN, _events(e).replace(b"}\n\n", b"} \t\n\n")],
    "more after done": lambda e: [_PLAIN, _events(e) + _DONE + b"data: {nonsense\n\n"],
    "the end said twice": lambda e: [_PLAIN, _events([*e, *_with(e[-1:], text="", token_ids=[])]) + _DONE],
    "informational reply first": lambda e: [b"HTTP/1.1 103 Early Hints\r\n\r\n", _PLAIN, _events(e)],
    "line separators inside a string": lambda e: [_PLAIN, _events(_with(e, note="a\u2028b\u0085c\u2029d"))],
    "tokens after the end": lambda e: [_PLAIN, _events([*e, *_with(e[:1], finish_reason=None)]) + _DONE],
    "another end after the end": lambda e: [_PLAIN, _events([*e, *_with(e[-1:], finish_reason="length")])],
    "a trailer": lambda e: [_CHUNKED, _chunk(_events(e) + _DONE), b"0\r\nX-Checksum: a\r\n\r\n"],
    "the prompt's ids beside": lambda e: [_PLAIN, _events(_with(e, prompt_token_ids=[1, 2], prompt_logprobs=None))],
    "line breaks between events": lambda e: [_PLAIN, b"\n\n\n" + _events(e).replace(b"\n\n", b"\n\n\n\n") + _DONE],
    "a semicolon after the type": lambda e: [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream;charset=utf-8;\r\nConnection: close\r\n\r\n",
        _events(e),
    ],
    "no type": lambda e: [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", _events(e) + _DONE],
    "pings with a body": lambda e: [_PLAIN, *(b"event: ping\ndata: {}\n\n" + _events([x]) for x in e)],
    "empty data": lambda e: [_PLAIN, *(b"data:\n\ndata: \n\n" + _events([x]) for x in e)],
    "closed after the end": lambda e: [_CHUNKED, _chunk(_events(e))],
    "padded comments": lambda e: [_PLAIN, *(b": " + b" " * 4096 + b"\n\n" + _events([x]) for x in e)],
    "spaces before the data": lambda e: [_PLAIN, _events(e).replace(b"data: ", b"data:   ")],
    "the end in an event of its own": lambda e: [_PLAIN, _events(_end_apart(e)) + _DONE],
    "text an event late": lambda e: [_PLAIN, _events(_late(e)) + _DONE],
    "deflate": lambda e: [
        _HEAD + b"Content-Encoding: deflate\r\nConnection: close\r\n\r\n",
        zlib.compress(_events(e) + _DONE),
    ],
    "error false": lambda e: [_PLAIN, _events([{**x, "error": False} for x in e])],
    "usage in every event": lambda e: [_PLAIN, _events([{**x, "usage": {"completion_tokens": 1}} for x in e])],
    "usage null in every event": lambda e: [
        _PLAIN,
        _events([{**x, "usage": None, "timings": {"n": 1}} for x in e]) + _DONE,
    ],
    "the stop by sglang's name": lambda e: [_PLAIN, _events(_matched(e)) + _DONE],
    "progress of the prompt first": lambda e: [
        _PLAIN,
        _events(
            [{"choices": [{"index": 0, "text": ""}], "prompt_progress": {"total": 9, "processed": n}} for n in (3, 9)]
        ),
        _events(e),
    ],
    "log probabilities of nothing": lambda e: [
        _PLAIN,
        _events(_with(e, logprobs={"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []})),
    ],
    "log probabilities as of a chat": lambda e: [_PLAIN, _events(_with(e, logprobs={"content": []}))],
    "a name for every event": lambda e: [
        _PLAIN,
        b"".join(b"event: completion\nid: 7\n" + _events([x]) for x in e) + b"event: done\n" + _DONE,
    ],
    "done and spaces": lambda e: [_PLAIN, _events(e) + b"data: [DONE] \n\n"],
    "pings before the first": lambda e: [_PLAIN, *(b": ping\n\n", 0.01) * 5, _events(e)],
}


def _one(**fields: Any) -> bytes:
    return _PLAIN + _events([{"choices": [{"index": 0, "text": "x", "token_ids": [120], **fields}]}])


def _status(status: int, said: str = "Bearer sesame") -> list[Part]:
    return [_whole(_dump({"error": {"message": said}}), status=status, more="Retry-After: 7\r\n")]


_TOKEN = _events([{"choices": [{"index": 0, "text": "x", "token_ids": [120], "finish_reason": None}]}])
_PING = b": ping\n\n"
_EMPTY = _events([{"choices": [{"index": 0, "text": "", "token_ids": [], "finish_reason": None}]}])
_USAGE = _events([{"choices": [], "usage": {"total_tokens": 1}}])


def _delta(finish: str | None = None, **delta: str) -> bytes:
    return _events([{"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}])


_CHAT = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}]}

WRONG: dict[str, tuple[str, list[Part]]] = {
    **{f"status {s}": ("refused", _status(s)) for s in (400, 413, 422)},
    **{f"status {s}": ("unauthorised", _status(s)) for s in (401, 403)},
    "status 404": ("unknown_model", _status(404)),
    **{f"status {s}": ("full", _status(s)) for s in (429, 503)},
    **{f"status {s}": ("failed", _status(s)) for s in (201, 301, 402, 405, 408, 409, 418, 500, 501, 502, 504, 599)},
    "a redirect": ("failed", [_whole(b"", status=302, more="Location: http://127.0.0.1:9/\r\n")]),
    "an error body that is not utf-8": ("failed", [_whole(b"\xff\xfe", status=500)]),
    "a web page": ("nonsense", [_whole(b"<html>hello</html>", "text/html")]),
    "an empty body": ("nonsense", [_whole(b"")]),
    "a json list": ("nonsense", [_whole(b"[]")]),
    "a json string": ("nonsense", [_whole(b'"hello"')]),
    "json a million deep": ("nonsense", [_whole(b"[" * 1_000_000)]),
    "json without choices": ("nonsense", [_whole(b'{"id": "x"}')]),
    "json with choices null": ("nonsense", [_whole(b'{"choices": null}')]),
    "json with no choice": ("nonsense", [_whole(b'{"choices": []}')]),
    "json with an error": ("failed", [_whole(b'{"error": {"message": "Bearer sesame"}}')]),
    "json without a finish reason": ("nonsense", [_whole(b'{"choices": [{"text": "x", "token_ids": [120]}]}')]),
    "choices that are an object": ("nonsense", [_PLAIN, _events([{"choices": {"text": "x"}}])]),
    "a choice that is null": ("nonsense", [_PLAIN, _events([{"choices": [None]}])]),
    "a choice that is a number": ("nonsense", [_PLAIN, _events([{"choices": [1]}])]),
    "a second choice": ("nonsense", [_one(index=1)]),
    "a text that is a number": ("nonsense", [_one(text=5)]),
    "a text that is a list": ("nonsense", [_one(text=["x"])]),
    "ids that are a string": ("nonsense", [_one(token_ids="120")]),
    "ids that are fractions": ("nonsense", [_one(token_ids=[1.5])]),
    "ids that are null inside": ("nonsense", [_one(token_ids=[None])]),
    "an id below nothing": ("nonsense", [_one(token_ids=[-1])]),
    "an id beyond all": ("nonsense", [_one(token_ids=[2**70])]),
    "log probabilities that are a number": ("nonsense", [_one(logprobs=3)]),
    "log probabilities of other tokens": ("nonsense", [_one(logprobs={"tokens": ["a"], "token_logprobs": []})]),
    "aborted": ("failed", [_one(finish_reason="abort")]),
    "an error as finish reason": ("failed", [_one(finish_reason="error")]),
    "filtered": ("failed", [_one(finish_reason="content_filter")]),
    **{
        f"finish reason {reason}": ("failed", [_one(finish_reason=reason)])
        for reason in ("timeout", "cancelled", "insufficient_system_resource", "model_length", "unknown")
    },
    "a finish reason that is an object": ("failed", [_one(finish_reason={"a": 1})]),
    "a finish reason that is a number": ("failed", [_one(finish_reason=1)]),
    "a stop reason that is a list": ("nonsense", [_one(finish_reason="stop", stop_reason=[1])]),
    "a stop reason that is true": ("nonsense", [_one(finish_reason="stop", stop_reason=True)]),
    "an error event": ("failed", [_PLAIN, _TOKEN, _events([{"error": {"message": "Bearer sesame"}}])]),
    "an error that is a string": ("failed", [_PLAIN, _events([{"error": "out of memory"}])]),
    "an error without a wrapper": (
        "failed",
        [_PLAIN, _TOKEN, _events([{"object": "error", "message": "Bearer sesame", "code": 500}]) + _DONE],
    ),
    "an error body without a wrapper": ("failed", [_whole(b'{"object": "error", "message": "out of memory"}')]),
    "an error field": ("failed", [_PLAIN, _TOKEN, b'error: {"code": 500, "message": "Bearer sesame"}\n\n', _DONE]),
    "an error event by name": (
        "failed",
        [_PLAIN, _TOKEN, b'event: error\ndata: {"message": "Bearer sesame"}\n\n', _DONE],
    ),
    "half a surrogate pair": ("nonsense", [_PLAIN, b'data: {"choices": [{"text": "\\ud83d"}]}\n\n']),
    "length at once, for ever": ("nonsense", [_one(text="", token_ids=[], finish_reason="length")]),
    "an event that is not json": ("nonsense", [_PLAIN, _TOKEN, b"data: {nonsense\n\n"]),
    "an event that is not utf-8": ("nonsense", [_PLAIN, b'data: {"choices":[{"text":"\xff\xfe"}]}\n\n']),
    "an event that is a list": ("nonsense", [_PLAIN, b"data: []\n\n"]),
    "an event that is null": ("nonsense", [_PLAIN, b"data: null\n\n"]),
    "an event without an end": ("nonsense", [_PLAIN, b"data: ", *(b"x" * (1 << 20),) * 10]),
    "a stream without events": ("died", [_PLAIN]),
    "done at once": ("died", [_PLAIN, _DONE]),
    "no finish reason": ("died", [_PLAIN, _TOKEN, _DONE]),
    "closed inside an event": ("nonsense", [_PLAIN, _TOKEN, _TOKEN[:20]]),
    "closed between chunks": ("died", [_CHUNKED, _chunk(_TOKEN)]),
    "closed before the length": ("died", [_HEAD + b"Content-Length: 5000\r\n\r\n", _TOKEN]),
    "closed inside the header": ("died", [b"HTTP/1.1 200 OK\r\nContent-"]),
    "closed at once": ("died", []),
    "no http": ("died", [b"SSH-2.0-OpenSSH_9.6\r\n\r\n"]),
    "a header that is none": ("died", [b"HTTP/1.1 200 OK\r\n\x00: 1\r\n\r\n"]),
    "a chunk that is none, then nothing": ("silent", [_CHUNKED, _chunk(_TOKEN), 0.02, b"zz\r\n", FOREVER]),
    "a chunk that is none, then closed": ("died or silent", [_CHUNKED, _chunk(_TOKEN), 0.02, b"zz\r\n"]),
    "a coding that is not kept": ("died", [_HEAD + b"Content-Encoding: gzip\r\n\r\n", _TOKEN]),
    "silent from the start": ("silent", [FOREVER]),
    "silent after the header": ("silent", [_CHUNKED, FOREVER]),
    "silent after a token": ("silent", [_CHUNKED, _chunk(_TOKEN), FOREVER]),
    "silent inside a body": ("silent", [b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", FOREVER]),
    "silent inside an error": ("failed", [b"HTTP/1.1 500 X\r\nContent-Length: 50\r\n\r\n{", FOREVER]),
    "a header a byte at a time": ("silent", [b"HTTP/1.1 200 OK\r\nX: ", *(b"a", 0.02) * 500]),
    "informational replies for ever": ("silent", [*(b"HTTP/1.1 100 Continue\r\n\r\n", 0.02) * 500]),
    "pings for ever": ("silent", [_PLAIN, _TOKEN, *(_PING, 0.02) * 500]),
    "pings without a pause": ("silent", [_PLAIN, _TOKEN, *(_PING * 100, 0.0005) * 9000]),
    "empty deltas for ever": ("silent", [_PLAIN, _TOKEN, *(_EMPTY, 0.02) * 500]),
    "usage for ever": ("silent", [_PLAIN, *(_USAGE, 0.02) * 500]),
    "status 204": ("failed", [b"HTTP/1.1 204 No Content\r\n\r\n"]),
    "status 206": ("failed", [_whole(_TOKEN, "text/event-stream", 206)]),
    "a switch of protocols": ("died or failed", [b"HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"]),
    "an informational reply, then closed": ("died", [b"HTTP/1.1 100 Continue\r\n\r\n"]),
    "two lengths": ("died", [_HEAD + b"Content-Length: 5\r\nContent-Length: 90\r\n\r\n", _TOKEN]),
    "a length below nothing": ("died", [_HEAD + b"Content-Length: -5\r\n\r\n", _TOKEN]),
    "a length that is a word": ("died", [_HEAD + b"Content-Length: many\r\n\r\n", _TOKEN]),
    "a header beyond all bounds": ("died", [b"HTTP/1.1 200 OK\r\nX: " + b"a" * (1 << 20) + b"\r\n\r\n", _TOKEN]),
    "a chunk larger than what follows": ("died", [_CHUNKED, b"fffff\r\n" + _TOKEN]),
    "a chunk of more than fits a number": ("died or silent", [_CHUNKED, b"f" * 40 + b"\r\n" + _TOKEN]),
    "trailers for ever": ("silent or died", [_CHUNKED, _chunk(_TOKEN), b"0\r\n", *(b"X: a\r\n", 0.02) * 500]),
    "an index that is a string": ("nonsense", [_one(index="0")]),
    "ids that are true": ("nonsense", [_one(token_ids=[True])]),
    "a number of 5,000 digits": (
        "nonsense",
        [_PLAIN, b'data: {"choices":[{"index":0,"text":"x","token_ids":[' + b"1" * 5000 + b"]}]}\n\n"],
    ),
    "an event a million deep": ("nonsense", [_PLAIN, b"data: " + b"[" * 1_000_000 + b"\n\n"]),
    "an event in utf-16": ("nonsense or died", [_PLAIN, _TOKEN.decode().encode("utf-16")]),
    "a comment without an end": ("nonsense", [_PLAIN, b": ", *(b"x" * (1 << 20),) * 10]),
    "a small body that swells": (
        "nonsense",
        [_HEAD + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n" + gzip.compress(b"x" * (1 << 26))],
    ),
    "a full server, said inside the stream": ("full", [_PLAIN, _events([{"error": {"code": 429, "message": "x"}}])]),
    "calls as finish reason": ("failed", [_one(finish_reason="tool_calls")]),
    "a full server behind a web page": ("full", [_whole(b"<html>", "text/html", 503)]),
    "full until a date": ("full", [_whole(b"", status=429, more="Retry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\n")]),
    "full until before now": ("full", [_whole(b"", status=429, more="Retry-After: -5\r\n")]),
    "full for ever": ("full", [_whole(b"", status=429, more=f"Retry-After: {'9' * 30}\r\n")]),
    "a list of details": ("refused", [_whole(_dump({"detail": [{"msg": "Bearer sesame"}]}), status=422)]),
    "a refusal that is a web page": ("refused", [_whole(b"<html>", "text/html", 400)]),
    "a login page": ("unauthorised", [_whole(b"<html>Bearer sesame", "text/html", 401)]),
    **{f"status {s}": ("failed", _status(s)) for s in (421, 425, 499, 520)},
    "status 529": ("full", _status(529)),
    "tls": ("died", [b"\x15\x03\x01\x00\x02\x02\x46"]),
    "frames of another http": ("died", [b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"]),
    "a coding that nobody asked for": ("died or nonsense", [_HEAD + b"Content-Encoding: br\r\n\r\n", _TOKEN]),
    "chunks and a length": (
        "died",
        [_HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", _chunk(_TOKEN)],
    ),
    "an event a byte at a time, for ever": ("silent", [_PLAIN, _TOKEN, b"data: {", *(b" ", 0.02) * 500]),
    "the same choice twice": (
        "nonsense",
        [_PLAIN, _events([{"choices": [{"index": 0, "text": "x", "token_ids": [120]}] * 2}])],
    ),
    "ids that are lists": ("nonsense", [_one(token_ids=[[120]])]),
    "an error in a choice": ("failed", [_one(error={"message": "Bearer sesame"})]),
    "an error that is a list": ("failed", [_PLAIN, _events([{"error": ["Bearer sesame"]}])]),
    "a detail alone": ("nonsense or failed", [_whole(b'{"detail": "Not Found"}')]),
    "chunks of a chat": ("nonsense", [_PLAIN, _delta(role="assistant"), _delta(content="x"), _delta("stop") + _DONE]),
    "a reply of a chat": ("nonsense", [_whole(_dump(_CHAT))]),
    "a response": ("nonsense", [_whole(b'{"object": "response", "output": [], "status": "completed"}')]),
    "tgi's own events": ("nonsense or died", [_PLAIN, b'data:{"index":1,"token":{"id":120,"text":"x"}}\n\n']),
    "ollama's own lines": ("nonsense", [_whole(b'{"response":"x"}\n{"done":true}\n', "application/x-ndjson")]),
    "a web page called a stream": ("died or nonsense", [_PLAIN, b"<html><body>502 Bad Gateway</body></html>"]),
    "an error outside of events": (
        "failed or died or nonsense",
        [_PLAIN, b'{"error": {"message": "Bearer sesame"}}'],
    ),
    "no route": ("nonsense", [_whole(b'{"message": "no Route matched with those values"}')]),
    "no success": ("nonsense", [_whole(b'{"success": false, "errors": [{"code": 1}], "result": null}')]),
    "an error beside a reply": ("full", [_whole(_dump({"error": {"code": 503}} | _CHAT))]),
    "a text that is true": ("nonsense", [_one(text=True)]),
    "a text that is an object": ("nonsense", [_one(text={"a": 1})]),
    "ids that are an object": ("nonsense", [_one(token_ids={"0": 120})]),
    "a stop reason that is a fraction": ("nonsense", [_one(finish_reason="stop", stop_reason=1.5)]),
    "an empty finish reason, then nothing": ("died", [_one(text="", token_ids=[], finish_reason="")]),
    "a finish reason of another maker": ("failed", [_one(finish_reason="RECITATION")]),
    "a finish reason that is a list": ("failed", [_one(finish_reason=["stop"])]),
    "a redirect to another scheme": ("failed", [_whole(b"", status=307, more="Location: https://127.0.0.1:9/\r\n")]),
    "a redirect to itself": ("failed", [_whole(b"", status=308, more="Location: /v1/completions\r\n")]),
    **{f"status {s}": ("failed", _status(s)) for s in (406, 411, 415, 424, 426, 431, 444, 451, 498, 507, 511)},
    **{f"status {s}": ("failed", _status(s)) for s in (522, 524, 526, 530)},
    "a model that is loading": ("full", [_whole(b'{"error": {"code": 503, "message": "Loading"}}', status=503)]),
    "a challenge": ("unauthorised", [_whole(b"<html>Just a moment...", "text/html", 403)]),
    "two replies": ("nonsense or died", [_whole(b'{"id": 1}'), _whole(b'{"id": 2}')]),
    "a null byte inside a text": ("nonsense", [_PLAIN, b'data: {"choices":[{"index":0,"text":"a\x00b"}]}\n\n']),
    "an event cut by a blank line": ("nonsense", [_PLAIN, b'data: {"choices":[{"index":0,\n\ndata: "text":"x"}]}\n\n']),
    "sglang's full queue": (
        "full",
        [_PLAIN, _events([{"error": {"object": "error", "type": "SERVICE_UNAVAILABLE", "code": 503}}]) + _DONE],
    ),
    "full after a token": ("full", [_PLAIN, _TOKEN, _events([{"error": {"code": "429", "message": "Bearer sesame"}}])]),
    "tgi's overload": ("full", [_PLAIN, _events([{"error": "Bearer sesame", "error_type": "overloaded"}])]),
    "an overload by name": ("full", [_PLAIN, b'event: error\ndata: {"error":{"type":"overloaded_error"}}\n\n']),
    "a model that is loading, in a field": ("full", [_PLAIN, b'error: {"code": 503, "type": "unavailable_error"}\n\n']),
    "a model that was unloaded": ("failed", [_PLAIN, _TOKEN, b'event: error\ndata: {"error":"Model unloaded."}\n\n']),
    "a refusal inside the stream": ("failed", [_PLAIN, _events([{"error": {"type": "BadRequestError", "code": 400}}])]),
    "an error whose code is a list": ("failed", [_PLAIN, _events([{"error": {"code": [503], "type": {"a": 1}}}])]),
    **{
        f"finish reason {reason}": ("failed", [_one(finish_reason=reason)])
        for reason in ("load", "unload", "preempted", "max_time", "repetition")
    },
    "an internal error in plain text": ("nonsense", [_whole(b"Internal Server Error", "text/plain")]),
    "aborted, then done": (
        "failed",
        [_PLAIN, _TOKEN, _one(text="", token_ids=[], finish_reason="abort")[len(_PLAIN) :], _DONE],
    ),
    "log probabilities of a chat that are none": (
        "nonsense",
        [_one(logprobs={"content": [{"token": "x"}]})],
    ),
    "log probabilities that are none": (
        "nonsense",
        [_PLAIN, b'data: {"choices":[{"text":"x","logprobs":{"tokens":["x"],"token_logprobs":[NaN]}}]}\n\n'],
    ),
}
WRONG_IDS: dict[str, tuple[str, list[Part]]] = {
    "an id beyond the vocabulary": ("nonsense", [_one(token_ids=[4_000_000], finish_reason="stop")]),
    "a stop reason beyond the vocabulary": ("nonsense", [_one(finish_reason="stop", stop_reason=4_000_000)]),
    "a stop reason below nothing": ("nonsense", [_one(finish_reason="stop", stop_reason=-1)]),
    "a stop that nobody asked for": ("nonsense", [_one(finish_reason="stop", stop_reason="nobody")]),
    "text without ids": ("nonsense", [_one(token_ids=None, finish_reason="length")]),
    "fewer tokens than length says": ("nonsense", [_one(finish_reason="length")]),
    "more tokens than asked for": ("nonsense", [_one(token_ids=[120] * 3000, finish_reason="length")]),
}
"""For servers that return ids."""


class MisbehavingServer:
    """One server; the first part of a request's path says how it behaves."""

    def __init__(self, tokenizer: Any, next_id: NextId, kind: str) -> None:
        self._scripted = ScriptedUpstream(tokenizer, next_id, owned_by=kind)
        self._tasks: set[asyncio.Task[Any]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=512)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._answer_all(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._answer(reader, writer):
                pass

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        name = head.split(" ", 2)[1].split("/")[1].replace("%20", " ").replace("%2C", ",")
        size = int(head.lower().partition("content-length:")[2].partition("\r\n")[0] or 0)
        asked = json.loads(await reader.readexactly(size)) if size else {}
        if name in LEGAL:
            events = self._scripted.events(asked)
            parts = LEGAL[name](events) if asked.get("stream") else [_whole(_dump(_joined(events)))]
        else:
            parts = (WRONG | WRONG_IDS)[name][1]
        left = asyncio.ensure_future(reader.read(1))
        try:
            for part in parts:
                if isinstance(part, bytes):
                    writer.write(part)
                    await writer.drain()
                else:
                    done, _ = await asyncio.wait((left,), timeout=None if part == FOREVER else part)
                    if done:
                        return False
        finally:
            left.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await left
        return name == "as usual"
