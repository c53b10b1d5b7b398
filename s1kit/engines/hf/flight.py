"""A step that was sent to the device; what it chose may not have arrived yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from s1kit.engines.hf.rows import Ints


@dataclass(frozen=True, slots=True)
class Flight:
    """The choices of one step on their way to main memory."""

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

    def read(self) -> Ints:
        """What was chosen; waits for it, and for nothing that was sent later."""
        if self.arrival is not None:
            self.arrival.synchronize()
        found: Ints = self.chosen.numpy()
        return found
