"""The part of `collect` that looks at one batch alone: what every executor runs, on a laptop or a cluster.

Plain rows in, plain rows out, so that a batch can travel. Evaluation sets are loaded once a process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from s1kit.pool.decontaminate import EvaluationOverlap, Matches, OverlapIndex, TemplateIndex
from s1kit.pool.duplicates import text_keys
from s1kit.pool.evaluation_sets import load_set
from s1kit.pool.ngrams import Tier
from s1kit.pool.semantic import Near, near_questions


def scan_batch(
    rows: Sequence[Mapping[str, Any]],
    against: Sequence[str],
    tier: Tier | None,
    seed: int,
    semantic: Mapping[str, Any] | None = None,
    templates: bool = False,
) -> list[dict[str, Any]]:
    """One row with what the decision over the whole pool needs from a batch (rows with `text`).

    `keys`: one hash for each row, equal for the same text after normalisation. In tier `s1` `overlaps`: position and
    `EvaluationOverlap`; in tier `strict` `matches`: the fields of `Matches`, and with `templates` `overlaps` of the
    same template. With `semantic` (`model`, `similarity`, `cache`) also `near`: position and `Near`.
    """
    texts = [str(row["text"]) for row in rows]
    seen: dict[str, Any] = {"keys": text_keys(texts).tolist()}
    if tier is None:
        return [seen]
    index = evaluation_index(tuple(against), tier, seed)
    if tier == "s1":
        seen["overlaps"] = [[at, *overlap] for at, overlap in index.find(texts).items()]
    else:
        matches = index.match(texts)
        seen["matches"] = [matches.texts.tolist(), matches.grams.tolist(), matches.firsts.tolist(), matches.matched]
    if templates:
        overlaps = template_index(tuple(against), seed).find(texts)
        seen["overlaps"] = [[at, *overlap] for at, overlap in overlaps.items()]
    if semantic:
        seen["near"] = near_questions(texts, against, seed=seed, **semantic)
    return [seen]


def overlaps_of(seen: Mapping[str, Any]) -> dict[int, EvaluationOverlap]:
    """What `scan_batch` wrote about overlaps, by position in the batch."""
    return {row[0]: EvaluationOverlap(*row[1:]) for row in seen.get("overlaps", ())}


def matches_of(seen: Mapping[str, Any]) -> Matches:
    """What `scan_batch` wrote about matches."""
    import numpy as np

    texts, grams, firsts, matched = seen["matches"]
    return Matches(np.array(texts, np.int64), np.array(grams, np.int64), np.array(firsts, np.int64), tuple(matched))


def near_of(seen: Mapping[str, Any]) -> list[tuple[int, Near]]:
    """What `scan_batch` wrote about nearness: position in the batch, and to what."""
    return [(row[0], Near(*row[1:])) for row in seen.get("near", ())]


@lru_cache(maxsize=4)
def evaluation_index(against: tuple[str, ...], tier: Tier, seed: int) -> OverlapIndex:
    """The evaluation sets, loaded; the same again for the next batch."""
    return OverlapIndex([load_set(name, tier, seed) for name in against], tier)


@lru_cache(maxsize=4)
def template_index(against: tuple[str, ...], seed: int) -> TemplateIndex:
    """The templates of the evaluation sets, loaded; the same again for the next batch."""
    return TemplateIndex([load_set(name, "template", seed) for name in against])
