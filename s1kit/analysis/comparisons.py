"""Two settings on the same questions: which verdicts changed, by how much, with an interval and a p-value. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s1kit.analysis.intervals import Estimate
from s1kit.analysis.paired import Flips, flips, paired_difference, paired_test
from s1kit.analysis.results import Draws, Point
from s1kit.analysis.statistics import question_means

if TYPE_CHECKING:
    from s1kit.analysis.statistics import Matrix


@dataclass(frozen=True)
class Comparison:
    """Two settings on the same questions: what changed, by how much, and whether that may be luck."""

    before: Point
    after: Point
    flips: Flips
    p_value: float
    """The exact paired test over all draws, adjusted for the number of comparisons made."""
    difference: Estimate
    """Paired, widened so that the intervals of all comparisons made hold at once."""

    @property
    def is_noise(self) -> bool:
        """Whether nothing may be claimed: interval and test must agree that the difference is not zero."""
        return not self.difference.excludes_zero or self.p_value > 0.05

    @property
    def sampling(self) -> str:
        """How the two were decoded, where that differs; empty where only the method does.

        `greedy against temperature 0.6` for `after` against `before`.
        """
        temperatures = [p.draws.setting.temperature for p in (self.after, self.before)]
        names = ["greedy" if t == 0 else f"temperature {t:g}" for t in temperatures]
        return "" if temperatures[0] == temperatures[1] else " against ".join(names)


def compare(before: Point, after: Point, comparisons: int = 1) -> Comparison:
    """`after` against `before` on the questions that both answered, over all draws.

    `comparisons`: how many were made, this one being shown or picked among them.
    """
    ids = shared_ids([before.draws, after.draws])
    a, b = outcomes_on(before, ids), outcomes_on(after, ids)
    means = question_means(a), question_means(b)
    return Comparison(
        before,
        after,
        flips(*(m.tolist() for m in means)),
        min(1.0, comparisons * paired_test((means[1] - means[0]).tolist())),
        paired_difference(a, b, comparisons=comparisons),
    )


def shared_ids(draws: Sequence[Draws]) -> list[str]:
    """The questions that all of them asked, in the order of the first."""
    everywhere = set.intersection(*(set(d.question_ids) for d in draws))
    return [q for q in draws[0].question_ids if q in everywhere]


def outcomes_on(point: Point, ids: Sequence[str]) -> Matrix:
    """The outcomes of a point on some of its questions, in the given order."""
    row = {question_id: i for i, question_id in enumerate(point.draws.question_ids)}
    return point.outcomes[[row[q] for q in ids]]
