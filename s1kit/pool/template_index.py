"""Questions of the pool that are an evaluation question with other numbers, letters or names: tier `template`.

Compared are the hashed 2-grams of the two templates (`pool/templates.py`) as sequences: twice the length of what they
have in common, in order, over the sum of their lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from typing import TYPE_CHECKING

from s1kit.pool.decontaminate import EvaluationOverlap
from s1kit.pool.evaluation_sets import HashedSet
from s1kit.pool.ngrams import hash_ngrams
from s1kit.pool.templates import template_words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIMILARITY = 0.86
"""From which on a question is dropped; chosen on labelled pairs of MATH and MATH500, see docs."""

_BOUND_MARGIN = 0.15
"""Repeated 2-grams count once when candidates are proposed, several times when they are compared."""

_SHOWN_WORDS = 14


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
        candidates = np.flatnonzero(bound >= SIMILARITY - _BOUND_MARGIN)
        best: tuple[float, int] | None = None
        for question in candidates[np.argsort(-bound[candidates], kind="stable")].tolist():
            similarity = _similarity(template, self._templates[question])
            if similarity >= SIMILARITY and (best is None or similarity > best[0]):
                best = (similarity, question)
        return best


def _similarity(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    matcher = SequenceMatcher(None, one.tolist(), other.tolist(), autojunk=False)
    return matcher.ratio() if matcher.real_quick_ratio() >= SIMILARITY else 0.0
