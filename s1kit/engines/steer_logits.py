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
    largest = logits.argmax(-1).tolist() if any(not r.temperature for g in groups.values() for _, r in g) else []
    for stop_ids, members in groups.items():
        forced += _draw_stops(logits, stop_ids, members, largest)
    if forced:
        at, ids = torch.tensor(forced, device=logits.device).T
        logits[at] = -torch.inf
        logits[at, ids] = 0.0
    return logits


def _draw_stops(
    logits: torch.Tensor, stop_ids: frozenset[int], members: Sequence[tuple[int, Steered]], largest: Sequence[int]
) -> list[tuple[int, int]]:
    """Decide for each row whether it stops; masks the stops of all, returns what is forced on those that do."""
    stops = _as_tensor(stop_ids, logits.shape[-1], logits.device)
    is_all = len(members) == len(logits)
    at = None if is_all else torch.tensor([index for index, _ in members], device=logits.device)
    shares: list[float] = []
    if temperatures := [row.temperature for _, row in members if row.temperature]:
        drawn = [index for index, row in members if row.temperature]
        shares = _shares(logits if drawn == list(range(len(logits))) else logits[drawn], stops, temperatures).tolist()
    share, out = iter(shares), []
    for index, row in members:
        if row.draw() < next(share) if row.temperature else largest[index] in stop_ids:
            out.append((index, row.settle(True)))
        elif row.is_stopping:
            row.settle(False)
    if at is None:
        logits.index_fill_(1, stops, -torch.inf)
    else:
        logits[at[:, None], stops] = -torch.inf
    return out


def _shares(logits: torch.Tensor, stops: torch.Tensor, temperatures: list[float]) -> torch.Tensor:
    """The probability `[row]` of a stop."""
    if any(t != 1.0 for t in temperatures):
        logits = logits / torch.tensor(temperatures, device=logits.device)[:, None]
    return logits.softmax(-1, dtype=torch.float32).index_select(1, stops).sum(-1)


@lru_cache(maxsize=64)
def _as_tensor(stop_ids: frozenset[int], vocabulary_size: int, device: torch.device) -> torch.Tensor:
    return torch.tensor(sorted(i for i in stop_ids if i < vocabulary_size), device=device)
