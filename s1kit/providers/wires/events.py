"""Server-sent events as they come, put together by the API that they turn out to belong to.

A gateway that does not translate its upstream's stream, or names the kind of an event only in its `event:` field, has
still been paid for the reply. Sources: html.spec.whatwg.org (server-sent events), and the APIs' own pages on streaming.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from s1kit.providers.bodies import error_message
from s1kit.providers.chat import Assembler
from s1kit.providers.wires.reading import dict_of
from s1kit.providers.wires.responses import ResponseAssembler
from s1kit.providers.wires.streams import ChatAssembler, ContentAssembler, MessageAssembler
from s1kit.providers.wires.translated import as_chunk

_LINES_OF_JSON = ("application/x-ndjson", "application/jsonl", "application/jsonlines", "application/stream+json")


def is_event_stream(content_type: str, start: bytes) -> bool:
    """Whether a body is a stream, whatever its server calls it: server-sent events, or chunks as lines of JSON."""
    start = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if content_type.startswith(("text/event-stream", *_LINES_OF_JSON)) or start.startswith((b"data:", b"event:")):
        return True
    return start.startswith(b"{") and b'"chat.completion.chunk"' in start[:2000]


class EventParser:
    """Incremental parser of events whose data are JSON objects.

    Comments, other fields and data that is no object are let pass; data over several lines is joined. Lines end with
    LF, CRLF or CR. A line that is an object by itself is an event, too.
    """

    assembler: Assembler
    """What puts the events together: for the API that was asked, until one tells that it is of another."""

    def __init__(self, assembler: Assembler) -> None:
        self.assembler = assembler
        self.num_events = 0
        self.is_over = False
        """Whether the stream has said that nothing follows; some servers leave the connection open."""
        self.is_broken = False
        """Whether an event could not be read: the reply has a hole."""
        self._rest = b""
        self._data: list[bytes] = []
        self._name = b""
        self._is_settled = False

    def feed(self, piece: bytes) -> None:
        """Raises nothing, whatever the bytes."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if not lines and b"\r" in self._rest[:-1]:  # CR alone; JSON writes it as \r
            *lines, self._rest = self._rest.split(b"\r")
        for line in lines:
            self._take(line)

    def _take(self, line: bytes) -> None:
        line = line.rstrip(b"\r")
        if b"\r" in line:
            for part in line.split(b"\r"):
                self._take(part)
        elif line.startswith(b"data:"):
            self._data.append(line[5:])
        elif line.startswith(b"event:"):
            self._name = line[6:].strip()
        elif line.startswith(b"{") and not self._data:
            self._take_object(line)
        elif not line:
            self._dispatch()

    def _take_object(self, line: bytes) -> None:
        """A line of JSON. What is no event of a known API may be the first line of a body that is not streamed."""
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            return
        if isinstance(event, dict) and _api_of(event) is not None:
            self.num_events += 1
            self._add(event)

    def end(self) -> None:
        """The stream is over: what was not closed by an empty line counts too."""
        self.feed(b"\n\n")

    def _dispatch(self) -> None:
        name, self._name = self._name, b""
        if not self._data:
            return
        lines, self._data = self._data, []
        data = b"\n".join(lines).strip()
        if data in (b"[DONE]", b'"[DONE]"'):
            self.assembler.end()
            self.is_over = True
            return
        event = _parsed(data)
        if event is None and len(lines) > 1:  # a server that leaves the empty line between two events out
            for line in lines:
                self._name, self._data = name, [line]
                self._dispatch()
        elif event is None and name == b"error":
            self._received(name, {"message": data.decode("utf-8", "replace")[:500]})
        elif event is None:
            self.is_broken = self.is_broken or data.startswith(b"{")
        elif isinstance(event, dict):
            self._received(name, event)

    def _received(self, name: bytes, event: dict[str, Any]) -> None:
        self.num_events += 1
        self._add(_named(name, event) if name else event)

    def _add(self, received: dict[str, Any]) -> None:
        event = as_chunk(received)
        if not self._is_settled:
            belongs = _api_of(event)
            if belongs is not None:
                self._is_settled = True
                if not isinstance(self.assembler, belongs):
                    self.assembler = belongs()
            elif _is_error(event):
                event = {"error": event}
        elif "choices" not in event and "error" not in event and _is_error(event) and _api_of(event) is None:
            event = {"error": event}
        self.assembler.add(event)
        self.is_over = self.is_over or event.get("type") in _LAST


def _parsed(data: bytes) -> Any:
    """The JSON of an event, None for none. Half characters, in which some servers' tokens end, are replaced."""
    try:
        return json.loads(data)
    except UnicodeDecodeError:
        return _parsed(data.decode("utf-8", "replace").encode())
    except (ValueError, RecursionError):
        return None


_LAST = ("message_stop", "response.completed", "response.incomplete", "response.failed")


def _named(name: bytes, event: dict[str, Any]) -> dict[str, Any]:
    """An event whose kind only its name tells, as its API would have written it."""
    if name == b"error":
        return event if event.get("error") or event.get("type") else {"error": event}
    if "type" in event or _api_of(event) is not None:
        return event
    return {"type": name.decode("ascii", "replace"), **event}


def _api_of(event: Mapping[str, Any]) -> type[Any] | None:
    """What puts together the events of the API that this one is of; None where it is of none or of any."""
    if isinstance(event.get("choices"), list):
        return ChatAssembler if event["choices"] else None
    if "candidates" in event or "promptFeedback" in event:
        return ContentAssembler
    kind = event.get("type")
    if isinstance(kind, str):
        if kind.startswith("response."):
            return ResponseAssembler
        if kind.startswith(("message_", "content_block_")):
            return MessageAssembler
    return None


def _is_error(event: Mapping[str, Any]) -> bool:
    """Whether an event without a field `error` tells of one."""
    if event.get("error") or event.get("type") == "error":
        return False  # as the assemblers know it
    is_marked = event.get("object") == "error" or not {"error_type", "error_code", "error_message"}.isdisjoint(event)
    return is_marked or (bool(error_message({n: event.get(n) for n in _MARKS})) and not dict_of(event.get("message")))


_MARKS = ("base_resp", "fault", "errors", "detail", "ErrorMsg", "error_msg")
