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
        forced += _draw_stops(logits, _as_tensor(stop_ids, logits.shape[-1], logits.device), members)
    if forced:
        at, ids = torch.tensor(forced, device=logits.device).T
        logits[at] = -torch.inf
        logits[at, ids] = 0.0
    return logits


def _draw_stops(
    logits: torch.Tensor, stops: torch.Tensor, members: Sequence[tuple[int, Steered]]
) -> list[tuple[int, int]]:
    """Decide for each row whether it stops; masks the stops of all, returns what is forced on those that do."""
    numbers = [index for index, _ in members]
    at = slice(None) if numbers == list(range(len(logits))) else torch.tensor(numbers, device=logits.device)
    chosen = logits[at].float()
    verdicts: list[float] = _verdicts(chosen, stops, [row.temperature for _, row in members]).tolist()
    out = []
    for (index, row), verdict in zip(members, verdicts, strict=True):
        # At temperature 0 the verdict is 0 or 1.
        if verdict and row.draw() < verdict:
            out.append((index, row.settle(True)))
        else:
            row.settle(False)
    if isinstance(at, slice):
        logits[:, stops] = -torch.inf
    else:
        logits[at[:, None], stops] = -torch.inf
    return out


def _verdicts(logits: torch.Tensor, stops: torch.Tensor, temperatures: list[float]) -> torch.Tensor:
    """The probability `[row]` of a stop; at temperature 0 whether one is the largest."""
    is_largest = torch.isin(logits.argmax(-1), stops).float()
    if not any(temperatures):
        return is_largest
    heat = torch.tensor(temperatures, device=logits.device)
    scaled = logits / heat.where(heat > 0, 1.0)[:, None]
    share = (scaled[:, stops].logsumexp(-1) - scaled.logsumexp(-1)).exp()
    return share.where(heat > 0, is_largest)


@lru_cache(maxsize=64)
def _as_tensor(stop_ids: frozenset[int], vocabulary_size: int, device: torch.device) -> torch.Tensor:
    return torch.tensor(sorted(i for i in stop_ids if i < vocabulary_size), device=device)
