"""Exact coverage of score intervals with unconditional p-values, and whether any interval could cover 93 to 97 %.

    python bench/paired_unconditional.py [n ...]     12 30 where none is named; about ten CPU seconds

The score test of a paired difference is inverted with exact p-values at the nuisance parameter estimated from the table
(Tang, Tang and Chan, Statistics in Medicine 24, 2005), and with their mid-p. `possible`: of all runs of neighbouring
differences (fixed - broken) the one whose probability at the truth is nearest to 95 %, which no interval is told.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from paired_coverage import BROKEN, EXPECTED, FIXED
from scipy.special import gammaln, xlogy


def tables(n: int) -> tuple[Any, Any]:
    fixed, broken = np.meshgrid(np.arange(n + 1.0), np.arange(n + 1.0), indexing="ij")
    is_table = fixed + broken <= n
    return fixed[is_table], broken[is_table]


def chances(fixed: Any, broken: Any, n: int, p: float, q: float) -> Any:
    rest = n - fixed - broken
    ways = gammaln(n + 1) - gammaln(fixed + 1) - gammaln(broken + 1) - gammaln(rest + 1)
    return np.exp(ways + xlogy(fixed, p) + xlogy(broken, q) + xlogy(rest, max(1 - p - q, 0.0)))


def estimated(fixed: Any, broken: Any, n: int, difference: float) -> tuple[Any, Any]:
    """The shares fixed and broken that are likeliest for each table among those with this difference."""
    b = -fixed - broken + (2 * n - fixed + broken) * difference
    c = -broken * difference * (1 - difference)
    share = (np.sqrt(np.maximum(0, b * b - 8 * n * c)) - b) / (4 * n)
    share = np.clip(share, max(0, -difference), (1 - difference) / 2)
    return share + difference, share


def coverages(n: int, p: float, q: float) -> tuple[float, float, float]:
    """In %: with exact p-values, with mid-p, and the nearest to 95 that is possible."""
    fixed, broken = tables(n)
    at_truth = chances(fixed, broken, n, p, q)
    ups, downs = estimated(fixed, broken, n, p - q)
    variance, excess = n * (ups + downs - (p - q) ** 2), fixed - broken - n * (p - q)
    with np.errstate(divide="ignore", invalid="ignore"):
        score = np.where(variance > 1e-12 * n, np.abs(excess) / np.sqrt(np.maximum(variance, 0)), np.inf)
    score = np.where(np.abs(excess) < 1e-9, 0.0, score)
    exact = mid = 0.0
    for i in np.flatnonzero(at_truth > 1e-7):
        of_tables = chances(fixed, broken, n, float(ups[i]), float(downs[i]))
        is_as_far = score >= score[i] - 1e-9
        p_value = of_tables[is_as_far].sum()
        exact += at_truth[i] * (p_value > 0.05)
        mid += at_truth[i] * (p_value - of_tables[is_as_far & (score <= score[i] + 1e-9)].sum() / 2 > 0.05)
    sums = np.array([at_truth[fixed - broken == d].sum() for d in range(-n, n + 1)])
    below = np.concatenate([[0], np.cumsum(sums)])
    runs = 100 * (below[None, :] - below[:, None])
    return 100 * exact, 100 * mid, float(runs.flat[np.abs(runs - 95).argmin()])


def main() -> None:
    sizes = [int(n) for n in sys.argv[1:]] or [12, 30]
    points = [(n, p, q) for n in sizes for p in FIXED for q in BROKEN if p + q <= 0.6]
    found = np.array([[n * (p + q), *coverages(n, p, q)] for n, p, q in points])
    for low, high in EXPECTED:
        rows = found[(found[:, 0] >= low) & (found[:, 0] < high), 1:]
        for name, column in zip(("exact", "mid-p", "possible"), rows.T, strict=True):
            within = 100 * ((column >= 93) & (column <= 97)).mean()
            of = f"{column.min():.1f} to {column.max():.1f} %, {within:.0f} % within"
            print(f"{low} to {high} changes, {len(rows)} points, {name}: {of}")


if __name__ == "__main__":
    main()
