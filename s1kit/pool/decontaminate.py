"""Questions of the pool that overlap with an evaluation set, each with the evidence.

- `s1`: any shared word 8-gram drops the question, exactly as in the s1 release. Simple and blunt: boilerplate such as
  "where m and n are relatively prime positive integers. find m + n" counts as overlap.
- `strict`: a question is dropped for covering half of an evaluation question's n-grams, where the spelling of LaTeX
  does not matter and boilerplate does not count.
- `template` adds to `strict` the questions that are an evaluation question with other numbers, letters or names:
  compared are the hashed 2-grams of the two templates (`pool/templates.py`) as sequences, by twice the length of what
  they have in common, in order, over the sum of their lengths.

The evaluation sets are in memory as hashes; the pool streams past in batches and is never indexed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from s1kit.pool.evaluation_sets import HashedSet
from s1kit.pool.ngrams import Ngrams, Tier, hash_ngrams, ngram_size, words_of
from s1kit.pool.templates import template_words
from s1kit.questions.wording import BOILERPLATE_MIN, BOILERPLATE_QUESTIONS, BOILERPLATE_SHARE, COVERAGE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEMPLATE_SIMILARITY = 0.86
"""From which on a question is dropped for its template; chosen on labelled pairs of MATH and MATH500, see docs."""

_BOUND_MARGIN = 0.15
"""Repeated 2-grams count once when candidates are proposed, several times when they are compared."""

_SHOWN_WORDS = 14


class EvaluationOverlap(NamedTuple):
    """Why one question is dropped."""

    set_name: str
    question_id: str
    """Id of the evaluation question."""
    ngram: str
    """The words shared, as they stand in the pool's question; in tier `strict` the first informative n-gram."""
    coverage: float
    """Share of n-grams shared, 0 to 1; in tier `s1` of the evaluation question's."""
    measure: str = "of its n-grams"
    """What `coverage` is a share of, in words."""

    @property
    def evidence(self) -> str:
        return f"{self.set_name} question {self.question_id}, {self.coverage:.0%} {self.measure}: {self.ngram!r}"


@dataclass(frozen=True)
class Matches:
    """What one batch shares with the evaluation sets, before boilerplate is known."""

    texts: NDArray[np.int64]
    """Position in the batch; one entry for each distinct n-gram of each text."""
    grams: NDArray[np.int64]
    """Position in the index's distinct hashes."""
    firsts: NDArray[np.int64]
    """Word at which the n-gram first stands in the text."""
    matched: tuple[int, ...]
    """The texts that have a match, in order."""


