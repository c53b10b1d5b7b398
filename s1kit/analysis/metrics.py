"""Metrics of a set of runs: pure functions of counts. They know nothing about questions, engines or files.

`control`, `scaling` and `performance` are the paper's three metrics of a method (section 4.1); the rest is what the
paper's tables leave out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import combinations
from math import comb, log2, prod


def control(thinking_tokens: Sequence[float], low: float, high: float) -> float:
    """The share of runs whose thinking stayed within [low, high], both inclusive; 0 to 1.

    >>> control([10, 20, 30, 40], low=0, high=30)
    0.75
    """
    if not thinking_tokens:
        raise ValueError("control of no runs: give at least one number of thinking tokens.")
    return sum(low <= tokens <= high for tokens in thinking_tokens) / len(thinking_tokens)


def scaling(points: Sequence[tuple[float, float]]) -> float:
    """The mean slope over all pairs of points, in percentage points per doubling of thinking tokens.

    Points are (average thinking tokens, accuracy from 0 to 1), in any order. The paper writes the slope per token;
    its printed numbers are per doubling: with log2 of the tokens the runs of its appendix give the integers of its
    Table 3. Here class-conditional control, a short and a long prompt, 9 and 11 of 30 questions right:

    >>> round(scaling([(8033, 9 / 30), (9651, 11 / 30)]))
    25

    Pairs with equal tokens have no slope and are left out. Raises ValueError with fewer than two different numbers of
    tokens, or where one is not above zero.
    """
    if any(tokens <= 0 for tokens, _ in points):
        raise ValueError("scaling needs thinking tokens above zero: leave out the point without thinking.")
    slopes = [
        100 * (f_b - f_a) / (log2(b) - log2(a)) for (a, f_a), (b, f_b) in combinations(sorted(points), 2) if b > a
    ]
    if not slopes:
        raise ValueError("scaling needs two points with different numbers of thinking tokens.")
    return sum(slopes) / len(slopes)


def performance(points: Sequence[tuple[float, float]]) -> float:
    """The best accuracy among the points (average thinking tokens, accuracy)."""
    if not points:
        raise ValueError("performance of no points: give at least one.")
    return max(accuracy for _, accuracy in points)


def pass_at_k(num_draws: int, num_correct: int, k: int) -> float:
    """The chance that at least one of k draws is correct: unbiased from n >= k draws (arXiv 2107.03374, section 2.1).

    >>> pass_at_k(num_draws=4, num_correct=1, k=2)
    0.5
    """
    _check_draws(num_draws, k)
    if not 0 <= num_correct <= num_draws:
        raise ValueError(f"num_correct is {num_correct} of {num_draws} draws.")
    wrong = num_draws - num_correct
    if wrong < k:
        return 1.0
    return 1.0 - prod((wrong - i) / (num_draws - i) for i in range(k))


def majority_at_k(
    answers: Sequence[Hashable | None], is_correct: Sequence[bool], k: int, max_subsets: int = 512
) -> float:
    """Probability that a majority vote of k draws is correct.

    It is the mean over all subsets of k draws, so the order of the draws does not matter. Where there are more than
    `max_subsets`, that many are taken, evenly spaced in their enumeration. A tie is broken at random. An answer of
    None does not vote, and a vote without answers is wrong. Equal answers must have equal verdicts.

    >>> majority_at_k(["7", "7", "3"], [True, True, False], k=3)
    1.0
    >>> majority_at_k(["7", "3"], [True, False], k=2)
    0.5
    """
    if len(answers) != len(is_correct):
        raise ValueError(f"{len(answers)} answers but {len(is_correct)} verdicts.")
    _check_draws(len(answers), k)
    right = {answer: correct for answer, correct in zip(answers, is_correct, strict=True) if answer is not None}
    if len(set(answers)) == 1:
        return float(right.get(answers[0], False))
    chances = [_vote([answers[i] for i in subset], right) for subset in _subsets(len(answers), k, max_subsets)]
    return sum(chances) / len(chances)


def _vote(answers: Sequence[Hashable | None], right: dict[Hashable, bool]) -> float:
    votes = Counter(answer for answer in answers if answer is not None)
    if not votes:
        return 0.0
    most = max(votes.values())
    tied = [answer for answer, count in votes.items() if count == most]
    return sum(right[answer] for answer in tied) / len(tied)


def _subsets(n: int, k: int, max_subsets: int) -> list[tuple[int, ...]]:
    total = comb(n, k)
    if total <= max_subsets:
        return list(combinations(range(n), k))
    return [_subset_at(n, k, i * total // max_subsets) for i in range(max_subsets)]


def _subset_at(n: int, k: int, rank: int) -> tuple[int, ...]:
    """The subset of this rank in lexicographic order, without enumerating those before it."""
    chosen: list[int] = []
    first = 0
    while len(chosen) < k:
        with_first = comb(n - first - 1, k - len(chosen) - 1)
        if rank < with_first:
            chosen.append(first)
        else:
            rank -= with_first
        first += 1
    return tuple(chosen)


def _check_draws(num_draws: int, k: int) -> None:
    if not 1 <= k <= num_draws:
        raise ValueError(f"k is {k} with {num_draws} draws: k must lie between 1 and the number of draws.")
