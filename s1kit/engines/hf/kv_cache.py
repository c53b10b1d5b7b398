"""The key-value cache of a running batch: one slot a row, each row at its own length.

Rows come and go while others decode: a new row is prefilled by itself and copied into a free slot, a finished one is
replaced by the last. Nothing is ever shifted, and taking tokens back is a shorter length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin

_GROWTH = 128


class _SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    """What transformers asks a layer of the cache about; the tensors are the slots'."""

    is_sliding = False
    is_croppable = False

    def __init__(self, slots: Slots, index: int) -> None:
        super().__init__()
        self._slots, self._index = slots, index
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self._slots.write(key_states, value_states, self._index)

    def lazy_initialization(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing, since the slots own the memory; transformers calls it."""

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._slots.width, 0

    def get_seq_length(self) -> int:
        return self._slots.width - self._slots.positions.shape[-1]

    def get_max_length(self) -> int:
        return -1

    def get_max_cache_shape(self) -> int:
        return -1


class _SlotCache(Cache):  # type: ignore[misc]
    """The slots as attention layers of transformers expect them; a layer is no more than its number.

    So code that is compiled for one layer serves the next.
    """

    def __init__(self, slots: Slots, num_layers: int) -> None:
        super().__init__(layers=[_SlotLayer(slots, i) for i in range(num_layers)])
        self._slots = slots

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self._slots.write(key_states, value_states, layer_idx)


class Slots:
    """Keys and values of each layer; running rows are the first ones.

    On a CPU `[row, head, position, size]`: attention reads positions twice as fast where those of a head lie together.
    On a card `[row, position, head, size]`, as kernels for rows of different lengths want them.
    """

    def __init__(
        self,
        device: torch.device,
        expected_rows: int = 0,
        expected_width: int = 0,
        most_tokens: int | None = None,
    ) -> None:
        """What is expected is allocated at once; more is allocated when it is needed.

        `most_tokens`: rows times positions that are allocated at most, unless more are needed; None: no limit.
        """
        self.device = device
        self._has_heads_first = device.type == "cpu"
        self._expected = (expected_rows, expected_width)
        self.most_tokens = most_tokens
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        self.capacity = (0, 0)
        """Rows and positions that there is memory for."""
        self.version = 0
        """Changes whenever the tensors move."""
        self.positions = torch.empty(0)
        self.width = 0
        self.cache: Cache | None = None
        self._rows = slice(0, 0)
        self._start: int | None = None
        self._row_ids: dict[tuple[int, int], torch.Tensor] = {}
        """Numbers of consecutive rows, kept: a recorded step reads them where they were."""

    def add(
        self, prefilled: DynamicCache, first: int, sources: Sequence[int], lengths: Sequence[int], width: int = 0
    ) -> None:
        """Take over rows of a right-padded prefill, from row `first` on: `lengths[i]` positions of `sources[i]`.

        `width`: positions that these rows and those before need, where that is more than the lengths.
        """
        layers = [(layer.keys, layer.values) for layer in prefilled.layers]
        longest = max(lengths)
        if self.cache is None:
            for keys, values in layers:
                self.keys.append(self._allocate(keys, 0, 0, keys.shape[1], keys.shape[3]))
                self.values.append(self._allocate(values, 0, 0, values.shape[1], values.shape[3]))
            self.cache = _SlotCache(self, len(layers))
            if self._expected[0]:
                self.reserve(*self._expected)
        self.reserve(first + len(lengths), max(longest, width))
        taken = None if list(sources) == list(range(len(layers[0][0]))) else torch.tensor(sources, device=self.device)
        rows = slice(first, first + len(lengths))
        for index, pair in enumerate(layers):
            for own, new in zip((self.keys[index], self.values[index]), pair, strict=True):
                chosen = new if taken is None else new[taken]
                self._by_head(own)[rows, :, :longest] = chosen[:, :, :longest]

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first positions of one row over another row."""
        for own in map(self._by_head, (*self.keys, *self.values)):
            own[target, :, :length] = own[source, :, :length]

    def aim(self, rows: slice, positions: torch.Tensor, width: int, start: int | None = None) -> Cache:
        """The cache for a pass over consecutive rows; there must be memory.

        New keys and values go to `positions` `[row, token]`; attention sees the first `width` positions. `start`: the
        first of the positions, where the host knows that it is the same for all rows and the others follow it.
        """
        assert self.cache is not None, "rows are added before they are advanced"
        self.positions, self.width = positions, width
        self._rows, self._start = rows, start
        if (key := (rows.start, rows.stop)) not in self._row_ids:
            self._row_ids[key] = torch.arange(rows.start, rows.stop, device=self.device)[:, None]
        return self.cache

    def write(self, keys: torch.Tensor, values: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Take in one layer's new tokens `[row, head, token, size]`; returns all that attention sees, alike."""
        out, rows, width = [], self._rows, self.width
        for own, new in ((self.keys[layer], keys), (self.values[layer], values)):
            if not self._has_heads_first:
                own = own.transpose(1, 2)
            if self._start is not None:
                own[rows, :, self._start : self._start + new.shape[2]] = new
            else:
                own[self._row_ids[rows.start, rows.stop], :, self.positions] = new.transpose(1, 2)
            out.append(own[rows, :, :width])
        return out[0], out[1]

    def reserve(self, num_rows: int, width: int) -> None:
        """Make the tensors large enough for the first rows and positions, and keep what those hold.

        What is beyond them may be given up for it. Layer by layer, so that growing takes one layer's memory more.
        Raises RuntimeError (torch.OutOfMemoryError on a card) where there is no memory; what is held then stays.
        """
        rows, positions = before = self.capacity
        if num_rows <= rows and width <= positions:
            return
        if width > positions:
            positions = -(-max(width, positions * 3 // 2) // _GROWTH) * _GROWTH
        if num_rows > rows:
            rows = max(num_rows, rows * 2)
        if self.most_tokens is not None and rows * positions > self.most_tokens:
            rows = max(num_rows, min(rows, self.most_tokens // int(with_headroom(width))))
            positions = max(width, min(positions, self.most_tokens // rows))
        # What all layers have, should one of them be refused.
        self.capacity = (min(rows, before[0]), min(positions, before[1]))
        self.version += 1
        for tensors in (self.keys, self.values):
            for layer, old in enumerate(tensors):
                view = self._by_head(old)
                new = self._allocate(old, rows, positions, view.shape[1], view.shape[3])
                kept = view[:rows, :, :positions]
                self._by_head(new)[: kept.shape[0], :, : kept.shape[2]] = kept
                tensors[layer] = new
        self.capacity = (rows, positions)

    def _allocate(self, like: torch.Tensor, rows: int, positions: int, heads: int, size: int) -> torch.Tensor:
        if self._has_heads_first:
            return like.new_zeros((rows, heads, positions, size))
        return like.new_zeros((rows, positions, heads, size))

    def _by_head(self, own: torch.Tensor) -> torch.Tensor:
        """A layer's keys or values as `[row, head, position, size]`."""
        return own if self._has_heads_first else own.transpose(1, 2)


def with_headroom(length: Any) -> Any:
    """A number of positions (or an array of them) with room to grow: an eighth, at least 128.

    >>> [int(with_headroom(n)) for n in (0, 1024, 8192)]
    [128, 1152, 9216]
    """
    return length + np.maximum(_GROWTH, length // 8)
