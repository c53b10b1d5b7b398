"""Text that people or models wrote is tokenised as text, also where it spells a special token.

A question that quotes `</think>`, or a trace that says "one writes <|im_end|> there", would otherwise be read as the
delimiter itself: taught in training, obeyed in decoding. Such a text is cut after the first character of the quotation
and the parts are tokenised by themselves, which no tokenizer reads as the token.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Protocol

from s1kit.errors import InputError

CUT = "\ufdd0"
"""Where a text is cut: a code point that Unicode keeps for the inner use of programs."""


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that is used; any object with it will do."""

    @property
    def eos_token_id(self) -> Any: ...
    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...
    def decode(self, ids: Any, *, skip_special_tokens: bool) -> Any: ...
    def get_vocab(self) -> dict[str, int]: ...
    def apply_chat_template(
        self, conversation: Any, *, tokenize: bool, add_generation_prompt: bool, **kwargs: Any
    ) -> Any: ...


def guarded(tokenizer: Tokenizer, delimiters: str, text: str) -> str:
    """The text with a `CUT` inside everything that the tokenizer would read as a special token or a delimiter.

    `delimiters` holds the texts of those that are no special tokens, in any order.
    """
    pattern = _special_texts(tokenizer, delimiters)  # type: ignore[arg-type]  # tokenizers are hashed by identity
    if pattern is None:
        return text
    while pattern.search(text):
        text = pattern.sub(lambda found: found[0][0] + CUT + found[0][1:], text)
    return text


def encode_guarded(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a text that may hold `CUT`s; what stands outside them is read as always."""
    first, *parts = text.split(CUT)
    ids = list(tokenizer.encode(first, add_special_tokens=False)) if first else []
    before = list(tokenizer.encode("\n", add_special_tokens=False)) if parts else []
    for part in parts:
        ids += _continued(tokenizer, part, before)
    return ids


def _continued(tokenizer: Tokenizer, text: str, before: list[int]) -> list[int]:
    """The ids of a text that goes on from another: no space is put before its first word. `before`: a line break's."""
    if not text:
        return []
    whole = list(tokenizer.encode("\n" + text, add_special_tokens=False))
    if not text[0].isspace() and before and whole[: len(before)] == before:
        return whole[len(before) :]
    return list(tokenizer.encode(text, add_special_tokens=False))


@lru_cache(maxsize=16)
def _special_texts(tokenizer: Tokenizer, delimiters: str) -> re.Pattern[str] | None:
    """A pattern of the special tokens, and of the tokens that the format's delimiters are made of.

    Added tokens that are neither, such as runs of spaces in some vocabularies, are ordinary text to their models.
    """
    found = set()
    for token in getattr(tokenizer, "added_tokens_decoder", {}).values():
        text = str(getattr(token, "content", token))
        # Of one character nothing can be cut off.
        if len(text) > 1 and (getattr(token, "special", True) or text in delimiters):
            found.add(text)
    if not found:
        return None
    return re.compile("|".join(re.escape(text) for text in sorted(found, key=len, reverse=True)))


PROBE = "Tom has 12,345 apples and 3.5 pears.\nnaïve café — 漢字 😀\n\n  x = 2 * (y + 1)"
"""Spaces, digits, accents, letters of another script, an emoji, newlines, an indented line."""


def check_round_trip(tokenizer: Tokenizer, where: str) -> None:
    """Raises InputError where the text of a probe's ids is not the probe; called once, when a tokenizer is loaded.

    transformers 5.0 to 5.10 dropped the spaces of tokenizers of the DeepSeek-R1 family, in training and decoding
    alike, and nothing showed it but the accuracy.
    """
    ids = list(tokenizer.encode(PROBE, add_special_tokens=False))
    found = str(tokenizer.decode(ids, skip_special_tokens=False))
    if found.removeprefix(" ") == PROBE:
        return
    at = next((i for i, (a, b) in enumerate(zip(found, PROBE, strict=False)) if a != b), min(len(found), len(PROBE)))
    raise InputError(
        f"the tokenizer turns {PROBE[max(0, at - 12) : at + 12]!r} into {found[max(0, at - 12) : at + 12]!r}",
        where=where,
        fix="Its files do not fit together, or the installed transformers reads them wrongly: take the model's own "
        "tokenizer.json, or another version of transformers.",
    )
