"""Choosing the next token of every row at once, each row under its own temperature, top-k, top-p and seed.

Nothing here needs a value from the device, so a decoding step can be sent ahead or recorded as a CUDA graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Knobs:
    """How the rows choose, one entry a row."""

    temperature: torch.Tensor
    """`[row]`; 0 is greedy."""
    top_k: torch.Tensor
    """`[row]`; 0: no limit."""
    top_p: torch.Tensor
    """`[row]`"""
    uniform: torch.Tensor
    """`[row]`, float64: the row's next random number from [0, 1)."""

    def of(self, rows: torch.Tensor) -> Knobs:
        """Keep some rows' only."""
        return Knobs(*(x[rows] for x in (self.temperature, self.top_k, self.top_p, self.uniform)))


def draw(logits: torch.Tensor, knobs: Knobs, is_truncated: bool) -> torch.Tensor:
    """One id `[row]` drawn from each row of `logits` `[row, vocabulary]`; of a greedy row the id means nothing.

    Temperature is applied first, then top-k, then top-p (the smallest set that reaches it), as transformers does.
    `is_truncated`: whether any row has a top-k or top-p; a row without is as it would be alone.
    """
    logits = logits.float()
    # Shifted first: a tiny temperature must not overflow.
    logits = logits - logits.amax(-1, keepdim=True)
    scaled = logits / torch.where(knobs.temperature == 0, 1.0, knobs.temperature)[:, None]
    if is_truncated:
        scaled = _truncate(scaled, knobs)
    cumulative = scaled.softmax(-1).double().cumsum(-1)
    # The random number is below 1, so the first entry above it * total belongs to a token with some probability.
    found = torch.searchsorted(cumulative, knobs.uniform[:, None] * cumulative[:, -1:], right=True).squeeze(-1)
    return found.clamp_(max=logits.shape[-1] - 1)


def logprobs(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """The natural log-probability of one id in each row of `logits` `[row, vocabulary]`, at temperature 1."""
    logits = logits.float()
    return logits.gather(-1, ids[:, None])[:, 0] - logits.logsumexp(-1)


def _truncate(logits: torch.Tensor, knobs: Knobs) -> torch.Tensor:
    size = logits.shape[-1]
    ordered, order = logits.sort(stable=True, dim=-1, descending=True)
    top_k = torch.where(knobs.top_k == 0, size, knobs.top_k)[:, None]
    ordered = ordered.masked_fill(torch.arange(size, device=logits.device)[None, :] >= top_k, -torch.inf)
    probabilities = ordered.softmax(-1)
    is_beyond = probabilities.cumsum(-1) - probabilities >= knobs.top_p[:, None]
    is_beyond[:, 0] = False
    return torch.full_like(logits, -torch.inf).scatter(-1, order, ordered.masked_fill(is_beyond, -torch.inf))
