"""Which samples make a batch, and how a batch is laid into rows. Pure: lists of numbers in, lists of numbers out."""

from __future__ import annotations

import random
from collections.abc import Sequence

Members = list[int]
"""Positions of samples in the training set."""

ATTENTION_SHARE = 1 / 97_000
"""A sequence of n tokens costs n * (1 + n * ATTENTION_SHARE): 6·L·d / 6·P of Qwen2.5-32B, see `flops`."""


def batches(num: int, batch_size: int, epochs: int, max_steps: int | None, seed: int) -> list[Members]:
    """The samples of each optimiser step. Every epoch shuffles all of them; its last batch may be smaller, as in s1.

    >>> len(batches(1000, 16, 5, None, seed=0))  # the paper's 315 steps
    315
    """
    steps = []
    for epoch in range(epochs):
        order = list(range(num))
        random.Random(f"{seed}:train order:{epoch}").shuffle(order)
        steps += [order[i : i + batch_size] for i in range(0, num, batch_size)]
    return steps[:max_steps]


def pack(lengths: Sequence[int], num_ranks: int, budget: int) -> list[list[Members]]:
    """Lay a batch into rows: the positions in `lengths`, by micro-batch and rank.

    As few micro-batches as give every row at most `budget` tokens (one longer sequence gets a row of its own), then
    balanced by cost. Every rank gets a row in every micro-batch, if need be an empty one: they step together.

    >>> pack([5, 4, 3, 2], num_ranks=2, budget=7)
    [[[0, 3], [1, 2]]]
    """
    budget = max(budget, max(lengths))
    num_micro = max(1, -(-sum(lengths) // (budget * num_ranks)))
    while (rows := _balance(lengths, num_micro * num_ranks, budget)) is None:
        num_micro += 1
    # The costliest rows run together, so that nobody waits for somebody else's long row.
    rows.sort(key=lambda row: (-sum(_cost(lengths[i]) for i in row), row))
    return [rows[i * num_ranks : (i + 1) * num_ranks] for i in range(num_micro)]


def _balance(lengths: Sequence[int], num_rows: int, budget: int) -> list[Members] | None:
    """Longest first, each into the cheapest row that has room; None when one does not fit."""
    rows: list[Members] = [[] for _ in range(num_rows)]
    tokens, costs = [0] * num_rows, [0.0] * num_rows
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        open_rows = [r for r in range(num_rows) if tokens[r] + lengths[i] <= budget]
        if not open_rows:
            return None
        row = min(open_rows, key=lambda r: (costs[r], r))
        rows[row].append(i)
        tokens[row] += lengths[i]
        costs[row] += _cost(lengths[i])
    return [sorted(row) for row in rows]


def _cost(length: int) -> float:
    return length * (1 + length * ATTENTION_SHARE)


def balance(lengths: Sequence[int], num_ranks: int, budget: int) -> float:
    """The share of the ranks' time that is work and not waiting, 0 to 1, for one batch.

    >>> round(balance([100, 10, 10, 10], num_ranks=4, budget=100), 2)
    0.32
    """
    micro = pack(lengths, num_ranks, budget)
    busiest = sum(max(sum(_cost(lengths[i]) for i in row) for row in rows) for rows in micro)
    return sum(_cost(n) for n in lengths) / (busiest * num_ranks)
