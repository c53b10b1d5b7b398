"""Confidence intervals and paired tests: pure functions of outcomes; no question, file or figure.

Outcomes are a matrix, questions x repeats, of numbers between 0 and 1 (usually 0 or 1), nan where a question has fewer
repeats than others. Every question counts the same, however many repeats it has. There are two levels of chance: which
questions were asked, and what was drawn for each. Repeats of one question stay together when questions are
resampled, since their mean carries both (Davison and Hinkley 1997, section 3.8, strategy 1): resampling repeats inside
resampled questions would count the drawing twice and make intervals too wide.

Quantiles, exact intervals and roots are scipy's: MissingExtra where it is not installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from math import exp, inf, sqrt
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from s1kit.errors import MissingExtra

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

Z95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


class Estimate(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def wilson(successes: float, n: float, z: float = Z95) -> Estimate:
    """The Wilson score interval of a share. `n` may be an effective number.

    >>> [round(100 * x, 1) for x in wilson(156, 300)]
    [52.0, 46.4, 57.6]
    """
    if n <= 0:
        raise ValueError("the interval of a share needs at least one trial.")
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # Rounding may leave 0 of n a hair above 0; the interval always holds its value.
    return Estimate(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))


def question_means(outcomes: Matrix) -> Matrix:
    """The mean of each question's repeats, one value a row; nan marks repeats that a question does not have."""
    import numpy as np

    values = np.asarray(outcomes, dtype=float)
    is_there = ~np.isnan(values)
    counts = is_there.sum(axis=1)
    means = np.where(is_there, values, 0.0).sum(axis=1) / np.maximum(counts, 1)
    return np.asarray(np.where(counts > 0, means, np.nan))


def repeats_worth(outcomes: Matrix) -> float:
    """How many repeats each question would have if all had the same number, for the same noise: the harmonic mean.

    >>> import numpy as np
    >>> round(repeats_worth(np.array([[1.0, 0.0], [1.0, np.nan]])), 3)
    1.333
    """
    import numpy as np

    return float(1 / (1 / (~np.isnan(np.asarray(outcomes, dtype=float))).sum(axis=1)).mean())


def accuracy(outcomes: Matrix, *, comparisons: int = 1, worth: float | None = None) -> Estimate:
    """The mean outcome with its interval: Wilson's, on as many trials as the questions and repeats are worth.

    With one repeat that is the number of questions. With more, a repeat of the same question is worth less than a new
    question: the effective number is the one whose binomial variance is the variance between the questions' means.
    `worth` is how many trials one question may count for at most, where outcomes are chances (of a vote, say) and not
    draws; its repeats otherwise. `comparisons` > 1 widens the interval so that all of so many hold at once
    (Bonferroni): use it for the best of several settings, which is partly the best by luck.
    """
    import numpy as np

    means = question_means(outcomes)
    n, share, alpha = len(means), float(means.mean()), 0.05 / comparisons
    trials = repeats_worth(outcomes) if worth is None else worth
    # A sum of halves and thirds may miss 0 or 1 by a rounding error.
    share = float(np.clip(share, 0.0, 1.0))
    if trials == 1 or n < 2 or share in (0.0, 1.0):
        return wilson(share * n, n, z=normal_quantile(alpha))
    variance = float(means.var(ddof=1)) / n
    effective = n * trials if variance == 0 else min(share * (1 - share) / variance, n * trials)
    return wilson(share * effective, effective, z=t_quantile(n - 1, alpha))


def average(amounts: Matrix) -> Estimate:
    """The mean amount a question, such as of tokens, with its t interval over questions; never below zero.

    `amounts` is questions x repeats. One question says nothing of others: its interval is unbounded above.
    """
    means = question_means(amounts)
    n, value = len(means), float(means.mean())
    if n < 2:
        return Estimate(value, 0.0, inf)
    half = t_quantile(n - 1) * float(means.std(ddof=1)) / sqrt(n)
    return Estimate(value, max(0.0, value - half), value + half)


def ratio(amounts: Matrix, counts: Matrix) -> Estimate:
    """Amount spent a success, a ratio of sums over questions, with its interval; infinite without a success.

    Both are one value a question. The interval is that of the logarithm, by the delta method (Cochran 1977, chapter 6):
    it stays above zero and is wider upwards.
    """
    import numpy as np

    n, total, num = len(amounts), float(np.sum(amounts)), float(np.sum(counts))
    if not num or not total:
        return Estimate(inf if total else 0.0, 0.0, inf)
    value = total / num
    if n < 2:
        return Estimate(value, 0.0, inf)
    residual = np.asarray(amounts, dtype=float) - value * np.asarray(counts, dtype=float)
    spread = t_quantile(n - 1) * float(residual.std(ddof=1)) * sqrt(n) / total
    return Estimate(value, value * exp(-spread), value * exp(min(spread, 700.0)))


