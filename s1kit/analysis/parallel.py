"""Choosing among draws that were made: shortest, likeliest, adaptive voting, early exit. Pure functions.

Each gives the chance of a right answer and the thinking tokens paid for it, so that methods meet on the same axes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import count
from math import comb
from typing import NamedTuple


class Outcome(NamedTuple):
    """The result of a method on one question: its chance to be right and its cost in thinking tokens."""

    chance: float
    """Chance of a right answer, 0 to 1."""
    tokens: float
    """Thinking tokens paid, on average."""


def shortest_of(tokens: Sequence[float], is_correct: Sequence[bool], k: int) -> Outcome:
    """Draw k times and keep the answer with the shortest thinking: exact over all subsets of k draws.

    >>> shortest_of([10, 20, 30], [True, False, False], k=2)
    Outcome(chance=0.6666666666666666, tokens=40.0)
    """
    return first_of(tokens, tokens, is_correct, k)


def first_of(ranks: Sequence[float], tokens: Sequence[float], is_correct: Sequence[bool], k: int) -> Outcome:
    """Draw k times and keep the answer with the lowest rank: exact over all subsets of k draws.

    >>> first_of([-0.1, -0.5], [10, 20], [True, False], k=2)
    Outcome(chance=0.0, tokens=30.0)
    """
    n = len(tokens)
    if not 1 <= k <= n:
        raise ValueError(f"k is {k} with {n} draws.")
    order = sorted(range(n), key=lambda i: (ranks[i], i))
    # The draw of place r is the first of a subset exactly when the other k - 1 come after it.
    chance = sum(comb(n - 1 - rank, k - 1) * is_correct[i] for rank, i in enumerate(order)) / comb(n, k)
    return Outcome(chance, k * sum(tokens) / n)


SURE = 0.95
"""Posterior chance at which an adaptive vote stops, the paper's."""


def fewest_to_stop() -> int:
    """Draws after which an adaptive vote can stop at the earliest, all of them agreeing.

    >>> fewest_to_stop()
    4
    """
    return next(num for num in count(1) if chance_to_stay_ahead(Counter({"": num})) >= SURE)


def adaptive_vote(answers: Sequence[str | None], is_correct: Sequence[bool], tokens: Sequence[float]) -> Outcome:
    """Draw until the leading answer would very likely stay ahead (Adaptive-Consistency, arXiv 2305.11860).

    The rule of stopping compares the two leading answers with a Beta posterior. The draws are taken in each rotation
    of their order, and the outcomes averaged.
    """
    n = len(answers)
    chances, paid = 0.0, 0.0
    for start in range(n):
        order = [(start + i) % n for i in range(n)]
        votes: Counter[str] = Counter()
        right: dict[str, bool] = {}
        for i in order:
            paid += tokens[i]
            answer = answers[i]
            if answer is not None:
                votes[answer] += 1
                right[answer] = is_correct[i]
            if votes and chance_to_stay_ahead(votes) >= SURE:
                break
        leading = max(votes.values(), default=0)
        tied = [answer for answer, count in votes.items() if count == leading]
        chances += sum(right[a] for a in tied) / len(tied) if tied else 0.0
    return Outcome(chances / n, paid / n)


def chance_to_stay_ahead(votes: Counter[str]) -> float:
    """The posterior chance that the leading answer is more frequent than the runner-up, from a uniform prior.

    >>> chance_to_stay_ahead(Counter({"7": 4}))
    0.96875
    """
    ranked = sorted(votes.values(), reverse=True)
    first, second = ranked[0], ranked[1] if len(ranked) > 1 else 0
    return _ahead(first, second)


@lru_cache(maxsize=65536)
def _ahead(first: int, second: int) -> float:
    # P(X > 1/2) of a Beta(first + 1, second + 1) is a binomial tail.
    total = first + second + 1
    return float(sum(comb(total, j) for j in range(first + 1)) / 2**total)


class Exit(NamedTuple):
    """The probe at which thinking would have been ended early."""

    probe: int
    """The place of the stable probe, from 0; the last when none was."""
    tokens: float
    """Thinking tokens when it was left."""
    probe_tokens: float
    """Answer tokens that the probes cost on top."""


def early_exit(
    answers: Sequence[str | None], tokens: Sequence[float], probe_tokens: Sequence[float], stable: int
) -> Exit:
    """Leave thinking at the first probe that gives the same answer as the `stable` - 1 before it.

    `answers` are those of the probes in order, the last being the full thinking's own; `tokens` the thinking spent at
    each. A probe without an answer is never stable.

    >>> early_exit(["3", "7", "7", "7"], [10, 20, 30, 40], [1, 1, 1, 1], stable=2)
    Exit(probe=2, tokens=30, probe_tokens=3)
    """
    run = 0
    for i, answer in enumerate(answers):
        run = 0 if answer is None else run + 1 if i and answers[i - 1] == answer else 1
        if run >= stable:
            return Exit(i, tokens[i], sum(probe_tokens[: i + 1]))
    return Exit(len(answers) - 1, tokens[-1], sum(probe_tokens))
