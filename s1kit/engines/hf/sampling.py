"""Choosing the next token of every row at once, each row under its own temperature, top-k, top-p and seed.

Nothing here needs a value from the device, so a decoding step can be sent ahead or recorded as a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import partial

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


FEW = 64
"""A top-k up to here is drawn among so many candidates: to sort a vocabulary of 150,000 takes 15 ms a row on a CPU."""


class Cut(IntEnum):
    """How the candidates of a row, or of all rows together, are found."""

    NONE = 0
    """The whole vocabulary."""
    FEW = 1
    """A top-k of at most `FEW`, with or without a top-p."""
    ANY = 2
    """Another top-k or top-p, or rows of several kinds."""

    @classmethod
    def of(cls, top_k: int, top_p: float) -> Cut:
        if 0 < top_k <= FEW:
            return cls.FEW
        return cls.ANY if top_k or top_p < 1 else cls.NONE


def draw(logits: torch.Tensor, knobs: Knobs, cut: Cut) -> torch.Tensor:
    """One id `[row]` drawn from each row of `logits` `[row, vocabulary]`; of a greedy row the id means nothing.

    Temperature is applied first, then top-k, then top-p (the smallest set that reaches it), as transformers does.
    `cut`: what holds for every row that is drawn; with ANY a row without top-k and top-p is as it would be alone.
    """
    if cut == Cut.FEW:
        return _draw_among_few(logits.float(), knobs)
    return _by_rows(partial(_draw, cut), logits, knobs.temperature, knobs.top_k, knobs.top_p, knobs.uniform)


def _draw(cut: Cut, buffer: torch.Tensor | None, logits: torch.Tensor, *row_knobs: torch.Tensor) -> torch.Tensor:
    knobs = Knobs(*row_knobs)
    # Shifted first: a tiny temperature must not overflow.
    scaled = torch.sub(logits, logits.amax(-1, keepdim=True).float(), out=buffer)
    scaled.div_(torch.where(knobs.temperature == 0, 1.0, knobs.temperature)[:, None])
    if cut == Cut.NONE:
        return _pick(scaled, knobs)[:, 0]
    ids, scaled = _truncate(scaled, knobs)
    return ids.gather(-1, _pick(scaled, knobs))[:, 0]


_AT_ONCE = 2**18
"""Logits that are worked on at once on a CPU. Temporaries for 64 rows of a vocabulary of 150,000 are new pages of
memory each time, which took four fifths of a draw; one buffer of a MiB is used again and stays in the cache."""


def _by_rows(work: Callable[..., torch.Tensor], logits: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
    """`work(buffer, logits, *others)` for all rows of `logits` `[row, vocabulary]`: at once, or on a CPU in parts.

    `buffer` is float32 memory for the result of a first operation on the logits, or None for new memory.
    """
    num_rows, size = logits.shape
    at_once = max(1, _AT_ONCE // size) if logits.device.type == "cpu" else num_rows
    if at_once >= num_rows:
        return work(None, logits, *others)
    buffer = torch.empty(at_once, size)
    parts = zip(*(torch.split(x, at_once) for x in (logits, *others)), strict=True)
    return torch.cat([work(buffer[: len(part[0])], *part) for part in parts])


BLOCK = 512
"""Entries whose probabilities are summed before one of them is looked for: a vocabulary's running sum in float64 takes
most of a draw's time on a CPU."""


def _pick(scaled: torch.Tensor, knobs: Knobs) -> torch.Tensor:
    """The place `[row, 1]` in each row that its random number falls on: first its block, then the place in that.

    `scaled` is overwritten; its largest entry of each row must be 0.
    """
    weights = scaled.exp_()
    size = weights.shape[-1]
    num_blocks, rest = divmod(size, BLOCK)
    if not num_blocks:
        return _search(weights, knobs.uniform[:, None])[0]
    whole = weights[:, : size - rest].view(len(weights), num_blocks, BLOCK)
    blocks = whole.sum(-1, dtype=torch.float64)
    if rest:
        blocks = torch.cat((blocks, weights[:, size - rest :].sum(-1, keepdim=True, dtype=torch.float64)), -1)
    block, share = _search(blocks, knobs.uniform[:, None])
    places = block * BLOCK + torch.arange(BLOCK, device=block.device)
    inside = weights.gather(-1, places.clamp(max=size - 1)).masked_fill_(places >= size, 0)
    return block * BLOCK + _search(inside, share)[0]


