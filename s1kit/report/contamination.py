"""Benchmark questions that the model may have met in training: word for word, or half of their wording.

The rule is that of `collect` with `decontaminate = "strict"` (`s1kit/questions/wording.py`), read the other way round:
not to drop a sample, but to say which questions of the benchmark a reader should trust less.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from s1kit.questions.wording import (
    BOILERPLATE_MIN,
    BOILERPLATE_QUESTIONS,
    BOILERPLATE_SHARE,
    COVERAGE,
    NGRAM,
    strict_words,
)
from s1kit.records import Question
from s1kit.stage import Run, is_finished


class Overlap(NamedTuple):
    """A benchmark question and the training sample that shares most with it."""

    question_id: str
    sample_id: str
    """Id of the sample's question."""
    coverage: float
    """Share of the question's n-grams that the sample holds, 0 to 1: of all or of the informative, the lesser."""
    words: str
    """An informative n-gram they share."""


@dataclass(frozen=True)
class Contamination:
    """The benchmark questions that are, or overlap with, training samples."""

    exact: tuple[str, ...] = ()
    """Ids of questions whose very text is a sample's."""
    overlaps: tuple[Overlap, ...] = ()
    """The others of which a sample covers `COVERAGE` or more, most covered first."""


def contamination(questions: Sequence[Question], samples: Iterable[tuple[str, str]]) -> Contamination:
    """The overlap of benchmark questions with training samples, both given as (id, text)."""
    ids = {q.id for q in questions}
    grams = [set(_ngrams(q.text)) for q in questions]
    owners: dict[str, list[int]] = {}
    for i, found in enumerate(grams):
        for gram in found:
            owners.setdefault(gram, []).append(i)
    exact: set[str] = set()
    shared: list[tuple[str, list[str]]] = []
    num_samples = 0
    for sample_id, text in samples:
        num_samples += 1
        if sample_id in ids:
            exact.add(sample_id)
        elif hits := [gram for gram in dict.fromkeys(_ngrams(text)) if gram in owners]:
            shared.append((sample_id, hits))
    counts = Counter(gram for _, hits in shared for gram in hits)
    limit = max(BOILERPLATE_MIN, BOILERPLATE_SHARE * num_samples)
    common = {g for g, who in owners.items() if len(who) > BOILERPLATE_QUESTIONS or counts[g] > limit}
    best = _most_covered(questions, grams, owners, shared, common)
    others = sorted((o for o in best if o.question_id not in exact), key=lambda o: -o.coverage)
    return Contamination(tuple(q.id for q in questions if q.id in exact), tuple(others))


def _most_covered(
    questions: Sequence[Question],
    grams: Sequence[set[str]],
    owners: Mapping[str, Sequence[int]],
    shared: Iterable[tuple[str, Sequence[str]]],
    common: AbstractSet[str],
) -> Collection[Overlap]:
    """For each question the sample that covers most of it, where that is `COVERAGE` or more.

    `grams` are the n-grams of each question, `owners` the questions of each n-gram, `shared` the samples' ids with
    those of their n-grams that a question has, and `common` the n-grams that are boilerplate.
    """
    best: dict[int, Overlap] = {}
    for sample_id, hits in shared:
        num_all = Counter(i for gram in hits for i in owners[gram])
        num = Counter(i for gram in hits if gram not in common for i in owners[gram])
        for i in num:
            share = min(num[i] / len(grams[i] - common), num_all[i] / len(grams[i]))
            if share >= COVERAGE and (i not in best or share > best[i].coverage):
                words = next(g for g in hits if g not in common and i in owners[g])
                best[i] = Overlap(questions[i].id, sample_id, share, words)
    return best.values()


def contamination_of(run: Run, questions: Sequence[Question]) -> Contamination:
    """Contamination of a run's benchmark by its own training samples; none where it was not trained.

    Where `collect` has decided by this rule about a whole benchmark, its decision stands: it knew all of the
    benchmark's questions and all of the pool, which say what is boilerplate. Only copies are looked for then.
    """
    samples = list(_samples(run))
    found = contamination(questions, samples)
    settled = {q.id for q in questions if str(q.metadata.get("benchmark")) in _decided(run)}
    return Contamination(found.exact, tuple(o for o in found.overlaps if o.question_id not in settled))


def _decided(run: Run) -> set[str]:
    """The benchmarks that `collect` kept the pool clear of, by the rule above or more."""
    if not is_finished(run.folder, "collect"):
        return set()
    config = run.receipt("collect")["config"]
    is_strict = config.get("decontaminate") in ("strict", "template", "semantic")
    return {Path(name).name.split(".")[0] for name in config.get("against", ())} if is_strict else set()


def _samples(run: Run) -> Iterator[tuple[str, str]]:
    import pyarrow.parquet as pq

    for path in sorted((run.folder / "curate").glob("samples-?????.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["trace.question.id", "trace.question.text"]):
                for row in batch.to_pylist():
                    question = row["trace"]["question"]
                    yield question["id"], question["text"]


def _ngrams(text: str) -> Iterator[str]:
    """Runs of `NGRAM` words; a shorter text is one of its own."""
    words = strict_words(text)
    for start in range(max(1, len(words) - NGRAM + 1)):
        yield " ".join(words[start : start + NGRAM])
