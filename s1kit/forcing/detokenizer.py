"""Incremental detokenizer: holds back incomplete UTF-8 characters."""

from __future__ import annotations

from collections.abc import Sequence

from s1kit.forcing.token_format import CUT, TokenFormat


class IncrementalDetokenizer:
    """Decodes a growing run of ids piece by piece: whole characters only, no space lost between pieces."""

    __slots__ = ("_after", "_ids", "_returned", "_texts", "_tokens")

    def __init__(self, tokens: TokenFormat, after: Sequence[int]) -> None:
        """`after`: the ids before the run, or the last of them."""
        self._tokens = tokens
        self._texts = tokens.id_texts
        self._after = list(after)
        self._ids: list[int] = []
        """Since the last point at which everything was returned."""
        self._returned = ""

    def add(self, ids: Sequence[int]) -> str:
        """The run goes on with these ids; returns the text that further ids cannot change."""
        if len(ids) == 1 and self._texts is not None and not self._ids:
            text = self._texts[ids[0]]
            if CUT not in text:
                return text
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