def _search(weights: torch.Tensor, share: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The entry `[row, 1]` at a share of each row's sum, and at which share of that entry. Its weight is above 0."""
    cumulative = weights.cumsum(-1, dtype=torch.float64)
    # A share of 1, which rounding may give, must not reach the entries after the last that weighs something.
    wanted = (share * cumulative[:, -1:]).clamp(max=torch.nextafter(cumulative[:, -1:], torch.zeros_like(share)))
    found = torch.searchsorted(cumulative, wanted, right=True)
    weight = weights.gather(-1, found).double()
    before = cumulative.gather(-1, found) - weight
    return found, ((wanted - before) / weight).clamp_(0, 1)


def _draw_among_few(logits: torch.Tensor, knobs: Knobs) -> torch.Tensor:
    """`draw` for rows with a top-k of at most `FEW`. The candidates lie in the vocabulary's order, as in the whole."""
    ids = logits.topk(min(FEW, logits.shape[-1]), dim=-1).indices.sort(dim=-1).values
    candidates = logits.gather(-1, ids)
    candidates = candidates - candidates.amax(-1, keepdim=True)
    scaled = candidates / torch.where(knobs.temperature == 0, 1.0, knobs.temperature)[:, None]
    return ids.gather(-1, _pick(_leave_out(scaled, torch.zeros_like(scaled[:, :1]), knobs), knobs))[:, 0]


def logprobs(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """The natural log-probability of one id in each row of `logits` `[row, vocabulary]`, at temperature 1."""
    return logits.gather(-1, ids[:, None])[:, 0].float() - _by_rows(_log_total, logits)


def _log_total(buffer: torch.Tensor | None, logits: torch.Tensor) -> torch.Tensor:
    most = logits.amax(-1, keepdim=True).float()
    return torch.sub(logits, most, out=buffer).exp_().sum(-1).log_() + most[:, 0]


SHORT = 1024
"""Candidates among which a top-p's set is looked for first on a CPU. There, sorting a vocabulary of 150,000 takes 14 ms
a row and finding so many of its largest entries 1 ms; a set that reaches 0.95 rarely has more than a hundred."""


def _truncate(logits: torch.Tensor, knobs: Knobs) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids in the vocabulary's order and their logits, both `[row, candidate]`: minus infinity at what is left out.

    The largest entry of each row of `logits` `[row, vocabulary]` must be 0.
    """
    if logits.device.type == "cpu" and logits.shape[-1] > 2 * SHORT:
        ids = logits.topk(SHORT, dim=-1, sorted=False).indices.sort(dim=-1).values
        candidates = logits.gather(-1, ids)
        others = logits.exp().sum(-1, keepdim=True) - candidates.exp().sum(-1, keepdim=True)
        kept = _leave_out(candidates, others.clamp_(min=0), knobs)
        least = kept.masked_fill(kept == -torch.inf, torch.inf).amin(-1)
        # Otherwise the set may go on, or have equals, beyond the candidates.
        if bool((least > candidates.amin(-1)).all()):
            return ids, kept
    ids = torch.arange(logits.shape[-1], device=logits.device).expand_as(logits)
    return ids, _leave_out(logits, torch.zeros_like(logits[:, :1]), knobs)


def _leave_out(logits: torch.Tensor, others: torch.Tensor, knobs: Knobs) -> torch.Tensor:
    """The logits `[row, entry]`, minus infinity at what top-k or top-p leaves out.

    `others` `[row, 1]` is the weight of a row's entries that are not among them, all smaller than these.
    """
    size = logits.shape[-1]
    ordered, order = logits.sort(stable=True, dim=-1, descending=True)
    top_k = torch.where(knobs.top_k == 0, size, knobs.top_k)[:, None]
    ordered = ordered.masked_fill(torch.arange(size, device=logits.device)[None, :] >= top_k, -torch.inf)
    weights = ordered.exp()
    all_weights = weights.sum(-1, keepdim=True) + others.masked_fill(knobs.top_k[:, None] > 0, 0)
    probabilities = weights / all_weights
    is_beyond = probabilities.cumsum(-1) - probabilities >= knobs.top_p[:, None]
    is_beyond[:, 0] = False
    return torch.full_like(logits, -torch.inf).scatter(-1, order, ordered.masked_fill(is_beyond, -torch.inf))
