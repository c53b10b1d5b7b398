"""Whether a tokenizer gives back the text it was given: asked once, when one is loaded.

Seen with transformers 5.0 to 5.10: a tokenizer of the DeepSeek-R1 family read "How many primes are there?" without its
spaces, in training and decoding alike, and nothing failed but the accuracy.
"""

from __future__ import annotations

from s1kit.errors import InputError
from s1kit.forcing.plain_text import Tokenizer

PROBE = "Tom has 12,345 apples and 3.5 pears.\nnaïve café — 漢字 😀\n\n  x = 2 * (y + 1)"
"""Spaces, digits, accents, letters of another script, an emoji, newlines, an indented line."""


def check_round_trip(tokenizer: Tokenizer, where: str) -> None:
    """Raises InputError where the text of a probe's ids is not the probe."""
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
