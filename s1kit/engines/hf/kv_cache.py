"""The key-value cache of a running batch: one slot a row, each row at its own length.

Rows come and go while others decode: a new row is prefilled by itself and copied into a free slot, a finished one is
replaced by the last. Nothing is ever shifted, and taking tokens back is a shorter length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin

_GROWTH = 128


class _SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's view of the slots, as the attention layers of transformers expect it."""

    is_sliding = False
    is_croppable = False

    def __init__(self, slots: Slots, index: int) -> None:
        super().__init__()
        self._slots, self._index = slots, index
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the prepared rows' new tokens; returns all their keys and values up to the longest row."""
        slots = self._slots
        keys, values = slots.keys[self._index], slots.values[self._index]
        keys[slots.rows, :, slots.positions] = key_states.transpose(1, 2)
        values[slots.rows, :, slots.positions] = value_states.transpose(1, 2)
        first = slots.num_rows - len(slots.rows)
        return keys[first : slots.num_rows, :, : slots.width], values[first : slots.num_rows, :, : slots.width]

    def lazy_initialization(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the slots own the memory."""

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._slots.width, 0

    def get_seq_length(self) -> int:
        return self._slots.width - self._slots.positions.shape[-1]

    def get_max_length(self) -> int:
        return -1

    def get_max_cache_shape(self) -> int:
        return -1


class Slots:
    """Keys and values `[layer, row, head, position, width]` of the running rows, which are rows 0 to `num_rows - 1`."""

    def __init__(self, device: torch.device, expected_rows: int = 0, expected_width: int = 0) -> None:
        """What is expected is allocated at once; more is allocated when it is needed."""
        self.device = device
        self._expected = (expected_rows, expected_width)
        self.lengths: list[int] = []
        """Tokens in each running row's cache."""
        self.keys = self.values = torch.empty(0)
        self.rows = self.positions = torch.empty(0)
        self.width = 0
        self._cache: Cache | None = None

    @property
    def num_rows(self) -> int:
        return len(self.lengths)

    def add(self, prefilled: DynamicCache, sources: Sequence[int], lengths: Sequence[int]) -> None:
        """Take over rows of a right-padded prefill: for each new one, `lengths[i]` positions of row `sources[i]`."""
        layers = [(layer.keys, layer.values) for layer in prefilled.layers]
        first, longest = self.num_rows, max(lengths)
        if self._cache is None:
            keys, values = layers[0]
            self.keys = keys.new_zeros((len(layers), 0, keys.shape[1], 0, keys.shape[3]))
            self.values = values.new_zeros((len(layers), 0, values.shape[1], 0, values.shape[3]))
            self._cache = Cache(layers=[_SlotLayer(self, i) for i in range(len(layers))])
            self._reserve(*self._expected)
        self._reserve(first + len(lengths), longest)
        taken = torch.tensor(sources, device=self.device)
        for index, (keys, values) in enumerate(layers):
            self.keys[index, first : first + len(lengths), :, :longest] = keys[taken, :, :longest]
            self.values[index, first : first + len(lengths), :, :longest] = values[taken, :, :longest]
        self.lengths += lengths

    def remove(self, row: int) -> None:
        """Free a slot: the last row moves into it."""
        last = self.num_rows - 1
        if row != last:
            length = self.lengths[last]
            self.keys[:, row, :, :length] = self.keys[:, last, :, :length]
            self.values[:, row, :, :length] = self.values[:, last, :, :length]
            self.lengths[row] = length
        self.lengths.pop()

    def prepare(self, num_new: Sequence[int]) -> tuple[Cache, torch.Tensor, torch.Tensor]:
        """Make room for new tokens in the last `len(num_new)` rows, right-padded to the most of them.

        Returns the cache, positions `[row, token]`, and a mask `[row, 1, token, width]`, True where a token may look.
        """
        first, most = self.num_rows - len(num_new), max(num_new)
        self.width = max(self.lengths[first:]) + most
        self._reserve(self.num_rows, self.width)
        starts = torch.tensor(self.lengths[first:], device=self.device)
        self.positions = starts[:, None] + torch.arange(most, device=self.device)
        if self.rows.shape[0] != len(num_new) or first:
            self.rows = torch.arange(first, self.num_rows, device=self.device)[:, None]
        mask = torch.arange(self.width, device=self.device) <= self.positions[:, :, None]
        assert self._cache is not None, "rows are added before they are advanced"
        return self._cache, self.positions, mask[:, None]

    def advance(self, num_new: Sequence[int]) -> None:
        """The prepared tokens are in the cache. What was padding is beyond the rows' lengths and is never looked at."""
        first = self.num_rows - len(num_new)
        for row, new in enumerate(num_new, first):
            self.lengths[row] += new

    def _reserve(self, num_rows: int, width: int) -> None:
        """Make the tensors large enough, and keep what they hold."""
        layers, rows, heads, capacity, size = self.keys.shape
        if num_rows <= rows and width <= capacity:
            return
        if width > capacity:
            capacity = -(-max(width, capacity * 3 // 2) // _GROWTH) * _GROWTH
        if num_rows > rows:
            num_rows = max(num_rows, rows * 2)
        shape = (layers, max(num_rows, rows), heads, capacity, size)
        for name in ("keys", "values"):
            old: torch.Tensor = getattr(self, name)
            new = old.new_zeros((*shape[:4], old.shape[4]))
            new[:, :rows, :, : old.shape[3]] = old
            setattr(self, name, new)
