"""A row: several samples one after the other, with what each token is worth to the loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from s1kit.engines.machine import sent_to
from s1kit.train.encoded import Encoded


@dataclass(frozen=True)
class Row:
    """Token t predicts `targets[t]`, and its negative log-likelihood counts `weights[t]`: the batch's weights sum to 1.

    So the loss is a plain sum, the same however a batch is packed, accumulated or spread over processes.
    """

    ids: Tensor
    """(tokens,), as the others."""
    positions: Tensor
    """Start again at 0 with each sample."""
    targets: Tensor
    weights: Tensor
    learned: Tensor
    """Where the weights are not 0: known here, so that no card is asked for it."""
    lengths: tuple[int, ...]
    """Lengths of the samples in the whole row, also when this is a part of it."""

    def part(self, index: int, num_parts: int) -> Row:
        """One of equal contiguous parts, for context parallelism."""
        cut = slice(index * len(self.ids) // num_parts, (index + 1) * len(self.ids) // num_parts)
        weights = self.weights[cut]
        return replace(
            self,
            ids=self.ids[cut],
            positions=self.positions[cut],
            targets=self.targets[cut],
            weights=weights,
            learned=weights.nonzero()[:, 0],
        )

    def to(self, device: torch.device) -> Row:
        """The row with its tensors on a device."""
        ids, positions, targets, weights, learned = (
            sent_to(x, device) for x in (self.ids, self.positions, self.targets, self.weights, self.learned)
        )
        return Row(ids, positions, targets, weights, learned, self.lengths)


def token_weights(batch: Sequence[Encoded], normalization: Literal["per_sequence", "per_token"]) -> list[float]:
    """What one learned token of each sample of a batch counts."""
    if normalization == "per_token":
        return [1 / sum(s.num_learned for s in batch)] * len(batch)
    return [1 / (s.num_learned * len(batch)) for s in batch]


def make_row(samples: Sequence[Encoded], weights: Sequence[float], multiple_of: int) -> Row:
    """The samples as one row in main memory, padded with a weightless sample to a multiple (never to nothing)."""
    ids: list[int] = []
    positions: list[int] = []
    targets: list[int] = []
    worth: list[float] = []
    lengths = [len(s) for s in samples]
    for sample, weight in zip(samples, weights, strict=True):
        ids += sample.ids
        positions += range(len(sample))
        targets += (*sample.ids[1:], 0)
        worth += [0.0] * (sample.num_prompt - 1) + [weight] * sample.num_learned + [0.0]
    padding = -len(ids) % multiple_of if ids else multiple_of
    if padding:
        lengths.append(padding)
        ids += [0] * padding
        positions += range(padding)
        targets += [0] * padding
        worth += [0.0] * padding
    values = torch.tensor(worth, dtype=torch.float32)
    return Row(
        torch.tensor(ids),
        torch.tensor(positions),
        torch.tensor(targets),
        values,
        values.nonzero()[:, 0],
        tuple(lengths),
    )
