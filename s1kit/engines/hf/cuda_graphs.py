"""Decoding steps recorded as CUDA graphs: the host launches a whole step at once.

A pass over a few rows is hundreds of short kernels. Sent one by one they take the host ten times as long as the card.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from s1kit.engines.hf.device_state import How, RowState
from s1kit.engines.hf.passes import Passes
from s1kit.errors import first_line
from s1kit.progress import say

ROWS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
WIDTHS = tuple(256 * n for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128))
"""A step is recorded for so many rows and positions; those in between take the next larger one."""

NUM_UNRECORDED = 2
"""Steps of each kind that are sent kernel by kernel. They load the kernels and set libraries up, which a recording must
not; and while rows end one after the other, many kinds occur only once or twice: they are not worth a recording."""


class RecordedSteps:
    """The steps of one running batch. Rows beyond the running ones take part and are not looked at."""

    def __init__(self, passes: Passes, state: RowState) -> None:
        self._passes, self._state = passes, state
        self._graphs: dict[tuple[int, int, How], tuple[Any, torch.Tensor]] = {}
        self._num_sent: Counter[tuple[int, int, How]] = Counter()
        """Steps of each kind that were sent unrecorded."""
        self._place: tuple[int, ...] = ()
        self._pool: Any = None
        self._stream: Any = None
        """For recordings. torch's own is made once in a process, on the card that is current then."""
        self._is_off = False

    def run(self, num_rows: int, width: int, how: How) -> torch.Tensor | None:
        """What `RowState.settle` returns for a step of one token a row; None where it cannot be recorded."""
        if self._is_off:
            return None
        # No memory is taken for a rounder number.
        most_rows, most_width = self._passes.slots.capacity
        rows, wide = min(at_least(num_rows, ROWS), most_rows), min(at_least(width, WIDTHS), most_width)
        if self._passes.reads_lengths:
            wide = most_width
        self._state.reserve(rows)
        if self._place != (place := self._places()):
            # A graph reads and writes where tensors lay when it was recorded.
            self._forget()
            self._place = place
        # One of the rows may be forced or greedy in the next step, and a graph is for both.
        key = (rows, wide, replace(how, num_drawn=min(how.num_drawn, 1), has_forced=True))
        if key not in self._graphs:
            if self._num_sent[key] < NUM_UNRECORDED:
                self._num_sent[key] += 1
                return step(self._passes, self._state, *key)[:num_rows]
            try:
                self._graphs[key] = self._record(*key)
            except RuntimeError as error:
                self._is_off = True
                self._forget()
                # What ends a recording complains, too, where something within it was refused.
                cause = error.__context__ if isinstance(error.__context__, RuntimeError) else error
                say(f"hf: decodes without CUDA graphs, which were refused: {first_line(cause)}")
                return None
        graph, chosen = self._graphs[key]
        graph.replay()
        return chosen[:num_rows]

    def _forget(self) -> None:
        """Drop all graphs. Their memory pool dies with the last of them: torch refuses to record into it again."""
        self._graphs.clear()
        self._pool = None

    def _places(self) -> tuple[int, ...]:
        state = self._state
        return self._passes.slots.version, state.ints.data_ptr(), state.reals.data_ptr()

    def _record(self, rows: int, width: int, how: How) -> tuple[Any, torch.Tensor]:
        """Record a step, which computes nothing yet; returns the graph and where its choices will lie."""
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        self._stream = self._stream or torch.cuda.Stream()  # type: ignore[no-untyped-call]
        try:
            # What other threads ask of the card meanwhile, such as how much memory is free, is no part of it.
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                chosen = step(self._passes, self._state, rows, width, how)
        except RuntimeError:
            # torch leaves the stream of the recording in place where it cannot end it.
            torch.cuda.set_stream(before)
            raise
        self._pool = self._pool or graph.pool()
        return graph, chosen


def step(passes: Passes, state: RowState, rows: int, width: int, how: How) -> torch.Tensor:
    """One token for each of the first rows, with nothing that the host must know or send."""
    ids, positions = state.next_ids(rows, 1)
    # Rows that ended may stand at the end of their slots.
    logits = passes.decode(ids, positions.clamp(max=width - 1), width)
    return state.settle(logits, 0, how)


def at_least(wanted: int, sizes: Sequence[int]) -> int:
    """The smallest of the sizes that is large enough; above them all, the next multiple of the largest.

    >>> [at_least(n, (1, 2, 4)) for n in (1, 3, 4, 5, 9)]
    [1, 4, 4, 8, 12]
    """
    largest = sizes[-1]
    return next((size for size in sizes if size >= wanted), -(-wanted // largest) * largest)
