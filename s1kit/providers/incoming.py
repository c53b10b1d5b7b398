"""The body of one reply as it arrives: the events of a stream as soon as they are there, anything else as bytes."""

from __future__ import annotations

from typing import Any

from s1kit.providers.chat import Assembler
from s1kit.providers.wires.bedrock import STREAM_TYPE, BinaryEvents
from s1kit.providers.wires.events import EventParser, is_event_stream
from s1kit.providers.wires.streams import CUT


class IncomingBody:
    """Is fed the pieces of a body. Only one with status 2xx `may_stream`."""

    def __init__(self, assembler: Assembler, content_type: str, *, may_stream: bool) -> None:
        self._events: EventParser | BinaryEvents = EventParser(assembler)
        self._content_type = content_type
        self._is_stream: bool | None = None if may_stream else False
        self._pieces: list[bytes] = []

    def feed(self, piece: bytes) -> bool:
        """Whether the stream has said that nothing follows."""
        if self._is_stream is None and self._content_type.startswith(STREAM_TYPE):
            self._is_stream, self._events = True, BinaryEvents(self._events.assembler)
        elif self._is_stream is None:
            self._is_stream = is_event_stream(self._content_type, piece)
        if self._is_stream:
            self._events.feed(piece)
        if not self.has_events:
            self._pieces.append(piece)
        return self._events.is_over

    def end(self) -> None:
        self._events.end()

    @property
    def raw(self) -> bytes:
        """What came and was no event."""
        return b"".join(self._pieces)

    @property
    def has_events(self) -> bool:
        return self._events.num_events > 0

    @property
    def is_whole(self) -> bool:
        """Whether a stream has brought all of a reply, or an error."""
        return self._events.assembler.is_whole and not self._events.is_broken

    @property
    def assembled(self) -> dict[str, Any]:
        """The body that the events amount to."""
        return self._events.assembler.body()

    @property
    def partial(self) -> dict[str, Any] | None:
        """What a stream that is not whole has brought, marked as cut; None before the model has written anything."""
        return self.assembled | {CUT: True} if self._events.assembler.has_text else None