class OverlapIndex:
    """The evaluation sets of one tier, ready to be compared with batches of texts.

    `find` is all that tier `s1` needs. Tier `strict` looks at the whole pool first: `match` each batch, count with
    `boilerplate`, then `decide` each batch.
    """

    def __init__(self, sets: Sequence[HashedSet], tier: Tier) -> None:
        import numpy as np

        self.tier = tier
        self.num_questions = sum(len(s.ids) for s in sets)
        self._names = [s.name for s in sets for _ in s.ids]
        self._ids = [id for s in sets for id in s.ids]
        firsts = np.cumsum([0, *(len(s.ids) for s in sets)])
        hashes = np.concatenate([np.zeros(0, np.uint64), *(s.hashes for s in sets)])
        owners = np.concatenate(
            [np.zeros(0, np.int64), *(s.owners + first for s, first in zip(sets, firsts, strict=False))]
        )
        self._distinct, inverse, self._num_owners = np.unique(hashes, return_inverse=True, return_counts=True)
        # Owners of gram g: _owners[_owner_starts[g] : _owner_starts[g + 1]].
        self._owners = owners[np.argsort(inverse, kind="stable")]
        self._owner_starts = np.concatenate([[0], np.cumsum(self._num_owners)])
        self._grams_of_question = _group(np, owners, inverse, self.num_questions)
        self._maybe = np.zeros(1 << _FILTER_BITS, bool)
        self._maybe[self._distinct >> np.uint64(64 - _FILTER_BITS)] = True

    def match(self, texts: Sequence[str]) -> Matches:
        """The n-grams that a batch shares with any evaluation question."""
        import numpy as np

        ngrams = hash_ngrams(texts, self.tier)
        rows, grams = self._lookup(np, ngrams)
        owners, firsts = ngrams.texts[rows], ngrams.firsts[rows]
        _, once = np.unique(np.stack([owners, grams]), axis=1, return_index=True)
        return Matches(owners[once], grams[once], firsts[once], tuple(np.unique(owners).tolist()))

    def find(self, texts: Sequence[str]) -> dict[int, EvaluationOverlap]:
        """Texts of the batch with any shared n-gram, by position: tier `s1`."""
        import numpy as np

        ngrams = hash_ngrams(texts, self.tier)
        rows, grams = self._lookup(np, ngrams)
        found: dict[int, EvaluationOverlap] = {}
        owners = ngrams.texts[rows]  # rises
        matched = np.unique(owners)
        starts, ends = np.searchsorted(owners, matched), np.searchsorted(owners, matched, side="right")
        for text, start, end in zip(matched.tolist(), starts, ends, strict=True):
            found[text] = self._best(texts[text], grams[start:end], ngrams.firsts[rows[start:end]])
        return found

    def boilerplate(self, batches: Sequence[Matches], num_texts: int) -> NDArray[np.bool_]:
        """Which of the evaluation sets' n-grams are too common, in them or in the pool, to say anything."""
        import numpy as np

        counts = np.zeros(len(self._distinct), np.int64)
        for batch in batches:
            counts += np.bincount(batch.grams, minlength=len(counts))
        limit = max(BOILERPLATE_MIN, BOILERPLATE_SHARE * num_texts)
        return (counts > limit) | (self._num_owners > BOILERPLATE_QUESTIONS)

    def decide(
        self, texts: Mapping[int, str], matches: Matches, boilerplate: NDArray[np.bool_], coverage: float = COVERAGE
    ) -> dict[int, EvaluationOverlap]:
        """Texts of the batch that cover `coverage` of an evaluation question: tier `strict`.

        `texts` holds at least those texts of the batch that have a match.
        """
        import numpy as np

        found: dict[int, EvaluationOverlap] = {}
        bounds = [*np.searchsorted(matches.texts, matches.matched).tolist(), len(matches.texts)]
        for number, text in enumerate(matches.matched):
            here = slice(bounds[number], bounds[number + 1])
            overlap = self._covers(texts[text], matches.grams[here], matches.firsts[here], boilerplate, coverage)
            if overlap is not None:
                found[text] = overlap
        return found

    def _covers(
        self, text: str, grams: Any, firsts: Any, boilerplate: Any, coverage: float
    ) -> EvaluationOverlap | None:
        import numpy as np

        is_common = boilerplate[grams]
        if is_common.all():
            return None
        owners = [self._owners[self._owner_starts[g] : self._owner_starts[g + 1]] for g in grams]
        best: tuple[float, int] | None = None
        informative = [owner for owner, common in zip(owners, is_common, strict=True) if not common]
        for question in np.unique(np.concatenate(informative)).tolist():
            theirs = self._grams_of_question[question]
            num_all = sum(question in owner for owner in owners)
            num = sum(question in owner for owner in informative)
            # Of the informative ones alone there may be too few to say anything: both shares must reach it.
            share = min(num / int(np.sum(~boilerplate[theirs])), num_all / len(theirs))
            if share >= coverage and (best is None or share > best[0]):
                best = (share, question)
        if best is None:
            return None
        share, question = best
        first = min(int(f) for f, o, c in zip(firsts, owners, is_common, strict=True) if not c and question in o)
        return EvaluationOverlap(self._names[question], self._ids[question], self._words(text, first), share)

    def _best(self, text: str, grams: Any, firsts: Any) -> EvaluationOverlap:
        """The evaluation question that shares most with a text."""
        import numpy as np

        grams, once = np.unique(grams, return_index=True)
        owners = [self._owners[self._owner_starts[g] : self._owner_starts[g + 1]] for g in grams]
        question = int(np.argmax(np.bincount(np.concatenate(owners))))
        mine = [int(f) for f, o in zip(firsts[once], owners, strict=True) if question in o]
        share = len(mine) / len(self._grams_of_question[question])
        return EvaluationOverlap(self._names[question], self._ids[question], self._words(text, min(mine)), share)

    def _words(self, text: str, first: int) -> str:
        return " ".join(words_of(self.tier, text)[first : first + ngram_size(self.tier)])

    def _lookup(self, np: Any, ngrams: Ngrams) -> tuple[Any, Any]:
        """Which n-grams of a batch are in the index, and where there."""
        rows = np.flatnonzero(self._maybe[ngrams.hashes >> np.uint64(64 - _FILTER_BITS)])
        where = np.searchsorted(self._distinct, ngrams.hashes[rows])
        where[where == len(self._distinct)] = 0
        hit = self._distinct[where] == ngrams.hashes[rows] if len(self._distinct) else np.zeros(len(rows), bool)
        return rows[hit], where[hit]


