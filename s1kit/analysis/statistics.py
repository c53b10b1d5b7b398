"""Means over questions and their 95 % intervals: pure functions of outcomes; no question, file or figure.

Outcomes are a matrix, questions x repeats, of numbers between 0 and 1 (usually 0 or 1), nan where a question has fewer
repeats than others. Every question counts the same, however many repeats it has. There are two levels of chance: which
questions were asked, and what was drawn for each. Repeats of one question stay together when questions are
resampled, since their mean carries both (Davison and Hinkley 1997, section 3.8, strategy 1): resampling repeats inside
resampled questions would count the drawing twice and make intervals too wide.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp, inf, sqrt
from typing import TYPE_CHECKING

from s1kit.analysis.intervals import Z95, Estimate, normal_quantile, t_quantile, wilson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]
    """Questions x repeats, or one value a question."""


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
    """The mean outcome with a 95 % Wilson interval on the effective number of trials.

    With one repeat the effective number is the number of questions. With more, repeats of one question are correlated;
    the effective number is then the n for which p(1 - p)/n equals the variance of the questions' means, and at most
    questions times repeats.

    `worth` replaces the number of repeats in that maximum. Give it where outcomes are probabilities, such as those of
    a majority vote, and not draws. `comparisons` > 1 widens the interval so that this many hold simultaneously
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
    # Where all but less than one whole question went alike, how unlike questions are can hardly be told from them: the
    # number moves to that of the questions, which is what counts where all went alike.
    odd = n * min(share, 1 - share)
    if odd < 1 and effective > n:
        effective = n * (effective / n) ** odd
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


def bootstrap(statistic: Callable[[Matrix], Matrix], per_question: Matrix, *, resamples: int = 2000) -> Estimate:
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
    draws = np.asarray(statistic(_resampled_means(values, resamples)), dtype=float)
    low, high = np.nanquantile(draws, [0.025, 0.975])
    widen = sqrt(n / (n - 1)) * t_quantile(n - 1) / Z95
    return Estimate(point, point + (float(low) - point) * widen, point + (float(high) - point) * widen)


def _resampled_means(rows: Matrix, resamples: int) -> Matrix:
    """Column means of rows drawn with replacement, one row a resample.

    Equal rows are drawn together: how often each of the different ones comes up is all that matters, and there are few.
    """
    import numpy as np

    different, counts = np.unique(rows, axis=0, return_counts=True)
    n = len(rows)
    drawn = np.random.default_rng(0).multinomial(n, counts / n, size=resamples)
    return np.asarray(drawn @ different / n, dtype=float)
