"""Exact coverage of three 95 % intervals of a paired difference, by how many questions are expected to change.

    python bench/paired_coverage.py [n ...]     12 30 60 120 where none is named; about two CPU minutes

Tango's score interval (which the report uses), Bonett and Price's adjusted Wald (J. Educ. Behav. Stat. 37, 2012), and
Wilson limits of the two discordant shares, squared and added (Newcombe, Statistics in Medicine 17, 1998, method 10's
idea). Coverage is the summed probability of all tables whose interval holds the true difference.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from math import sqrt

import numpy as np
from scipy.stats import binom

from s1kit.analysis.intervals import Z95, tango, wilson

Interval = Callable[[int, int, int], tuple[float, float]]
FIXED = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4)
BROKEN = (0.0, 0.01, 0.03, 0.05, 0.1, 0.2, 0.3)
EXPECTED = ((0, 3), (3, 6), (6, 12), (12, 10**6))


@cache
def bonett_price(fixed: int, broken: int, n: int) -> tuple[float, float]:
    a, b = (fixed + 1) / (n + 2), (broken + 1) / (n + 2)
    half = Z95 * sqrt(max(0.0, a + b - (a - b) ** 2) / (n + 2))
    return a - b - half, a - b + half


@cache
def square_and_add(fixed: int, broken: int, n: int) -> tuple[float, float]:
    a, b = wilson(fixed, n), wilson(broken, n)
    p, q = a.value, b.value
    r = -p * q / sqrt(p * (1 - p) * q * (1 - q)) if 0 < p < 1 and 0 < q < 1 else 0.0

    def length(x: float, y: float) -> float:
        return sqrt(max(0.0, x * x - 2 * r * x * y + y * y))

    return p - q - length(p - a.low, b.high - q), p - q + length(a.high - p, q - b.low)


METHODS: dict[str, Interval] = {"Tango": tango, "Bonett-Price": bonett_price, "square-and-add": square_and_add}


def coverage(interval: Interval, n: int, fixed: float, broken: float) -> float:
    total = 0.0
    for num in range(n + 1):
        of_changed = binom.pmf(num, n, fixed + broken)
        for ups in range(num + 1) if of_changed > 1e-6 else ():
            chance = of_changed * binom.pmf(ups, num, fixed / (fixed + broken))
            if chance > 1e-7:
                low, high = interval(ups, num - ups, n)
                total += chance * (low - 1e-12 <= fixed - broken <= high + 1e-12)
    return 100 * float(total)


def main() -> None:
    sizes = [int(n) for n in sys.argv[1:]] or [12, 30, 60, 120]
    points = [(n, a, b) for n in sizes for a in FIXED for b in BROKEN if a + b <= 0.6]
    found = np.array([[n * (a + b), *(coverage(m, n, a, b) for m in METHODS.values())] for n, a, b in points])
    for low, high in EXPECTED:
        rows = found[(found[:, 0] >= low) & (found[:, 0] < high), 1:]
        for name, column in zip(METHODS, rows.T, strict=True):
            within = 100 * ((column >= 93) & (column <= 97)).mean()
            print(
                f"{low} to {high} changes expected, {len(rows)} points, {name}: "
                f"{column.min():.1f} to {column.max():.1f} %, "
                f"mean {column.mean():.1f}; {within:.0f} % of points between 93 and 97",
                flush=True,
            )


if __name__ == "__main__":
    main()
