"""The text of tokens that still come, told as soon as it is certain. Knows nothing about thinking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from s1kit.forcing.token_format import CUT, TokenFormat


class Speech:
    """The text of a run of ids that still grows, told as soon as it is certain: whole characters, no space lost."""

    def __init__(self, tokens: TokenFormat, after: Sequence[int]) -> None:
        """`after`: the ids before the run, or the last of them."""
        self._tokens = tokens
        self._after = list(after)
        self._ids: list[int] = []
        """Since the last place at which all was told."""
        self._told = ""

    def add(self, ids: Sequence[int]) -> str:
        """The run goes on with these ids; returns the text that has become certain."""
        self._ids += ids
        text = self._tokens.raw_text(self._ids, self._after)
        certain = text.rstrip(CUT)
        if not certain.startswith(self._told):
            return ""
        new = certain[len(self._told) :]
        if certain == text:
            self._after, self._ids, self._told = self._ids or self._after, [], ""
        else:
            self._told = certain
        return new

    def rest(self) -> str:
        """The run is over: what is still to be told."""
        return self._tokens.decode(self._ids, self._after)[len(self._told) :]


@dataclass(slots=True)
class Telling:
    """How far a run of ids that is being streamed has been told."""

    speech: Speech
    held: str = ""
    """Known, and not told yet."""
    length: int = 0
    """Of the text that was told."""
    num_heard: int = 0
    num_told: int = 0
    """Ids, as are those that were heard."""

    def hear(self, ids: Sequence[int], is_over: bool) -> None:
        self.held += self.speech.add(ids[self.num_heard :])
        self.num_heard = len(ids)
        if is_over:
            self.held += self.speech.rest()

    def is_certain(self, stop: Sequence[str]) -> bool:
        """Whether there is something to tell that cannot be the beginning of a stop string."""
        return bool(self.held) and not any(self.held.endswith(s[:n]) for s in stop for n in range(1, len(s)))

    def tell(self, ids: Sequence[int]) -> tuple[str, tuple[int, ...]]:
        text, new = self.held, tuple(ids[self.num_told :])
        self.held, self.length, self.num_told = "", self.length + len(text), len(ids)
        return text, new
