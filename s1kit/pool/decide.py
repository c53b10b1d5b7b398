"""What of the pool is dropped, and why: each batch is looked at once, then all of them are judged together."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from s1kit.errors import InputError
from s1kit.executors import RowWork, in_order, load_executor
from s1kit.pool.batches import evaluation_index, matches_of, near_of, overlaps_of, scan_batch
from s1kit.pool.decontaminate import EvaluationOverlap, Matches
from s1kit.pool.duplicates import Duplicate, NearIndex, Rows, exact_duplicates, near_duplicates
from s1kit.pool.ngrams import Tier
from s1kit.pool.reading import Pool
from s1kit.pool.scan_checkpoint import ScanCheckpoint
from s1kit.pool.semantic import Pair, judge_pairs, mark_near, same_as
from s1kit.progress import meter, say
from s1kit.recipe import Collect
from s1kit.records import Question


class Decision(NamedTuple):
    """Why the row at one position of the pool is dropped."""

    reason: str
    evidence: str


class Decisions(NamedTuple):
    """What becomes of the pool."""

    drops: dict[int, Decision]
    """By position."""
    pairs: list[Pair]
    """What tier `semantic` found near an evaluation question and `strict` did not drop."""


def decide(pool: Pool, checkpoint: ScanCheckpoint, out: Path) -> Decisions:
    """What is dropped and why. `out` holds the journal and the cache of vectors that runs share."""
    import numpy as np

    config, tier = pool.config, tier_of(pool.config)
    rows = Rows()
    overlaps: dict[int, EvaluationOverlap] = {}
    found: list[tuple[int, Matches, dict[int, str]]] = []
    pairs: list[Pair] = []
    num = 0
    with meter("collect: reading", unit="questions") as m:
        for texts, seen in _scan(pool, rows, checkpoint, _settings(config, tier, out, pool.seed)):
            rows.keys.append(np.array(seen["keys"], np.uint64))
            overlaps |= {num + at: overlap for at, overlap in overlaps_of(seen).items()}
            if "matches" in seen:
                matches = matches_of(seen)
                found.append((num, matches, {at: texts[at] for at in matches.matched}))
            pairs += [Pair(num + at, texts[at], near) for at, near in near_of(seen)]
            num += len(texts)
            m.advance(len(texts))
    if found:
        index = evaluation_index(tuple(config.against), "strict", pool.seed)
        boilerplate = index.boilerplate([matches for _, matches, _ in found], num)
        for first, matches, kept in found:
            hits = index.decide(kept, matches, boilerplate, config.coverage)
            # What covers an evaluation question's n-grams is the stronger evidence.
            overlaps |= {first + at: overlap for at, overlap in hits.items()}
    drops = {row: Decision(f"contaminated:{o.set_name}", o.evidence) for row, o in overlaps.items()}
    pairs = [pair for pair in pairs if pair.row not in drops]
    if config.semantic and pairs:
        if config.semantic.judge:
            pairs = judge_pairs(pairs, config.semantic.judge, out / "journal.sqlite")
        else:
            pairs = mark_near(pairs, config.semantic.unjudged_similarity)
        drops |= {
            row: Decision(f"contaminated:{pair.near.set_name}", pair.evidence) for row, pair in same_as(pairs).items()
        }
    drops |= _duplicates(pool, checkpoint, rows, drops.keys())
    return Decisions(drops, pairs)


def tier_of(config: Collect) -> Tier | None:
    """By which n-grams the pool is compared, if at all; `template` and `semantic` add to `strict`."""
    if config.decontaminate == "none":
        return None
    if not config.against:
        say("collect: collect.against is empty: name your benchmarks there, to leave out what overlaps with them")
        return None
    return "s1" if config.decontaminate == "s1" else "strict"


def _settings(config: Collect, tier: Tier | None, out: Path, seed: int) -> dict[str, Any]:
    semantic = None
    if tier and config.decontaminate == "semantic" and config.semantic:
        cache = str((out / "embeddings").resolve())
        semantic = {"model": config.semantic.model, "similarity": config.semantic.similarity, "cache": cache}
    return {"against": tuple(config.against), "tier": tier, "seed": seed, "semantic": semantic} | (
        {"templates": True} if tier and config.decontaminate == "template" else {}
    )


def _scan(
    pool: Pool, rows: Rows, checkpoint: ScanCheckpoint, settings: dict[str, Any]
) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """The texts of each batch and what `scan_batch` says of it; from an earlier try as far as that came."""
    batches = pool.batches()
    for seen in checkpoint.finished():
        batch = next(batches, [])
        if len(batch) != len(seen["keys"]):
            raise InputError(
                "the sources give other rows than when the stage was started",
                where="collect.sources",
                fix="Delete the stage's folder to do it again; pin the revision of a Hub source.",
            )
        rows.add(batch)
        yield [q.text for q in batch], seen
    texts = _Texts()
    config = pool.config
    num = config.processes if config.processes > 1 or config.executor == "local" else None
    cards = 0.0 if config.executor == "ray" else None
    executor = load_executor(config.executor, num, address=config.address, cards_per_engine=cards)
    for (seen,) in in_order(executor.run(RowWork(scan_batch, settings), texts.of(batches, rows))):
        checkpoint.add(seen)
        yield texts.next(), seen
    checkpoint.flush()


class _Texts:
    """The texts of the batches that are under way: an executor reads ahead, and its results come in order."""

    def __init__(self) -> None:
        self._waiting: deque[list[str]] = deque()

    def of(self, batches: Iterable[list[Question]], rows: Rows) -> Iterator[list[dict[str, str]]]:
        """Batches as an executor takes them; `rows` learns of each question on the way."""
        for batch in batches:
            rows.add(batch)
            self._waiting.append([q.text for q in batch])
            yield [{"text": q.text} for q in batch]

    def next(self) -> list[str]:
        return self._waiting.popleft()


def _duplicates(pool: Pool, checkpoint: ScanCheckpoint, rows: Rows, without: Collection[int]) -> dict[int, Decision]:
    found: dict[int, Duplicate] = {}
    if pool.config.duplicates != "none":
        # What overlaps went before, as in the s1 release: a repeat of it may then be the only one left.
        found = exact_duplicates(rows, without=without)
    if pool.config.duplicates == "near":
        gone = found.keys() | set(without)
        pairs = checkpoint.once("near", lambda: _near_pairs(pool, gone))
        found |= near_duplicates([(one, other, similarity) for one, other, similarity in pairs], rows)
    names = rows.names({d.kept for d in found.values()}) if found else {}
    decisions: dict[int, Decision] = {}
    for row, duplicate in found.items():
        kind = "exact" if duplicate.similarity == 1.0 else "near"
        how = "the same words" if kind == "exact" else f"similarity {duplicate.similarity:.2f}"
        decisions[row] = Decision(f"duplicate:{kind}", f"{how} as {names[duplicate.kept]}")
    return decisions


def _near_pairs(pool: Pool, dropped: Collection[int]) -> list[tuple[int, int, float]]:
    near, num = NearIndex(pool.config.near_threshold), 0
    with meter("collect: near duplicates", unit="questions") as m:
        for batch in pool.batches():
            left = [at for at in range(len(batch)) if num + at not in dropped]
            near.add([num + at for at in left], [batch[at].text for at in left])
            num += len(batch)
            m.advance(len(batch))
    return near.pairs
