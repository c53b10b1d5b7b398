"""Choosing the next token of every row at once, each row under its own temperature, top-k, top-p and seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import torch

from s1kit.forcing.request import Request


@dataclass(slots=True)
class Chooser:
    """How one request chooses. Its random numbers are its own: neighbours in a batch change nothing."""

    temperature: float
    top_k: int
    top_p: float
    random: Random = field(repr=False)

    @classmethod
    def of(cls, request: Request) -> Chooser:
        return cls(request.temperature, request.top_k, request.top_p, Random(request.seed))


def choose(logits: torch.Tensor, choosers: Sequence[Chooser]) -> list[int]:
    """One id for each row of `logits` `[row, vocabulary]`: the largest at temperature 0, else a draw.

    Temperature is applied first, then top-k, then top-p (the smallest set that reaches it), as transformers does.
    """
    ids: list[int] = logits.argmax(-1).tolist()
    drawn = [i for i, c in enumerate(choosers) if c.temperature > 0]
    if drawn:
        rows = logits[drawn] if len(drawn) < len(ids) else logits
        for i, token in zip(drawn, _draw(rows.float(), [choosers[i] for i in drawn]), strict=True):
            ids[i] = token
    return ids


def logprobs(logits: torch.Tensor, ids: Sequence[int]) -> list[float]:
    """The natural log-probability of one id in each row of `logits` `[row, vocabulary]`, at temperature 1."""
    logits = logits.float()
    chosen = logits.gather(-1, torch.tensor(ids, device=logits.device)[:, None]).squeeze(-1)
    found: list[float] = (chosen - logits.logsumexp(-1)).tolist()
    return found


def _draw(logits: torch.Tensor, choosers: Sequence[Chooser]) -> list[int]:
    device = logits.device
    # Shifted first: a tiny temperature must not overflow.
    logits = logits - logits.amax(-1, keepdim=True)
    logits = logits / torch.tensor([c.temperature for c in choosers], device=device)[:, None]
    if any(c.top_k or c.top_p < 1 for c in choosers):
        logits = _truncate(logits, choosers)
    cumulative = logits.softmax(-1).double().cumsum(-1)
    # random() is below 1, so the first entry above u * total belongs to a token with some probability.
    u = torch.tensor([[c.random.random()] for c in choosers], dtype=torch.double, device=device)
    found = torch.searchsorted(cumulative, u * cumulative[:, -1:], right=True).squeeze(-1)
    ids: list[int] = found.clamp_(max=logits.shape[-1] - 1).tolist()
    return ids


def _truncate(logits: torch.Tensor, choosers: Sequence[Chooser]) -> torch.Tensor:
    device, size = logits.device, logits.shape[-1]
    ordered, order = logits.sort(stable=True, dim=-1, descending=True)
    top_k = torch.tensor([c.top_k or size for c in choosers], device=device)[:, None]
    ordered = ordered.masked_fill(torch.arange(size, device=device)[None, :] >= top_k, -torch.inf)
    probabilities = ordered.softmax(-1)
    top_p = torch.tensor([c.top_p for c in choosers], device=device)[:, None]
    is_beyond = probabilities.cumsum(-1) - probabilities >= top_p
    is_beyond[:, 0] = False
    return torch.full_like(logits, -torch.inf).scatter(-1, order, ordered.masked_fill(is_beyond, -torch.inf))
