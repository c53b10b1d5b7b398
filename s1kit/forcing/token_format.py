"""A thinking format in the ids of one tokenizer: what stops thinking, what is put in, what ends an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from s1kit.errors import InputError
from s1kit.forcing.formats import ThinkingFormat, Tokenizer
from s1kit.forcing.thinking_format import encode

CUT = "\ufffd"
"""What decoders put for a character that is not whole."""
MOST_BYTES = 4
"""Longest encoding of a character in UTF-8, in bytes."""


class IdTexts(dict[int, str]):
    """The text of single ids, each decoded once. A character that is not whole is `CUT` in it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._tokenizer = tokenizer

    def _decoded(self, token_id: int) -> str:
        return str(self._tokenizer.decode([token_id], skip_special_tokens=False))

    def __missing__(self, token_id: int) -> str:
        text = self[token_id] = self._decoded(token_id)
        return text


class IdKinds(IdTexts):
    """What single ids are to the loop guard: their digits, `a` for one with letters, else an empty text."""

    def __missing__(self, token_id: int) -> str:
        text = self._decoded(token_id).strip()
        is_number = text.isascii() and text.isdigit()
        kind = self[token_id] = text if is_number else "a" if any(c.isalpha() for c in text) else ""
        return kind


def last_place(ids: Sequence[int], wanted: tuple[int, ...]) -> int | None:
    """The index of the last occurrence of `wanted` in `ids`; None where there is none.

    >>> last_place([1, 2, 3, 1, 2], (1, 2)), last_place([1], (1, 2))
    (3, None)
    """
    size = len(wanted)
    return next((i for i in range(len(ids) - size, -1, -1) if tuple(ids[i : i + size]) == wanted), None)


