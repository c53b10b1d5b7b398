"""Server-sent events to completion chunks. Pure: bytes go in, chunks come out.

Follows the parsing rules of the HTML standard, section 9.2.6 (byte order mark, CR, LF and CRLF, comments, several
`data:` lines an event), and two habits of real servers: events that no blank line separates, and a last event that
none ends.
"""

from __future__ import annotations

import json
import math
from array import array
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json

from s1kit.completions.failure import ServerFailed

MAX_EVENT_BYTES = 8 << 20
_BOM = b"\xef\xbb\xbf"
_NATURAL = frozenset({"stop", "eos", "eos_token", "stop_sequence", "stop_token", "end_turn"})
"""Finish reasons that say the model or a stop ended it: OpenAI's, then those of TGI and others."""
_FULL = frozenset({"length", "max_tokens", "max_new_tokens"})


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The log probability of one sampled token and of its alternatives."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(slots=True)
class Chunk:
    """New text and ids of one completion, from one network read."""

    text: str = ""
    ids: array[int] = field(default_factory=lambda: array("I"))
    has_ids: bool = False
    """Whether any event carried `token_ids`, even an empty list."""
    finish: str | None = None
    """`stop` or `length` when it is over."""
    stop_reason: int | str | None = None
    """The id or string that stopped it, where the server says so. None: not said, or end of sequence."""
    logprobs: list[TokenLogprob] = field(default_factory=list)


class StreamReader:
    """The events of one streamed completion."""

    def __init__(self) -> None:
        self._held = b""
        self._is_first = True
        self.is_done = False
        """`[DONE]` was read."""

    def feed(self, data: bytes) -> Chunk:
        """The chunk that these bytes complete; empty where they complete nothing. Raises ServerFailed."""
        chunk = Chunk()
        data = self._held + data
        if self._is_first:
            if len(data) < len(_BOM) and _BOM.startswith(data):
                self._held = data
                return chunk
            self._is_first, data = False, data.removeprefix(_BOM)
        if b"\r" in data:
            # A CR at the very end may be half of a CRLF.
            tail = b"\r" if data.endswith(b"\r") else b""
            data = data[: len(data) - len(tail)].replace(b"\r\n", b"\n").replace(b"\r", b"\n") + tail
        *events, self._held = data.split(b"\n\n")
        if len(self._held) > MAX_EVENT_BYTES:
            raise ServerFailed("nonsense", f"an event of more than {MAX_EVENT_BYTES} bytes came")
        for event in events:
            if event[:7] != b"data: {" or b"\n" in event:
                self._read(event, chunk)
                continue
            # The usual event, without a detour: this runs for every token.
            if chunk.finish is not None or self.is_done:
                break
            try:
                found = from_json(event[5:])
            except ValueError as error:
                raise _unreadable(event) from error
            read_reply(found, chunk)
        return chunk

    def end(self) -> Chunk:
        """What the last bytes hold, where no blank line ended them. Raises ServerFailed."""
        chunk, held = Chunk(), self._held.removesuffix(b"\r").strip(b"\n")
        self._held = b""
        if held:
            self._read(held, chunk)
        return chunk

    def _read(self, event: bytes, chunk: Chunk) -> None:
        lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
        for line in event.split(b"\n"):
            # llama.cpp's server wrote `error: {...}` as a field of its own; others name the event.
            if line.startswith(b"error:") and not self.is_done:
                raise _reported(line[6:].decode("utf-8", "replace").strip())
            if line.replace(b" ", b"") == b"event:error" and not self.is_done:
                raise _reported(b"\n".join(lines).decode("utf-8", "replace"))
        if not lines:
            return
        joined = b"\n".join(lines)
        try:
            from_json(joined)
        except ValueError:
            for line in lines:
                self._read_data(line, chunk)
        else:
            self._read_data(joined, chunk)

    def _read_data(self, data: bytes, chunk: Chunk) -> None:
        if chunk.finish is not None or self.is_done:
            return
        try:
            found = from_json(data)
        except ValueError as error:
            if data.strip() in (b"", b"[DONE]"):
                self.is_done = bool(data.strip())
                return
            raise _unreadable(data) from error
        read_reply(found, chunk)


def read_reply(found: Any, chunk: Chunk) -> None:
    """Add a whole reply or one event to a chunk. Raises ServerFailed on what the protocol does not allow."""
    # Exact types and `in` rather than abstract types and `get`: this runs for every token.
    if type(found) is not dict:
        raise _nonsense("is not an object", found)
    if found.get("error"):
        raise _reported(found)
    choices = found.get("choices")
    if choices is None:
        # vLLM's error body: the object itself, not wrapped in `error`.
        if found.get("object") == "error":
            raise _reported(found)
        return
    if type(choices) is not list:
        raise _nonsense("has choices that are not a list", found)
    for choice in choices:
        _read_choice(choice, chunk, found)


