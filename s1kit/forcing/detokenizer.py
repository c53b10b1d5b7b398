"""Incremental detokenizer: holds back incomplete UTF-8 characters and possible prefixes of stop strings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from s1kit.forcing.token_format import CUT, TokenFormat


class IncrementalDetokenizer:
    """Decodes a growing run of ids piece by piece: whole characters only, no space lost between pieces."""

    def __init__(self, tokens: TokenFormat, after: Sequence[int]) -> None:
        """`after`: the ids before the run, or the last of them."""
        self._tokens = tokens
        self._after = list(after)
        self._ids: list[int] = []
        """Since the last point at which everything was returned."""
        self._returned = ""

    def add(self, ids: Sequence[int]) -> str:
        """The run goes on with these ids; returns the text that further ids cannot change."""
        self._ids += ids
        text = self._tokens.raw_text(self._ids, self._after)
        certain = text.rstrip(CUT)
        if not certain.startswith(self._returned):
            return ""
        new = certain[len(self._returned) :]
        if certain == text:
            self._after, self._ids, self._returned = self._ids or self._after, [], ""
        else:
            self._returned = certain
        return new

    def finish(self) -> str:
        """The run is over; returns the rest of its text."""
        return self._tokens.decode(self._ids, self._after)[len(self._returned) :]


@dataclass(slots=True)
class PartStream:
    """How much of one part of a transcript has been streamed."""

    detokenizer: IncrementalDetokenizer
    held: str = ""
    """Decoded text that was not streamed yet."""
    length: int = 0
    """Characters streamed so far."""
    num_decoded: int = 0
    num_streamed: int = 0
    """Ids, like `num_decoded`."""

    def receive(self, ids: Sequence[int], is_over: bool) -> None:
        self.held += self.detokenizer.add(ids[self.num_decoded :])
        self.num_decoded = len(ids)
        if is_over:
            self.held += self.detokenizer.finish()

    def can_stream(self, stop: Sequence[str]) -> bool:
        """Whether there is text to stream that cannot be the beginning of a stop string."""
        return bool(self.held) and not any(self.held.endswith(s[:n]) for s in stop for n in range(1, len(s)))

    def take(self, ids: Sequence[int]) -> tuple[str, tuple[int, ...]]:
        """The text and the ids to stream now. `ids`: those that were not streamed yet."""
        text = self.held
        self.held, self.length, self.num_streamed = "", self.length + len(text), self.num_streamed + len(ids)
        return text, tuple(ids)