_FILTER_BITS = 20


def _group(np: Any, keys: Any, values: Any, num: int) -> list[Any]:
    """The values of each key from 0 to `num` - 1."""
    order = np.argsort(keys, kind="stable")
    return list(np.split(values[order], np.searchsorted(keys[order], np.arange(1, num)))) if num else []


class TemplateIndex:
    """The templates of evaluation sets, ready to be compared with batches of texts."""

    def __init__(self, sets: Sequence[HashedSet]) -> None:
        import numpy as np

        self._names = [s.name for s in sets for _ in s.ids]
        self._ids = [id for s in sets for id in s.ids]
        empty = np.zeros(0, np.uint64)
        self._templates: list[NDArray[np.uint64]] = []
        for s in sets:
            bounds = np.searchsorted(s.owners, np.arange(len(s.ids) + 1))
            self._templates += [s.hashes[a:b] for a, b in pairwise(bounds)]
        distinct = [np.unique(template) for template in self._templates]
        self._num_distinct = np.array([len(each) for each in distinct], np.int64)
        grams = np.concatenate([empty, *distinct])
        owners = np.repeat(np.arange(len(distinct)), self._num_distinct)
        order = np.argsort(grams, kind="stable")
        self._grams, self._owners = grams[order], owners[order]

    def find(self, texts: Sequence[str]) -> dict[int, EvaluationOverlap]:
        """Texts of the batch that have an evaluation question's template, by position."""
        import numpy as np

        ngrams = hash_ngrams(texts, "template")
        bounds = np.searchsorted(ngrams.texts, np.arange(len(texts) + 1))
        found: dict[int, EvaluationOverlap] = {}
        for at, text in enumerate(texts):
            best = self._nearest(ngrams.hashes[bounds[at] : bounds[at + 1]])
            if best is not None:
                similarity, question = best
                shown = " ".join(template_words(text)[:_SHOWN_WORDS])
                found[at] = EvaluationOverlap(
                    self._names[question], self._ids[question], shown, similarity, "of its template"
                )
        return found

    def _nearest(self, template: NDArray[np.uint64]) -> tuple[float, int] | None:
        import numpy as np

        if not len(template) or not len(self._grams):
            return None
        distinct = np.unique(template)
        starts = np.searchsorted(self._grams, distinct)
        ends = np.searchsorted(self._grams, distinct, side="right")
        owners = np.concatenate([self._owners[a:b] for a, b in zip(starts, ends, strict=True)])
        shared = np.bincount(owners, minlength=len(self._templates))
        bound = 2 * shared / (self._num_distinct + len(distinct))
        candidates = np.flatnonzero(bound >= TEMPLATE_SIMILARITY - _BOUND_MARGIN)
        best: tuple[float, int] | None = None
        for question in candidates[np.argsort(-bound[candidates], kind="stable")].tolist():
            similarity = _similarity(template, self._templates[question])
            if similarity >= TEMPLATE_SIMILARITY and (best is None or similarity > best[0]):
                best = (similarity, question)
        return best


def _similarity(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    matcher = SequenceMatcher(None, one.tolist(), other.tolist(), autojunk=False)
    return matcher.ratio() if matcher.real_quick_ratio() >= TEMPLATE_SIMILARITY else 0.0
