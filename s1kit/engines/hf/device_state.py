"""Where each running row stands, on the device, and what a decoding step does to it.

The host sends a row's state when the row joins and when its driver replaces a token. On quiet steps nothing is sent:
the next token, the length, the forced ids that are left and the place in the row's random numbers move on by
themselves, and no operation waits for the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from s1kit.engines.hf.sampling import Cut, Knobs, draw, logprobs
from s1kit.engines.machine import sent_to

TOKEN, LENGTH, DRAWS, NEXT, NUM_FORCED, TOP_K, FORCED = range(7)
"""Columns of whole numbers: the id to feed next; tokens in the cache; random numbers used; which forced id is next, of
how many; top-k; then the forced ids."""

TEMPERATURE, TOP_P, UNIFORM = range(3)
"""Columns of real numbers; from the last on a ring of random numbers."""

RING = 256
"""Random numbers that a row has on the device."""

_FIRST_FORCED = 16


@dataclass(frozen=True, slots=True)
class How:
    """What must be computed in a step, given the rows that take part."""

    num_drawn: int
    """Rows with a temperature."""
    cut: Cut
    """How the candidates of those are found."""
    has_forced: bool
    """Whether one has forced ids left."""
    is_measured: bool = False
    """Whether one is to know how probable its tokens were."""


class RowState:
    """State of rows `[row, column]`; the first ones are running."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.ints = torch.zeros((0, FORCED + _FIRST_FORCED), dtype=torch.long, device=device)
        self.reals = torch.zeros((0, UNIFORM + RING), dtype=torch.double, device=device)

    def reserve(self, num_rows: int, num_forced: int = 0) -> bool:
        """Make room, and keep what is there; whether the tensors had to be moved."""
        rows, columns = self.ints.shape
        if num_rows <= rows and FORCED + num_forced <= columns:
            return False
        if FORCED + num_forced > columns:
            columns = FORCED + max(num_forced, 2 * (columns - FORCED))
        if num_rows > rows:
            num_rows = max(num_rows, 2 * rows)
        for name, width in (("ints", columns), ("reals", self.reals.shape[1])):
            old: torch.Tensor = getattr(self, name)
            new = old.new_zeros((max(rows, num_rows), width))
            new[:rows, : old.shape[1]] = old
            setattr(self, name, new)
        return True

    def upload(self, values: NDArray[np.generic]) -> torch.Tensor:
        """A copy on the device, which the host does not wait for."""
        return sent_to(torch.from_numpy(values), self.device)

    def set(self, rows: Sequence[int], ints: Sequence[Sequence[int]], column: int = TOKEN) -> None:
        """Set whole numbers of some rows, from a column on."""
        width = max(map(len, ints))
        self.reserve(0, column + width - FORCED)
        packed = np.zeros((len(rows), 1 + width), dtype=np.int64)
        for line, row, values in zip(packed, rows, ints, strict=True):
            line[0] = row
            line[1 : 1 + len(values)] = values
        sent = self.upload(packed)
        self.ints[sent[:, 0], column : column + width] = sent[:, 1:]

    def set_reals(self, row: int, column: int, values: NDArray[np.float64]) -> None:
        """Set real numbers of one row, from a column on."""
        self.reals[row, column : column + len(values)] = self.upload(values)

    def move(self, source: int, target: int) -> None:
        """Copy a row's state over another's."""
        self.ints[target] = self.ints[source]
        self.reals[target] = self.reals[source]

    def next_ids(self, num_rows: int, num_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The ids `[row, token]` that go into the model next, and their positions.

        More than one where every row has that many forced ids, which are then used up but for the last pass's.
        """
        ints = self.ints[:num_rows]
        ids, positions = ints[:, TOKEN : TOKEN + 1], ints[:, LENGTH : LENGTH + 1]
        if num_tokens == 1:
            return ids, positions
        ahead = torch.arange(num_tokens, device=self.device)
        forced = ints.gather(1, FORCED + ints[:, NEXT : NEXT + 1] + ahead[:-1])
        return torch.cat((ids, forced), 1), positions + ahead

    def settle(self, logits: torch.Tensor, first: int, how: How, num_tokens: int = 1) -> torch.Tensor:
        """Choose the rows' next tokens by the logits `[row, vocabulary]` after what `next_ids` gave; moves them on.

        `first`: the row that the logits begin with. Returns, as one tensor `[row, 1 or 2]` for one transfer, the ids
        that go in next, chosen or forced, and, where rows are measured, the log-probability of what was chosen: a
        float64 in the bits of the whole number.
        """
        ints = self.ints[first : first + len(logits)]
        ids = self._choose(logits, first, how)
        measured = logprobs(logits, ids).double().view(torch.long) if how.is_measured else None
        if how.has_forced:
            place = ints[:, NEXT] + (num_tokens - 1)
            is_forced = place < ints[:, NUM_FORCED]
            last = self.ints.shape[1] - 1
            forced = ints.gather(1, (FORCED + place).clamp_(max=last)[:, None])[:, 0]
            ids = torch.where(is_forced, forced, ids)
            ints[:, NEXT] = place + is_forced
            ints[:, DRAWS] += ~is_forced
        elif how.num_drawn:
            ints[:, DRAWS] += 1
        ints[:, TOKEN] = ids
        if num_tokens:
            ints[:, LENGTH] += num_tokens
        return ids[:, None] if measured is None else torch.stack((ids, measured), 1)

    def _choose(self, logits: torch.Tensor, first: int, how: How) -> torch.Tensor:
        if not how.num_drawn:
            return logits.argmax(-1)
        rows = slice(first, first + len(logits))
        reals, ints = self.reals[rows], self.ints[rows]
        place = (UNIFORM + ints[:, DRAWS] % RING)[:, None]
        uniform = reals.gather(1, place)[:, 0]
        knobs = Knobs(reals[:, TEMPERATURE].float(), ints[:, TOP_K], reals[:, TOP_P].float(), uniform)
        drawn = draw(logits, knobs, how.cut)
        if how.num_drawn == len(logits):
            return drawn
        return torch.where(knobs.temperature == 0, logits.argmax(-1), drawn)


@dataclass(frozen=True, slots=True)
class Flight:
    """The choices of one step that was sent to the device, on their way to main memory."""

    chosen: torch.Tensor
    """As `RowState.settle` returns it, in main memory once `arrival` has happened."""
    arrival: Any
    """A CUDA event, or None."""

    @classmethod
    def of(cls, chosen: torch.Tensor) -> Flight:
        """Begin the transfer; nothing waits for it."""
        if chosen.device.type != "cuda":
            return cls(chosen, None)
        here = torch.empty(chosen.shape, dtype=chosen.dtype, pin_memory=True)
        here.copy_(chosen, non_blocking=True)
        arrival: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrival.record()
        return cls(here, arrival)

    def read(self) -> NDArray[np.int64]:
        """What was chosen; waits for it, and for nothing that was sent later."""
        if self.arrival is not None:
            self.arrival.synchronize()
        found: NDArray[np.int64] = self.chosen.numpy()
        return found
