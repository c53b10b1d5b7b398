"""Questions that the pool holds more than once: the same after normalisation, or nearly the same.

Of several the better-sourced one stays: with a worked solution before a bare answer before none, with a known licence
before an unknown one, from an earlier source before a later one. The others say which one stayed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from s1kit.errors import MissingExtra
from s1kit.pool.ngrams import hash_ngrams
from s1kit.questions.wording import strict_words
from s1kit.records import Question

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHINGLE = 3
"""Words of a shingle in the comparison of near duplicates."""

NUM_PERMUTATIONS = 64

TAIL = 30
"""Last words that must be as similar as the whole: questions about one long passage differ in their end only."""


class Duplicate(NamedTuple):
    """Why a row is dropped."""

    kept: int
    """Position in the pool of the row that stays."""
    similarity: float
    """Jaccard similarity of their shingles; 1.0 for the same text after normalisation."""


@dataclass
class Rows:
    """What is remembered of each row of the pool: its text after normalisation, as a hash, and how good it is."""

    keys: list[NDArray[np.uint64]] = field(default_factory=list)
    merits: list[NDArray[np.int64]] = field(default_factory=list)
    ids: list[NDArray[np.uint64]] = field(default_factory=list)
    sources: list[NDArray[np.int32]] = field(default_factory=list)
    _source_numbers: dict[str, int] = field(default_factory=dict)

    def add(self, questions: Sequence[Question]) -> None:
        """The next rows, in the pool's order; their keys, which `text_keys` gives, are appended to `keys`."""
        import numpy as np

        self.merits.append(np.array([merit(q) for q in questions], np.int64))
        self.ids.append(np.array([int(q.id, 16) for q in questions], np.uint64))
        numbers = self._source_numbers
        self.sources.append(np.array([numbers.setdefault(q.source, len(numbers)) for q in questions], np.int32))

    def names(self, positions: Iterable[int]) -> dict[int, str]:
        """How rows are called in evidence: `id (source)`."""
        import numpy as np

        ids, sources = np.concatenate(self.ids), np.concatenate(self.sources)
        known = list(self._source_numbers)
        return {at: f"{int(ids[at]):016x} ({known[sources[at]] or 'unnamed source'})" for at in positions}


def merit(question: Question) -> int:
    """How well sourced a question is: the smaller, the better.

    >>> merit(Question(text="?", solution="Because of this, 4.", metadata={"final_answer": "4"}, licence="MIT"))
    0
    """
    if question.solution is None:
        solved = 2
    else:
        solved = 0 if "final_answer" in question.metadata or len(question.solution) > 80 else 1
    return 2 * solved + (not question.licence)


def text_keys(texts: Sequence[str]) -> NDArray[np.uint64]:
    """One hash a text, equal when the texts are equal after normalisation (tier `strict` of `ngrams`)."""
    spelled = ["\0".join(strict_words(text)) for text in texts]
    # A text without any word (say, only brackets) equals its own spelling alone.
    return hash_ngrams(
        [one or "\0".join(text.split()) for one, text in zip(spelled, texts, strict=True)], "s1", 1
    ).hashes


def exact_duplicates(rows: Rows, without: Collection[int] = ()) -> dict[int, Duplicate]:
    """Rows to drop for having the text of a better row, by position in the pool; those of `without` are not there."""
    import numpy as np

    if not rows.keys:
        return {}
    keys, merits = np.concatenate(rows.keys), np.concatenate(rows.merits)
    there = np.ones(len(keys), bool)
    there[list(without)] = False
    order = np.lexsort((np.arange(len(keys)), merits, keys))
    order = order[there[order]]
    is_best = np.ones(len(order), bool)
    is_best[1:] = keys[order][1:] != keys[order][:-1]
    best = order[np.maximum.accumulate(np.where(is_best, np.arange(len(order)), 0))]
    return {int(row): Duplicate(int(kept), 1.0) for row, kept in zip(order, best, strict=True) if row != kept}


class NearIndex:
    """Near duplicates by MinHash LSH, each candidate checked on the texts themselves.

    Two questions are near duplicates when the Jaccard similarity of their shingles is at least the threshold, that of
    their last words too, and they state the same numbers: a long story that ends in "x + 7 = 9" is not repeated by the
    story with "x + 8 = 9".
    """

    def __init__(self, threshold: float) -> None:
        try:
            from datasketch import MinHash, MinHashLSH
        except ImportError as error:
            raise MissingExtra("finding near duplicates", "datasketch", extra="curate") from error
        self._threshold = threshold
        self._new = MinHash
        self._lsh = MinHashLSH(threshold=threshold, num_perm=NUM_PERMUTATIONS, weights=(0.2, 0.8))
        self._shingles: dict[int, list[int]] = {}
        self._numbers: dict[int, tuple[str, ...]] = {}
        self.pairs: list[tuple[int, int, float]] = []
        """Near-duplicate rows found so far: the earlier, the later, their similarity."""

    def add(self, rows: Iterable[int], texts: Sequence[str]) -> None:
        """The next rows, compared with all before."""
        ngrams = hash_ngrams(texts, "strict", size=SHINGLE)
        bounds = ngrams.texts.searchsorted(range(len(texts) + 1))
        minhashes = self._new.generator(
            ([int(h) for h in ngrams.hashes[a:b] & 0xFFFFFFFF] for a, b in pairwise(bounds)),
            num_perm=NUM_PERMUTATIONS,
            hashfunc=int,
        )
        for row, text, minhash, (a, b) in zip(rows, texts, minhashes, pairwise(bounds), strict=True):
            shingles, numbers = ngrams.hashes[a:b].tolist(), tuple(sorted(_NUMBER.findall(text)))
            for other in sorted(self._lsh.query(minhash)):
                theirs = self._shingles[other]
                similarity = min(_jaccard(shingles, theirs), _jaccard(shingles[-TAIL:], theirs[-TAIL:]))
                if similarity >= self._threshold and numbers == self._numbers[other]:
                    self.pairs.append((other, row, similarity))
            self._lsh.insert(row, minhash, check_duplication=False)
            self._shingles[row], self._numbers[row] = shingles, numbers


def _jaccard(one: list[int], other: list[int]) -> float:
    both = set(one) | set(other)
    return len(set(one) & set(other)) / len(both) if both else 1.0


_NUMBER = re.compile(r"\d+")


def near_duplicates(pairs: Iterable[tuple[int, int, float]], rows: Rows) -> dict[int, Duplicate]:
    """Rows to drop for being nearly a better row. Pairs are chained: near a near duplicate is near."""
    import numpy as np

    merits = np.concatenate([np.zeros(0, np.int64), *rows.merits])
    group: dict[int, int] = {}
    similarity: dict[int, float] = {}

    def find(row: int) -> int:
        while group.get(row, row) != row:
            row = group[row]
        return row

    for one, other, value in pairs:
        first, second = sorted((find(one), find(other)), key=lambda row: (merits[row], row))
        group[second] = first
        for row in (one, other):
            similarity[row] = max(similarity.get(row, 0.0), value)
    return {row: Duplicate(kept, similarity[row]) for row in similarity if (kept := find(row)) != row}
