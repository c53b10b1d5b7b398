"""Splits a reply of vLLM into thinking and answer: ids, a whole text, or a stream. Imports no vLLM.

The text must show special tokens. Thinking begins with the opening delimiter, which may stand in the prompt, and ends
with the end delimiter; the line break that the format puts before that end is no thinking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from s1kit.forcing.thinking_format import encode
from s1kit.forcing.token_format import TokenFormat


class Split(NamedTuple):
    """One part of a reply: thinking text and answer text."""

    thinking: str
    answer: str


@dataclass(frozen=True)
class ThinkingSplitter:
    """Splits replies of one model."""

    tokens: TokenFormat
    opens: bool
    """Whether the chat template's prompt ends with thinking opened: a reply then begins inside it."""

    def split(self, text: str) -> Split:
        """A whole reply. Thinking that was never closed is thinking."""
        stream = self.stream()
        first = stream.feed(text)
        rest = stream.finish()
        return Split(first.thinking + rest.thinking, first.answer + rest.answer)

    def stream(self) -> ThinkingStream:
        return ThinkingStream(self)

    def count(self, ids: Sequence[int]) -> int:
        """Thinking tokens among the ids of a reply: none of the delimiters, none of what ends the sequence."""
        start, end = self._bounds(ids)
        return max(0, end - start)

    def answer_start(self, ids: Sequence[int]) -> int | None:
        """The index at which the answer begins; None while thinking has not ended."""
        at = _find(ids, self._end_ids)
        if at is None:
            return None
        start = at + len(self._end_ids)
        more = self.tokens.end_ids[len(self._end_ids) :]
        return start + len(more) if tuple(ids[start : start + len(more)]) == more else start

    @property
    def _end_ids(self) -> tuple[int, ...]:
        return tuple(encode(self.tokens.tokenizer, self.tokens.format.end.rstrip()))

    def _bounds(self, ids: Sequence[int]) -> tuple[int, int]:
        opening = self.tokens.open_ids
        is_opened = tuple(ids[: len(opening)]) == opening
        start = len(opening) if is_opened else 0
        end = _find(ids, self._end_ids)
        if end is None:
            if not is_opened and not self.opens:
                return 0, 0
            end = len(ids)
            while end > start and ids[end - 1] in self.tokens.eos_ids:
                end -= 1
            return start, end
        lead = self.tokens.lead_ids
        has_lead = bool(lead) and end - len(lead) >= start and tuple(ids[end - len(lead) : end]) == lead
        return start, end - len(lead) if has_lead else end


class ThinkingStream:
    """Splits one streamed reply; text that may be the beginning of a delimiter is held back."""

    def __init__(self, splitter: ThinkingSplitter) -> None:
        form = splitter.tokens.format
        self._open, self._end, self._lead = form.open, form.end, form.lead
        self._opens = splitter.opens
        self._held = ""
        self._phase = "opening"
        self.num_fed = 0
        """Characters taken in."""

    @property
    def is_over(self) -> bool:
        """Whether thinking has ended and the rest is answer, as it is."""
        return self._phase == "answer"

    def feed(self, text: str) -> Split:
        """Take the next piece of the reply; returns the new text whose kind is certain."""
        self.num_fed += len(text)
        self._held += text
        if self._phase == "opening" and not self._begin():
            return Split("", "")
        thinking = ""
        if self._phase == "thinking":
            thinking = self._think()
        if self._phase == "ending":
            self._skip_rest_of_end()
        if self._phase != "answer":
            return Split(thinking, "")
        answer, self._held = self._held, ""
        return Split(thinking, answer)

    def finish(self) -> Split:
        """The rest of the text, once the reply has ended."""
        held, self._held = self._held, ""
        if self._phase == "ending" or (self._phase == "opening" and not held):
            return Split("", "")
        is_thinking = self._phase == "thinking" or (self._phase == "opening" and self._opens)
        return Split(held, "") if is_thinking else Split("", held)

    def _begin(self) -> bool:
        """Take off the opening delimiter; False while it may still come."""
        opening = self._open.rstrip()
        if self._held.startswith(opening):
            rest = self._open[len(opening) :]
            after = self._held[len(opening) :]
            if len(after) < len(rest) and rest.startswith(after):
                return False
            self._held, self._phase = after.removeprefix(rest), "thinking"
            return True
        if opening.startswith(self._held):
            return False
        # Without an opening of its own or the prompt's, only an end delimiter tells of thinking: text of an answer.
        self._phase = "thinking" if self._opens else "answer"
        return True

    def _think(self) -> str:
        end = self._end.rstrip()
        at = self._held.find(end)
        if at >= 0:
            thinking, self._held = self._held[:at], self._held[at + len(end) :]
            self._phase = "ending"
            return thinking.removesuffix(self._lead) if self._lead else thinking
        kept = _num_held(self._held, self._lead + end)
        if not kept:
            kept = _num_held(self._held, end)
        thinking, self._held = self._held[: len(self._held) - kept], self._held[len(self._held) - kept :]
        return thinking

    def _skip_rest_of_end(self) -> None:
        rest = self._end[len(self._end.rstrip()) :]
        if len(self._held) < len(rest) and rest.startswith(self._held):
            return
        self._held, self._phase = self._held.removeprefix(rest), "answer"


def _find(ids: Sequence[int], wanted: tuple[int, ...]) -> int | None:
    size = len(wanted)
    return next((i for i in range(len(ids) - size + 1) if tuple(ids[i : i + size]) == wanted), None)


def _num_held(text: str, delimiter: str) -> int:
    """How many characters at the end of a text may be the beginning of a delimiter."""
    return next((n for n in range(min(len(delimiter) - 1, len(text)), 0, -1) if text.endswith(delimiter[:n])), 0)
