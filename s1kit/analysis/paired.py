"""Two settings on the same questions: which verdicts changed, the exact test, the interval of the difference. Pure.

Outcomes are matrices, questions x repeats, as in `statistics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s1kit.analysis.intervals import Estimate, normal_quantile, t_quantile, tango
from s1kit.analysis.results import Draws, Point
from s1kit.analysis.statistics import question_means, repeats_worth

if TYPE_CHECKING:
    from s1kit.analysis.statistics import Matrix


@dataclass(frozen=True)
class Flips:
    """How many of the same questions a change of setting fixed and broke.

    With one draw a question this is the paired table. With several, a question is fixed or broken when its share of
    right draws rose or fell.
    """

    fixed: int
    """Wrong before, right after."""
    broken: int
    """Right before, wrong after."""
    kept_right: int
    """Unchanged, right in at least half of the draws."""
    kept_wrong: int


def flips(before: Sequence[float], after: Sequence[float]) -> Flips:
    """The paired table of each question's outcome, or share of right draws.

    >>> flips([True, False, False, True], [True, True, False, False])
    Flips(fixed=1, broken=1, kept_right=1, kept_wrong=1)
    """
    pairs = list(zip(before, after, strict=True))
    return Flips(
        fixed=sum(a < b for a, b in pairs),
        broken=sum(a > b for a, b in pairs),
        kept_right=sum(a == b >= 0.5 for a, b in pairs),
        kept_wrong=sum(a == b < 0.5 for a, b in pairs),
    )


_GRIDS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 30, 32, 48, 64)
"""Denominators of differences that `paired_test` computes with exactly; others are rounded to the last."""


def paired_test(differences: Sequence[float]) -> float:
    """The exact two-sided sign-flip test of per-question differences (Fisher's randomisation test of paired data).

    The probability of a sum at least as far from zero, if each question's difference were as likely to point the
    other way. It uses every draw; with one draw a question it is McNemar's exact test.

    >>> round(paired_test([1] * 9 + [-1]), 4), round(paired_test([0.5, 0.5, 1, 0, 0.5]), 4)
    (0.0215, 0.125)
    """
    import numpy as np

    moved = np.asarray([d for d in differences if d != 0], dtype=float)
    grid = next((g for g in _GRIDS if np.allclose(moved * g, np.round(moved * g), atol=1e-6)), _GRIDS[-1])
    signed = np.round(moved * grid).astype(int)
    signed = signed[signed != 0]
    if not len(signed):
        return 1.0
    signed = signed // np.gcd.reduce(signed)
    total = int(np.abs(signed).sum())
    size = 2 * total + 1
    # A sum of independent +d or -d has the product of cosines as its characteristic function.
    spectrum = np.ones(total + 1)
    for value, count in zip(*np.unique(np.abs(signed), return_counts=True), strict=True):
        spectrum *= np.cos(2 * np.pi * np.arange(total + 1) * value / size) ** count
    chances = np.fft.irfft(spectrum, n=size)  # of the sums 0, 1, ..., total, -total, ..., -1
    sums = np.concatenate([np.arange(total + 1), np.arange(total, 0, -1)])
    p = float(chances[sums >= abs(int(signed.sum()))].sum())
    return min(1.0, max(p, 2.0 ** (1 - len(signed))))


def paired_difference(before: Matrix, after: Matrix, *, comparisons: int = 1) -> Estimate:
    """How much better `after` is on the same questions, as a share, with its 95 % score interval (Tango 1998).

    Unlike an interval scaled by the observed share of changed questions it stays honest where few or none changed.
    Where fewer than six changes are to be expected only few tables are possible, and it errs to the wide side, as every
    interval does: 99.7 % at 30 questions of which one in twenty is fixed and none broken (`bench/paired_coverage.py`).
    It is no test: of 12 questions 4 fixed and none broken exclude zero, and `paired_test` says p = 0.125. A claim needs
    both.

    Repeats enter through the number of questions they are worth, as in `accuracy`, and a t quantile: counts divided by
    a design effect (Rao and Scott 1992, Biometrics 48, 577-585) with survey degrees of freedom (Korn and Graubard 1998,
    Survey Methodology 24). `comparisons` > 1 widens it so that all of so many intervals hold at once (Bonferroni): use
    it when the best of several settings was picked on these questions. Without a question it is [-1, 1].
    """
    delta = question_means(after) - question_means(before)
    n, alpha = len(delta), 0.05 / comparisons
    if not n:
        return Estimate(0.0, -1.0, 1.0)
    fixed, broken = float(delta[delta > 0].sum()), float(-delta[delta < 0].sum())
    worth, quantile = float(n), normal_quantile(alpha)
    repeats = min(repeats_worth(before), repeats_worth(after))
    if repeats > 1 and n > 1:
        quantile = t_quantile(n - 1, alpha)
        observed = float(delta.var(ddof=1))
        of_flips = (fixed + broken) / n - float(delta.mean()) ** 2
        if of_flips > 0:
            worth = n * min(repeats, of_flips / observed) if observed > 0 else n * repeats
    low, high = tango(fixed * worth / n, broken * worth / n, worth, quantile)
    return Estimate(float(delta.mean()), low, high)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for the number of tests (Holm 1979), in the given order.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


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
    def shared(self) -> int:
        """How many questions both were asked: those that were compared."""
        return sum(vars(self.flips).values())

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