def bootstrap(
    statistic: Callable[[Matrix], Matrix], per_question: Matrix, *, seed: int = 0, resamples: int = 2000
) -> Estimate:
    """A statistic of per-question means with its percentile interval over resampled questions.

    `per_question` is questions x columns; `statistic` takes the column means, one row a resample, and gives one value
    a row. The interval is widened as a t interval is over a normal one, which matters below 50 questions. One question
    says nothing of others: its interval is unbounded.
    """
    import numpy as np

    values = np.asarray(per_question, dtype=float)
    n = len(values)
    point = float(statistic(values.mean(axis=0, keepdims=True))[0])
    if n < 2:
        return Estimate(point, -inf, inf)
    draws = np.asarray(statistic(_resampled_means(values, resamples, seed)), dtype=float)
    low, high = np.nanquantile(draws, [0.025, 0.975])
    widen = sqrt(n / (n - 1)) * t_quantile(n - 1) / Z95
    return Estimate(point, point + (float(low) - point) * widen, point + (float(high) - point) * widen)


def _resampled_means(rows: Matrix, resamples: int, seed: int) -> Matrix:
    """Column means of rows drawn with replacement, one row a resample.

    Equal rows are drawn together: how often each of the different ones comes up is all that matters, and there are few.
    """
    import numpy as np

    different, counts = np.unique(rows, axis=0, return_counts=True)
    n = len(rows)
    drawn = np.random.default_rng(seed).multinomial(n, counts / n, size=resamples)
    return np.asarray(drawn @ different / n, dtype=float)


@dataclass(frozen=True)
class Flips:
    """What a change of setting did to the same questions.

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

    Repeats enter through the number of questions they are worth, as in `accuracy`, and a t quantile. `comparisons` > 1
    widens it so that all of so many intervals hold at once (Bonferroni): use it when the best of several settings was
    picked on these questions.
    """

    delta = question_means(after) - question_means(before)
    n, alpha = len(delta), 0.05 / comparisons
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


@lru_cache(maxsize=4096)
def tango(fixed: float, broken: float, n: float, z: float = Z95) -> tuple[float, float]:
    """The score interval of a difference of paired shares, (fixed - broken) / n; counts may be effective numbers.

    Tango 1998, Statistics in Medicine 17, 891-908. Of 21 patients 1 changed one way and 7 the other (Fagerland,
    Lydersen and Laake 2014, Statistics in Medicine 33, 2850-2875):

    >>> [round(x, 3) for x in tango(1, 7, 21)]
    [-0.517, -0.026]
    """
    brentq = _scipy("optimize").brentq

    def score(difference: float) -> float:
        b = -fixed - broken + (2 * n - fixed + broken) * difference
        c = -broken * difference * (1 - difference)
        share_broken = (sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
        variance = n * (2 * share_broken + difference * (1 - difference))
        excess = fixed - broken - n * difference
        return excess / sqrt(variance) if variance > 1e-12 * n else (inf if excess > 0 else -inf if excess < 0 else 0.0)

    value, edge = (fixed - broken) / n, 1 - 1e-9
    low = -1.0 if value <= -edge or score(-edge) < z else brentq(lambda d: _clipped(score(d) - z), -edge, value)
    high = 1.0 if value >= edge or score(edge) > -z else brentq(lambda d: _clipped(score(d) + z), value, edge)
    return min(float(low), value), max(float(high), value)


def _clipped(value: float) -> float:
    """Finite, as the root finder wants it."""
    return max(-1e9, min(1e9, value))


def clopper_pearson(successes: int, n: int, alpha: float = 0.05) -> tuple[float, float]:
    """The exact interval of a share; (0, 1) when n is 0.

    >>> [round(x, 4) for x in clopper_pearson(9, 10)]
    [0.555, 0.9975]
    """
    if not n:
        return 0.0, 1.0
    found = _scipy("stats").binomtest(successes, n).proportion_ci(1 - alpha, method="exact")
    return float(found.low), float(found.high)


def binomial_at_most(successes: int, n: int, share: float) -> float:
    """The probability of at most so many successes in `n` trials of chance `share`.

    >>> round(binomial_at_most(0, 299, 0.01), 4)
    0.0495
    """
    return float(_scipy("stats").binom.cdf(successes, n, share))


def holm(p_values: Sequence[float]) -> list[float]:
    """The same p-values, adjusted for being several (Holm 1979), in the given order.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


@lru_cache(maxsize=256)
def t_quantile(df: float, alpha: float = 0.05) -> float:
    """The two-sided quantile of Student's t: `alpha` of its mass lies beyond plus and minus this.

    >>> round(t_quantile(29), 3)
    2.045
    """
    return float(_scipy("stats").t.ppf(1 - alpha / 2, df))


@lru_cache(maxsize=256)
def normal_quantile(alpha: float = 0.05) -> float:
    """The two-sided quantile of the normal distribution."""
    return Z95 if alpha == 0.05 else float(_scipy("stats").norm.ppf(1 - alpha / 2))


def _scipy(part: str) -> ModuleType:
    try:
        return import_module(f"scipy.{part}")
    except ImportError as error:
        raise MissingExtra("the report", "scipy", extra="report") from error
