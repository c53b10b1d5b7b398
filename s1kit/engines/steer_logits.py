"""Carries the wishes of steered rows out on a batch of logits, with one read-back from the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from s1kit.engines.steering import Steered


def steer(logits: torch.Tensor, rows: Sequence[tuple[int, Steered]]) -> torch.Tensor:
    """Change `logits` `[row, vocabulary]` in place for the given `(row number, row)`; returns them.

    A forced id keeps logit 0 and all others get minus infinity. A stop is drawn at the row's temperature, before any
    truncation; at temperature 0 it is drawn exactly when it is the largest.
    """
    forced: list[tuple[int, int]] = []
    groups: dict[frozenset[int], list[tuple[int, Steered, int]]] = {}
    for index, row in rows:
        wish = row.wish()
        if wish.forced is not None:
            forced.append((index, wish.forced))
        else:
            groups.setdefault(wish.stop_ids, []).append((index, row, wish.target))
    for stop_ids, members in groups.items():
        forced += _draw_stops(logits, sorted(stop_ids), members)
    if forced:
        at = torch.tensor([i for i, _ in forced], device=logits.device)
        ids = torch.tensor([t for _, t in forced], device=logits.device)
        logits[at] = -torch.inf
        logits[at, ids] = 0.0
    return logits


def _draw_stops(
    logits: torch.Tensor, stop_ids: list[int], members: Sequence[tuple[int, Steered, int]]
) -> list[tuple[int, int]]:
    """Decide for each row whether it stops; masks the stops of all, returns what is forced on those that do."""
    at = torch.tensor([i for i, _, _ in members], device=logits.device)
    stops = torch.tensor([s for s in stop_ids if s < logits.shape[-1]], device=logits.device)
    chosen = logits[at].float()
    temperatures = torch.tensor([row.temperature or 1.0 for _, row, _ in members], device=logits.device)[:, None]
    scaled = chosen / temperatures
    share = (scaled[:, stops].logsumexp(-1) - scaled.logsumexp(-1)).exp()
    is_largest = torch.isin(chosen.argmax(-1), stops)
    verdicts = torch.stack((share, is_largest.float())).tolist()
    out = []
    for (index, row, target), probability, largest in zip(members, *verdicts, strict=True):
        is_stopping = bool(largest) if row.temperature == 0 else row.draw() < probability
        row.settle(is_stopping)
        if is_stopping:
            out.append((index, target))
    logits[at[:, None], stops[None, :]] = -torch.inf
    return out
