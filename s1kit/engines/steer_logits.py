"""Carries the wishes of steered rows out on a batch of logits, with one read-back from the device."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch

from s1kit.engines.steering import Refused, Steered


def steer(logits: torch.Tensor, rows: Sequence[tuple[int, Steered | Refused]]) -> torch.Tensor:
    """Change `logits` `[row, vocabulary]` in place for the given `(row number, row)`; returns them.

    A forced id keeps logit 0 and all others get minus infinity. A stop is drawn at the row's temperature, before any
    truncation; at temperature 0 it is drawn exactly when it is the largest.
    """
    forced: list[tuple[int, int]] = []
    groups: dict[frozenset[int], list[tuple[int, Steered]]] = {}
    for index, row in rows:
        token = row.forced
        if token is not None:
            forced.append((index, token))
        elif isinstance(row, Steered):
            groups.setdefault(row.stop_ids, []).append((index, row))
    for stop_ids, members in groups.items():
        forced += _draw_stops(logits, stop_ids, members)
    if forced:
        at, ids = torch.tensor(forced, device=logits.device).T
        logits[at] = -torch.inf
        logits[at, ids] = 0.0
    return logits


def _draw_stops(
    logits: torch.Tensor, stop_ids: frozenset[int], members: Sequence[tuple[int, Steered]]
) -> list[tuple[int, int]]:
    """Decide for each row whether it stops; masks the stops of all, returns what is forced on those that do."""
    stops = _as_tensor(stop_ids, logits.shape[-1], logits.device)
    numbers = [index for index, _ in members]
    is_all = numbers == list(range(len(logits)))
    at = None if is_all else torch.tensor(numbers, device=logits.device)
    chosen = logits if at is None else logits[at]
    out = []
    for (index, row), is_stopping in zip(members, _verdicts(chosen, stop_ids, stops, members), strict=True):
        if is_stopping:
            out.append((index, row.settle(True)))
        elif row.is_stopping:
            row.settle(False)
    if at is None:
        logits.index_fill_(1, stops, -torch.inf)
    else:
        logits[at[:, None], stops] = -torch.inf
    return out


def _verdicts(
    logits: torch.Tensor, stop_ids: frozenset[int], stops: torch.Tensor, members: Sequence[tuple[int, Steered]]
) -> list[bool]:
    """Whether each row stops: at temperature 0 when a stop is the largest, else by its draw."""
    temperatures = [row.temperature for _, row in members]
    if not any(temperatures):
        return [token in stop_ids for token in logits.argmax(-1).tolist()]
    if all(temperatures):
        shares = _shares(logits, stops, temperatures).tolist()
        return [row.draw() < share for (_, row), share in zip(members, shares, strict=True)]
    found = torch.stack((logits.argmax(-1).double(), _shares(logits, stops, [t or 1.0 for t in temperatures]).double()))
    return [
        row.draw() < share if row.temperature else token in stop_ids
        for (_, row), token, share in zip(members, *found.tolist(), strict=True)
    ]


def _shares(logits: torch.Tensor, stops: torch.Tensor, temperatures: list[float]) -> torch.Tensor:
    """The probability `[row]` of a stop."""
    if any(t != 1.0 for t in temperatures):
        logits = logits / torch.tensor(temperatures, device=logits.device)[:, None]
    return logits.softmax(-1, dtype=torch.float32).index_select(1, stops).sum(-1)


@lru_cache(maxsize=64)
def _as_tensor(stop_ids: frozenset[int], vocabulary_size: int, device: torch.device) -> torch.Tensor:
    return torch.tensor(sorted(i for i in stop_ids if i < vocabulary_size), device=device)
