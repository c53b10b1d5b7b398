"""Word n-grams as 64-bit hashes: the same on every machine, computed for a batch of texts at once.

A hash says whether two n-grams are equal without saying what they are, so an evaluation set can be shipped as hashes
without republishing a question. The tiers split text into words differently:

- `s1`: lower-cased and split at white space, as released (data/decontaminate_util.py of the s1 repository);
- `strict`: LaTeX spelling, punctuation and markup ignored; a command, a number, a letter or a sign is a word;
- `template`: as `strict`, with numbers, letters, constants and names masked (`pool/templates.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from s1kit.pool.templates import template_words
from s1kit.questions.wording import NGRAM, strict_words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Tier = Literal["s1", "strict", "template"]

TEMPLATE_NGRAM = 2
"""Words of an n-gram in tier `template`, which compares them in order."""


def s1_words(text: str) -> list[str]:
    """The words of a text as the s1 release splits it."""
    return text.lower().split()


def words_of(tier: Tier, text: str) -> list[str]:
    """The words of a text as a tier splits it."""
    match tier:
        case "s1":
            return s1_words(text)
        case "strict":
            return strict_words(text)
    return template_words(text)


def ngram_size(tier: Tier) -> int:
    """Words of an n-gram in a tier."""
    return TEMPLATE_NGRAM if tier == "template" else NGRAM


@dataclass(frozen=True)
class Ngrams:
    """The n-grams of a batch of texts, in order."""

    hashes: NDArray[np.uint64]
    """One hash for each n-gram."""
    texts: NDArray[np.int64]
    """Position in the batch of the text that holds the n-gram; ascending."""
    firsts: NDArray[np.int64]
    """Position in the text of its first word, from 0."""


def hash_ngrams(texts: Sequence[str], tier: Tier, size: int | None = None) -> Ngrams:
    """Every n-gram of every text, of `size` words (None: the tier's own).

    In tier `s1` a text of fewer than `size` words has none, as released; in the others it has one: the whole text.
    """
    # Tier `s1` splits at white space, which is what hashing does anyway.
    spelled = [t.lower() if tier == "s1" else " ".join(words_of(tier, t)) for t in texts]
    return _hash(spelled, ngram_size(tier) if size is None else size, short_too=tier != "s1")


def _hash(texts: Sequence[str], size: int, short_too: bool) -> Ngrams:
    import numpy as np

    # Python's str.split() takes any Unicode space; a code point a number keeps that, and lets words be found at once.
    codes = np.frombuffer("\n".join(texts).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    is_space = np.ones(len(codes) + 2, bool)
    np.take(_space_table(np), np.minimum(codes, _LAST_SPACE + 1), out=is_space[1:-1])
    edges = np.flatnonzero(is_space[1:] != is_space[:-1])
    starts, ends = edges[0::2], edges[1::2]
    words = _hash_words(np, codes, starts, ends)
    text_ends = np.cumsum([len(text) + 1 for text in texts], dtype=np.int64)
    num_words = np.diff(np.searchsorted(starts, text_ends), prepend=0)
    text_firsts = np.cumsum(num_words) - num_words
    word_texts = np.repeat(np.arange(len(texts)), num_words)
    num = max(len(words) - size + 1, 0)
    whole = np.flatnonzero(word_texts[:num] == word_texts[size - 1 :])
    hashes = _combine(np, words, size)[whole]
    owners = word_texts[whole]
    firsts = whole - text_firsts[owners]
    if short_too:
        hashes, owners, firsts = _add_short(np, words, num_words, text_firsts, size, (hashes, owners, firsts))
    return Ngrams(hashes, owners, firsts)


_LAST_SPACE = 0x3000
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 1 << 64)


def _hash_words(np: Any, codes: Any, starts: Any, ends: Any) -> Any:
    """A hash of each word's code points: a polynomial from prefix sums, brought to the word's start, then mixed.

    The base is odd and so has an inverse modulo 2^64: the same word gives the same hash wherever it stands.
    """
    sums = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum((codes + np.uint32(1)).astype(np.uint64) * _powers(np, _BASE, len(codes)), out=sums[1:])
    return _mix(np, (sums[ends] - sums[starts]) * _powers(np, _INVERSE, len(codes))[starts])


def _powers(np: Any, base: int, num: int) -> Any:
    table = _power_tables.get(base)
    if table is None or len(table) < num:
        table = np.full(max(num, 1 << 16), base, np.uint64)
        table[0] = 1
        table = _power_tables[base] = np.cumprod(table, dtype=np.uint64)
    return table[:num]


_power_tables: dict[int, Any] = {}


def _mix(np: Any, values: Any) -> Any:
    """splitmix64's finaliser: every bit depends on every bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _combine(np: Any, words: Any, size: int) -> Any:
    num = max(len(words) - size + 1, 0)
    total = np.zeros(num, np.uint64)
    for offset in range(size):
        total = total * np.uint64(_BASE) + words[offset : offset + num]
    return _mix(np, total)


def _add_short(
    np: Any, words: Any, num_words: Any, text_firsts: Any, size: int, whole: tuple[Any, Any, Any]
) -> tuple[Any, Any, Any]:
    """Texts shorter than an n-gram are one of their own, kept apart from part of a longer one by their length."""
    short = np.flatnonzero((num_words > 0) & (num_words < size))
    if not len(short):
        return whole
    ranges = [(int(text_firsts[i]), int(num_words[i])) for i in short]
    extra = np.array([int(_combine(np, words[first : first + n], n)[0]) for first, n in ranges], np.uint64)
    hashes, owners, firsts = whole
    order = np.argsort(np.concatenate([owners, short]), kind="stable")
    return (
        np.concatenate([hashes, _mix(np, extra + num_words[short].astype(np.uint64))])[order],
        np.concatenate([owners, short])[order],
        np.concatenate([firsts, np.zeros(len(short), np.int64)])[order],
    )


def _space_table(np: Any) -> Any:
    global _table
    if _table is None:
        _table = np.array([chr(code).isspace() for code in range(_LAST_SPACE + 2)])
    return _table


_table: Any = None
