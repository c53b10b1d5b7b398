"""How far to believe a number: intervals and paired tests. Pure functions of outcomes; no question, file or figure.

Outcomes are a matrix, questions x repeats, of numbers between 0 and 1 (usually 0 or 1). There are two levels of chance:
which questions were asked, and what was drawn for each. Repeats of one question stay together when questions are
resampled, since their mean carries both (Davison and Hinkley 1997, section 3.8, strategy 1): resampling repeats inside
resampled questions would count the drawing twice and make intervals too wide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb, pow, sqrt
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

Z95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""

FEW = 25
"""Up to so many questions on which two settings differ, the paired interval is exact instead of a bootstrap's."""


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


def accuracy(outcomes: Matrix) -> Estimate:
    """The mean outcome with its interval: Wilson's, on as many trials as the questions and repeats are worth.

    With one repeat that is the number of questions. With more, a repeat of the same question is worth less than a new
    question: the effective number is the one whose binomial variance is the variance between the questions' means.
    """
    import numpy as np

    means = np.asarray(outcomes, dtype=float).mean(axis=1)
    n, share = len(means), float(means.mean())
    repeats = outcomes.shape[1]
    if repeats == 1 or n < 2 or share in (0.0, 1.0):
        return wilson(share * n, n)
    variance = float(means.var(ddof=1)) / n
    effective = n * repeats if variance == 0 else min(share * (1 - share) / variance, n * repeats)
    return wilson(share * effective, effective, z=student_quantile(n - 1))


def decoding_noise(outcomes: Matrix) -> float:
    """The standard error that comes from drawing alone, were the same questions asked again; nan with one repeat."""
    import numpy as np

    n, repeats = outcomes.shape
    if repeats < 2:
        return float("nan")
    return float(np.sqrt((outcomes.var(axis=1, ddof=1) / repeats).sum()) / n)


def bootstrap(
    statistic: Callable[[Matrix], Matrix], per_question: Matrix, *, seed: int = 0, resamples: int = 2000
) -> Estimate:
    """A statistic of per-question means with its percentile interval over resampled questions.

    `per_question` is questions x columns; `statistic` takes the column means, one row a resample, and gives one value
    a row. The interval is widened as a t interval is over a normal one, which matters below 50 questions.
    """
    import numpy as np

    values = np.asarray(per_question, dtype=float)
    n = len(values)
    if n < 2:
        raise ValueError("a bootstrap needs at least two questions.")
    point = float(statistic(values.mean(axis=0, keepdims=True))[0])
    draws = np.asarray(statistic(_resampled_means(values, resamples, seed)), dtype=float)
    low, high = np.nanquantile(draws, [0.025, 0.975])
    widen = sqrt(n / (n - 1)) * student_quantile(n - 1) / Z95
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
    """What a change of setting did to the same questions: the paired table and its exact test."""

    fixed: int
    """Wrong before, right after."""
    broken: int
    """Right before, wrong after."""
    kept_right: int
    kept_wrong: int

    @property
    def p_value(self) -> float:
        """McNemar's exact two-sided test: were fixing and breaking equally likely?"""
        return sign_test(self.fixed, self.broken)


def flips(before: Sequence[bool], after: Sequence[bool]) -> Flips:
    """The paired table of one draw a question.

    >>> flips([True, False, False, True], [True, True, False, False])
    Flips(fixed=1, broken=1, kept_right=1, kept_wrong=1)
    """
    pairs = list(zip(before, after, strict=True))
    return Flips(
        fixed=sum(not a and b for a, b in pairs),
        broken=sum(a and not b for a, b in pairs),
        kept_right=sum(a and b for a, b in pairs),
        kept_wrong=sum(not a and not b for a, b in pairs),
    )


def sign_test(ups: int, downs: int) -> float:
    """The exact two-sided probability of a split at least as uneven, if up and down were equally likely.

    >>> round(sign_test(9, 1), 4)
    0.0215
    """
    n, most = ups + downs, max(ups, downs)
    tail = sum(comb(n, i) for i in range(most, n + 1))
    return min(1.0, float(2 * tail / 2**n))


def paired_difference(before: Matrix, after: Matrix, *, seed: int = 0, comparisons: int = 1) -> Estimate:
    """How much better `after` is on the same questions, as a share, with its 95 % interval.

    With one repeat and few questions that differ the interval is exact (Clopper and Pearson on the share of fixed
    among the changed, scaled); otherwise a bootstrap over questions. `comparisons` > 1 widens it so that all of so
    many intervals hold at once (Bonferroni): use it when the best of several settings was picked on these questions.
    """
    import numpy as np

    delta = np.asarray(after, dtype=float).mean(axis=1) - np.asarray(before, dtype=float).mean(axis=1)
    n = len(delta)
    changed = int(np.count_nonzero(delta))
    alpha = 0.05 / comparisons
    if set(np.unique(delta)) <= {-1.0, 0.0, 1.0} and changed <= FEW:
        fixed = int((delta > 0).sum())
        low, high = clopper_pearson(fixed, changed, alpha)
        return Estimate(float(delta.mean()), (2 * low - 1) * changed / n, (2 * high - 1) * changed / n)
    draws = _resampled_means(delta.reshape(-1, 1), min(max(2000, round(200 / alpha)), 20_000), seed)[:, 0]
    low, high = np.quantile(draws, [alpha / 2, 1 - alpha / 2])
    widen = sqrt(n / (n - 1)) * student_quantile(n - 1) / Z95
    mean = float(delta.mean())
    return Estimate(mean, mean + (float(low) - mean) * widen, mean + (float(high) - mean) * widen)


def clopper_pearson(successes: int, n: int, alpha: float = 0.05) -> tuple[float, float]:
    """The exact interval of a share, by bisection on the binomial tails; (0, 1) when n is 0.

    >>> [round(x, 4) for x in clopper_pearson(9, 10)]
    [0.555, 0.9975]
    """

    def tail(share: float, at_least: int) -> float:
        terms = (comb(n, i) * pow(share, i) * pow(1 - share, n - i) for i in range(at_least, n + 1))
        return float(sum(terms))

    low = 0.0 if successes == 0 else _bisect(lambda p: tail(p, successes) - alpha / 2)
    high = 1.0 if successes == n else _bisect(lambda p: tail(p, successes + 1) - (1 - alpha / 2))
    return low, high


def _bisect(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


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


def student_quantile(df: int) -> float:
    """The 97.5 % quantile of Student's t: the normal one with three Cornish-Fisher terms; exact to 0.01 from 4 on.

    >>> round(student_quantile(29), 2)
    2.05
    """
    z = Z95
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / df + second / df**2 + third / df**3
