"""The paper's three metrics of a method, control, scaling and performance, with their intervals. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s1kit.analysis.intervals import Estimate
from s1kit.analysis.paired import outcomes_on, shared_ids
from s1kit.analysis.results import Draws, Point
from s1kit.analysis.settings import CLASS_CONTROL, target_range
from s1kit.analysis.statistics import accuracy, bootstrap, question_means

if TYPE_CHECKING:
    from s1kit.analysis.statistics import Matrix


@dataclass(frozen=True)
class Method:
    """The paper's three metrics of one way to spend test-time compute, with their intervals."""

    name: str
    points: tuple[Point, ...]
    control: Estimate | None
    """Share of generations within what was asked; None where no number was asked for."""
    scaling: Estimate | None
    """Percentage points per doubling of thinking tokens; None with fewer than two different lengths."""
    performance: Estimate
    """The best accuracy; its interval is widened for the number of points it is the best of."""


def method_of(name: str, points: Sequence[Point], free: Draws | None) -> Method:
    """The three metrics. `free` is thinking without being asked for a length, which short and long are held against."""
    best = max(points, key=lambda p: p.estimate.value)
    return Method(
        name,
        tuple(points),
        control=_control(points, free),
        scaling=_scaling([p for p in points if p.tokens > 0]),
        performance=accuracy(
            best.outcomes, comparisons=len(points), worth=None if best.per_question is None else best.worth
        ),
    )


def _control(points: Sequence[Point], free: Draws | None) -> Estimate | None:
    """Control over all points, on the questions that all of them asked."""
    import numpy as np

    ids = shared_ids([*(p.draws for p in points), *([free] if free else [])])
    within = []
    for p in points:
        draws = p.draws.on(ids)
        if draws.setting.method != CLASS_CONTROL:
            low, high = target_range(draws.setting)
            is_within = (low <= draws.thinking_tokens) & (draws.thinking_tokens <= high)
            within.append(question_means(draws.are(is_within)))
        elif free is not None:
            # The thinking went the way it was asked to, shorter or longer than unasked.
            change = question_means(draws.thinking_tokens) - question_means(free.on(ids).thinking_tokens)
            within.append((change < 0 if draws.setting.target == "short" else change > 0).astype(float))
    return accuracy(np.stack(within, axis=1)) if within and ids else None


def _scaling(points: Sequence[Point]) -> Estimate | None:
    """The paper's scaling with its bootstrap interval over questions, accuracy and tokens resampled together."""
    import numpy as np

    ids = shared_ids([p.draws for p in points]) if points else []
    if len({p.tokens for p in points}) < 2 or not ids:
        return None
    place = [{question: i for i, question in enumerate(p.draws.question_ids)} for p in points]
    right = np.stack([question_means(outcomes_on(p, ids)) for p in points], axis=1)
    tokens = np.stack(
        [p.tokens_per_question[[at[q] for q in ids]] for p, at in zip(points, place, strict=True)], axis=1
    )
    average = tokens.mean(axis=0)
    pairs = [(i, j) for i in range(len(points)) for j in range(len(points)) if average[i] < average[j]]
    if not pairs:
        return None
    low, high = (list(side) for side in zip(*pairs, strict=True))

    def mean_slope(means: Matrix) -> Matrix:
        value, doublings = means[:, : len(points)], np.log2(np.maximum(means[:, len(points) :], 1e-9))
        rise, run = value[:, high] - value[:, low], doublings[:, high] - doublings[:, low]
        slopes = np.where(run == 0, np.nan, 100 * rise / np.where(run == 0, 1, run))
        known = ~np.isnan(slopes)
        # A resample of questions may leave no pair of points with different numbers of tokens.
        counts = known.sum(axis=1)
        return np.asarray(np.where(counts, np.where(known, slopes, 0).sum(axis=1) / np.maximum(counts, 1), np.nan))

    return bootstrap(mean_slope, np.concatenate([right, tokens], axis=1))