def _read_choice(choice: Any, chunk: Chunk, found: Any) -> None:
    if type(choice) is not dict:
        raise _nonsense("has a choice that is not an object", found)
    if choice.get("index"):
        raise _nonsense("has a choice that was not asked for", found)
    if "text" in choice and (text := choice["text"]) is not None:
        if type(text) is not str:
            raise _nonsense("has a text that is not a string", found)
        chunk.text += text
    elif "delta" in choice or "message" in choice:
        # Read as a completion it would be one that ended at once, without a word.
        raise _nonsense("is that of a chat, where a completion was asked for", found)
    if "token_ids" in choice and (ids := choice["token_ids"]) is not None:
        _read_ids(ids, chunk, found)
    if "logprobs" in choice and choice["logprobs"] is not None:
        chunk.logprobs += _logprobs(choice["logprobs"], found)
    if choice.get("finish_reason"):
        _read_finish(choice, chunk, found)


def _read_ids(ids: Any, chunk: Chunk, found: Any) -> None:
    what = "has token_ids that are not ids"
    if type(ids) is not list:
        raise _nonsense(what, found)
    try:
        chunk.ids.extend(ids)
    except (TypeError, OverflowError) as error:
        raise _nonsense(what, found) from error
    chunk.has_ids = True


def _read_finish(choice: dict[str, Any], chunk: Chunk, found: Any) -> None:
    finish = choice["finish_reason"]
    # SGLang calls it matched_stop.
    reason = choice.get("stop_reason", choice.get("matched_stop"))
    if isinstance(finish, str) and finish in _FULL:
        chunk.finish = "length"
    elif isinstance(finish, str) and finish in _NATURAL:
        chunk.finish = "stop"
    else:
        raise ServerFailed("failed", f"it ended the completion with finish_reason {str(finish)[:40]!r}")
    if reason is not None and (isinstance(reason, bool) or not isinstance(reason, (int, str))):
        raise _nonsense("has a stop_reason that is neither an id nor a string", found)
    chunk.stop_reason = reason


def _logprobs(found: Any, reply: Any) -> list[TokenLogprob]:
    try:
        if "content" in found:
            # llama.cpp's server writes those of completions as OpenAI does those of chats.
            return [
                TokenLogprob(
                    one["token"],
                    _finite(one["logprob"]),
                    tuple((rival["token"], _finite(rival["logprob"])) for rival in one.get("top_logprobs") or ()),
                )
                for one in found["content"] or ()
            ]
        tops = found.get("top_logprobs") or [None] * len(found["tokens"])
        return [
            TokenLogprob(
                token,
                _finite(logprob) if logprob is not None else 0.0,
                tuple((rival, _finite(value)) for rival, value in (top or {}).items()),
            )
            for token, logprob, top in zip(found["tokens"], found["token_logprobs"], tops, strict=True)
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _nonsense("has logprobs that cannot be read", reply) from error


_LEAST_LOGPROB = -9999.0
"""What vLLM writes for a probability of 0, whose logarithm JSON has no number for."""


def _finite(logprob: float) -> float:
    """A log probability that JSON can hold. Raises ValueError where it is none, TypeError where it is no number."""
    if math.isnan(logprob):
        raise ValueError(logprob)
    return max(logprob, _LEAST_LOGPROB)


_FULL_STATUSES = frozenset({"429", "503", "529"})
_FULL_TYPES = frozenset(
    {"overloaded", "overloaded_error", "rate_limit_error", "service_unavailable", "unavailable_error"}
)
"""What SGLang, TGI, llama.cpp's server and gateways call it where status 200 is already sent."""


def _reported(error: Any) -> ServerFailed:
    """The failure that an error inside a reply stands for: an object, an object around it, or the text of one."""
    if isinstance(error, str):
        with suppress(ValueError):
            error = from_json(error)
    inner = error.get("error") if isinstance(error, dict) else None
    said = str(inner if inner else error)[:500]
    objects = [one for one in (error, inner) if isinstance(one, dict)]
    statuses = {str(one.get("code")) for one in objects}
    types = {str(one.get(name)).lower() for one in objects for name in ("type", "error_type")}
    if statuses & _FULL_STATUSES or types & _FULL_TYPES:
        return ServerFailed("full", "it is full or not ready, as it says inside its reply", said=said)
    return ServerFailed("failed", "it reported an error inside its reply", said=said)


def _nonsense(what: str, found: Any) -> ServerFailed:
    try:
        said = json.dumps(found)
    except (TypeError, ValueError):
        said = repr(found)
    return ServerFailed("nonsense", f"its reply {what}", said=said[:300])


def _unreadable(data: bytes) -> ServerFailed:
    return ServerFailed("nonsense", "an event came that cannot be read", said=data[:300].decode("utf-8", "replace"))