@dataclass(frozen=True)
class TokenFormat:
    """A thinking format in one tokenizer's ids. Raises InputError where they do not fit together."""

    format: ThinkingFormat
    tokenizer: Tokenizer
    more_eos_ids: tuple[int, ...] = ()
    """End-of-sequence ids that the model's generation settings name."""

    @cached_property
    def open_ids(self) -> tuple[int, ...]:
        return tuple(encode(self.tokenizer, self.format.open))

    @cached_property
    def lead_ids(self) -> tuple[int, ...]:
        return tuple(encode(self.tokenizer, self.format.lead))

    @cached_property
    def end_ids(self) -> tuple[int, ...]:
        return tuple(encode(self.tokenizer, self.format.end))

    @cached_property
    def eos_ids(self) -> frozenset[int]:
        """The end-of-sequence ids. While thinking, each is a stop attempt."""
        ids = set(self.more_eos_ids)
        if self.format.answer_end:
            ids.add(self.format.token_id(self.tokenizer, self.format.answer_end))
        if isinstance(self.tokenizer.eos_token_id, int):
            ids.add(self.tokenizer.eos_token_id)
        return frozenset(ids)

    @cached_property
    def answer_stop_ids(self) -> frozenset[int]:
        """The ids that end an answer."""
        return self.eos_ids | {self.format.token_id(self.tokenizer, t) for t in self.format.answer_stops}

    @cached_property
    def trigger_id(self) -> int | None:
        """The one id whose appearance in thinking is the stop attempt; None when the whole of `end` must be matched.

        The first id of `end`, if it is a token of its own there: one that ordinary text cannot produce, such as
        `<|im_start|>` or `</think>`. `</` of a tokenizer that knows no `</think>` is not.
        """
        if not self.format.thinks:
            return None
        first = self.end_ids[0]
        return first if self._is_token_of_its_own(first) else None

    @cached_property
    def match_ids(self) -> tuple[int, ...]:
        """What must appear in thinking to be a stop attempt: the trigger, or `end` without its trailing whitespace."""
        if self.trigger_id is not None:
            return (self.trigger_id,)
        return tuple(encode(self.tokenizer, self.format.end.rstrip()))

    @cached_property
    def reopen_id(self) -> int | None:
        """The id that begins thinking again inside an answer, where that is one token and not a turn marker."""
        if not self.format.thinks:
            return None
        first = self.open_ids[0]
        if first in self.answer_stop_ids or first in self.end_ids:
            return None
        return first if self._is_token_of_its_own(first) else None

    @cached_property
    def thinking_stop_ids(self) -> frozenset[int]:
        """Single ids that are stop attempts while thinking."""
        return self.eos_ids | ({self.trigger_id} if self.trigger_id is not None else set())

    @cached_property
    def bos(self) -> str:
        """The text of the token that begins a sequence; empty where the tokenizer has none."""
        return getattr(self.tokenizer, "bos_token", None) or ""

    @property
    def probe(self) -> str:
        """A text whose number of tokens shows whether a server reads as this does, or adds a first token of its own."""
        return f"a b\n{self.format.end}1 2"

    @cached_property
    def num_ids(self) -> int:
        """One more than the largest id of the tokenizer."""
        return max(self.tokenizer.get_vocab().values(), default=-1) + 1

    def knows(self, token_id: int) -> bool:
        """Whether an id is one of the tokenizer's. Some rows of a padded embedding are not."""
        if token_id < self.num_ids:
            return token_id >= 0
        # A vocabulary may grow; reading the whole of one takes a tenth of a second.
        try:
            return bool(self.tokenizer.decode([token_id], skip_special_tokens=False))
        except (LookupError, ValueError, TypeError, OverflowError):
            return False

    def needs_lead(self, last_id: int | None) -> bool:
        """Whether `lead` must be put before `end` when `last_id` was the last thinking token (None: no thinking)."""
        if not self.lead_ids:
            return False
        return last_id is None or not self.decode((last_id,)).endswith(self.format.lead)

    def decode(self, ids: Sequence[int], after: Sequence[int] = ()) -> str:
        """The text that ids add after others, delimiters shown, without a character cut in two at the end."""
        text = self.raw_text(ids, after)
        if not text.endswith(CUT):
            return text
        # Where bytes are tokens of their own, one that is missing spoils the characters before it too.
        shorter = [self.raw_text(ids[: len(ids) - n], after) for n in range(1, min(MOST_BYTES, len(ids)))]
        return max((t.rstrip(CUT) for t in (text, *shorter)), key=len)

    def raw_text(self, ids: Sequence[int], after: Sequence[int] = ()) -> str:
        """The text of ids as `decode` gives it, but an incomplete character is kept as `CUT`.

        Tokenizers with a sign for the space before a word leave out the first one of a text; only what comes before
        the ids says whether theirs is the first.
        """
        if not after or self._is_context_free:
            return str(self.tokenizer.decode(list(ids), skip_special_tokens=False))
        whole, before = self.raw_text([*after, *ids]), self.raw_text(after)
        return whole[len(before) :] if whole.startswith(before) else self.raw_text(ids)

    @cached_property
    def id_texts(self) -> IdTexts | None:
        """The text of each id by itself; None where it depends on the id before it."""
        return IdTexts(self.tokenizer) if self._is_context_free else None

    @cached_property
    def id_kinds(self) -> IdKinds:
        """What each id is to the loop guard."""
        return IdKinds(self.tokenizer)

    @cached_property
    def _is_context_free(self) -> bool:
        """Whether the text of ids is that of each, in turn, up to characters of several tokens."""
        ids = encode(self.tokenizer, "a b a")
        return self.raw_text(ids) == "".join(self.raw_text([i]) for i in ids)

    def encode_after(self, text: str) -> list[int]:
        """The ids of a text that goes on from another: no space is put before its first word."""
        if self._is_context_free or not text:
            return encode(self.tokenizer, text)
        before, whole = encode(self.tokenizer, "\n"), encode(self.tokenizer, "\n" + text)
        return whole[len(before) :] if whole[: len(before)] == before else encode(self.tokenizer, text)

    def phrase_ids(self, text: str, field: str) -> tuple[int, ...]:
        """The ids of a wait or a closing phrase; InputError when they contain what would end thinking or the answer."""
        ids = tuple(encode(self.tokenizer, text))
        if self.answer_stop_ids.union(self.thinking_stop_ids).intersection(ids):
            fix = "Give a text without the delimiters."
            raise InputError(f"{text!r} contains a delimiter of format {self.format.name!r}", where=field, fix=fix)
        return ids

    def _is_token_of_its_own(self, token_id: int) -> bool:
        text = str(self.tokenizer.decode([token_id], skip_special_tokens=False))
        added = getattr(self.tokenizer, "added_tokens_decoder", {})
        return token_id in added or (len(self.end_ids) == 1 and text.strip() == self.format.end.strip())
