"""Intervals of shares and of differences of paired shares, from counts alone.

Quantiles, exact intervals and roots are scipy's: MissingExtra where it is not installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from math import inf, log, sqrt
from types import ModuleType
from typing import NamedTuple

from s1kit.errors import MissingExtra

Z95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


class Estimate(NamedTuple):
    """A value and its 95 % interval, in the unit of the value."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval."""
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


def clopper_pearson(successes: int, n: int) -> tuple[float, float]:
    """The exact 95 % interval of a share; (0, 1) when n is 0.

    >>> [round(x, 4) for x in clopper_pearson(9, 10)]
    [0.555, 0.9975]
    """
    if not n:
        return 0.0, 1.0
    found = _scipy("stats").binomtest(successes, n).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


def binomial_at_most(successes: int, n: int, share: float) -> float:
    """The probability of at most so many successes in `n` trials of chance `share`.

    >>> round(binomial_at_most(0, 299, 0.01), 4)
    0.0495
    """
    return float(_scipy("stats").binom.cdf(successes, n, share))


def mean_at_least(values: Sequence[float], bound: float, level: float) -> float:
    """A p-value of the hypothesis "the mean is `bound` or more", for independent values in [0, 1] of any distribution.

    It is a test by betting (Waudby-Smith and Ramdas, arXiv 2010.09686, predictable plug-in bets): capital grows where
    values lie below the bound, and under the hypothesis it reaches 1/p with a probability of at most p (Ville's
    inequality). `level` is the significance level. It tunes the bets; the p-value is valid for any.

    >>> mean_at_least([0.2, 0.3] * 50, 0.4, 0.05) < 0.001 < 0.3 < mean_at_least([0.2, 0.6] * 50, 0.4, 0.05)
    True
    """
    fortune, most, total, squares = 1.0, 1.0, 0.5, 0.25
    for num, value in enumerate(values, 1):
        variance = squares / num
        bet = min(sqrt(2 * log(1 / level) / (len(values) * variance)), 0.9 / (1 - bound))
        fortune *= 1 + bet * (bound - value)
        most = max(most, fortune)
        total += value
        squares += (value - total / (num + 1)) ** 2
    return 1 / most


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
