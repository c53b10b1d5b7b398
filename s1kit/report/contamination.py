"""Benchmark questions that the model may have met in training: word for word, or by eight words in a row.

The rule is the s1 release's (lower-cased, split at white space, any shared word 8-gram), read the other way round: not
to drop a sample, but to say which questions of the benchmark a reader should trust less. Wording that more than a few
of the benchmark's own questions share says nothing and does not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from s1kit.records import Question
from s1kit.stage import Run

WORDS = 8
"""Length of an n-gram, as in the s1 release (data/collect_data.py)."""

BOILERPLATE = 3
"""An n-gram in more questions of the benchmark than this is its way of asking, e.g. AIME's `relatively prime`."""

NEAR_COPY = 0.5
"""Share of a question's n-grams in one sample from which on the two are called near copies."""


class Overlap(NamedTuple):
    """A benchmark question and the training sample that shares most with it."""

    question_id: str
    sample_id: str
    """Id of the sample's question."""
    coverage: float
    """Share of the question's n-grams that the sample holds, 0 to 1, boilerplate aside."""
    words: str
    """The first n-gram they share."""


@dataclass(frozen=True)
class Contamination:
    exact: tuple[str, ...] = ()
    """Ids of questions whose very text is a sample's."""
    overlaps: tuple[Overlap, ...] = ()
    """The others that share an n-gram, most covered first."""

    @property
    def near_copies(self) -> list[Overlap]:
        return [o for o in self.overlaps if o.coverage >= NEAR_COPY]


def contamination(questions: Sequence[Question], samples: Iterable[tuple[str, str]]) -> Contamination:
    """What the questions share with the samples, given as (id, text)."""
    grams = [set(_ngrams(q.text)) for q in questions]
    num_questions = Counter(gram for found in grams for gram in found)
    owners: dict[str, list[int]] = {}
    informative = [0] * len(questions)
    for i, found in enumerate(grams):
        for gram in found:
            if num_questions[gram] <= BOILERPLATE:
                owners.setdefault(gram, []).append(i)
                informative[i] += 1
    ids = {q.id for q in questions}
    exact: set[str] = set()
    best: dict[int, Overlap] = {}
    for sample_id, text in samples:
        if sample_id in ids:
            exact.add(sample_id)
            continue
        hits: Counter[int] = Counter()
        first: dict[int, str] = {}
        for gram in dict.fromkeys(_ngrams(text)):
            for i in owners.get(gram, ()):
                hits[i] += 1
                first.setdefault(i, gram)
        for i, num in hits.items():
            overlap = Overlap(questions[i].id, sample_id, num / informative[i], first[i])
            if i not in best or overlap.coverage > best[i].coverage:
                best[i] = overlap
    others = sorted((o for o in best.values() if o.question_id not in exact), key=lambda o: -o.coverage)
    return Contamination(tuple(q.id for q in questions if q.id in exact), tuple(others))


def contamination_of(run: Run, questions: Sequence[Question]) -> Contamination:
    """Contamination of a run's benchmark by its own training samples; none where it was not trained."""
    return contamination(questions, _samples(run))


def _samples(run: Run) -> Iterator[tuple[str, str]]:
    import pyarrow.parquet as pq

    for path in sorted((run.folder / "curate").glob("samples-?????.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["trace.question.id", "trace.question.text"]):
                for row in batch.to_pylist():
                    question = row["trace"]["question"]
                    yield question["id"], question["text"]


def _ngrams(text: str) -> Iterator[str]:
    words = text.lower().split()
    for start in range(len(words) - WORDS + 1):
        yield " ".join(words[start : start + WORDS])
