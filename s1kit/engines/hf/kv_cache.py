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
        """Nothing: the slots own the memory."""

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
    """Keys and values `[layer, row, position, head, size]`; running rows are the first ones.

    On a CPU each head's positions lie together in memory: attention then reads them twice as fast. On a card each
    position's heads do, as kernels for rows of different lengths want them.
    """

    def __init__(self, device: torch.device, expected_rows: int = 0, expected_width: int = 0) -> None:
        """What is expected is allocated at once; more is allocated when it is needed."""
        self.device = device
        self._expected = (expected_rows, expected_width)
        self.keys = self.values = torch.empty(0)
        self.positions = torch.empty(0)
        self.width = 0
        self.cache: Cache | None = None
        self._rows = slice(0, 0)
        self._row_ids: dict[tuple[int, int], torch.Tensor] = {}
        """Numbers of consecutive rows, kept: a recorded step reads them where they were."""

    @property
    def capacity(self) -> tuple[int, int]:
        """Rows and positions that there is memory for."""
        return (self.keys.shape[1], self.keys.shape[2]) if self.cache is not None else (0, 0)

    def add(self, prefilled: DynamicCache, first: int, sources: Sequence[int], lengths: Sequence[int]) -> None:
        """Take over rows of a right-padded prefill, from row `first` on: `lengths[i]` positions of `sources[i]`."""
        layers = [(layer.keys, layer.values) for layer in prefilled.layers]
        longest = max(lengths)
        if self.cache is None:
            keys, values = layers[0]
            self.keys, self.values = (
                self._allocate(x, (len(layers), 0, 0, x.shape[1], x.shape[3])) for x in (keys, values)
            )
            self.cache = _SlotCache(self, len(layers))
            self.reserve(*self._expected)
        self.reserve(first + len(lengths), longest)
        taken = None if list(sources) == list(range(len(layers[0][0]))) else torch.tensor(sources, device=self.device)
        rows = slice(first, first + len(lengths))
        for index, pair in enumerate(layers):
            for own, new in zip((self.keys, self.values), pair, strict=True):
                chosen = new if taken is None else new[taken]
                own[index, rows, :longest] = chosen[:, :, :longest].transpose(1, 2)

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first positions of one row over another row."""
        self.keys[:, target, :length] = self.keys[:, source, :length]
        self.values[:, target, :length] = self.values[:, source, :length]

    def aim(self, rows: slice, positions: torch.Tensor, width: int) -> Cache:
        """The cache for a pass over consecutive rows; there must be memory.

        New keys and values go to `positions` `[row, token]`; attention sees the first `width` positions.
        """
        assert self.cache is not None, "rows are added before they are advanced"
        self.positions, self.width = positions, width
        self._rows = rows
        if (key := (rows.start, rows.stop)) not in self._row_ids:
            self._row_ids[key] = torch.arange(rows.start, rows.stop, device=self.device)[:, None]
        return self.cache

    def write(self, keys: torch.Tensor, values: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Take in one layer's new tokens `[row, head, token, size]`; returns all that attention sees, alike."""
        out, row_ids = [], self._row_ids[self._rows.start, self._rows.stop]
        for own, new in ((self.keys[layer], keys), (self.values[layer], values)):
            own[row_ids, self.positions] = new.transpose(1, 2)
            out.append(own[self._rows, : self.width].transpose(1, 2))
        return out[0], out[1]

    def reserve(self, num_rows: int, width: int) -> bool:
        """Make the tensors large enough, and keep what they hold; whether they had to be moved."""
        layers, rows, capacity, heads, _ = self.keys.shape
        if num_rows <= rows and width <= capacity:
            return False
        if width > capacity:
            capacity = -(-max(width, capacity * 3 // 2) // _GROWTH) * _GROWTH
        if num_rows > rows:
            num_rows = max(num_rows, rows * 2)
        for name in ("keys", "values"):
            old: torch.Tensor = getattr(self, name)
            new = self._allocate(old, (layers, max(num_rows, rows), capacity, heads, old.shape[4]))
            new[:, :rows, : old.shape[2]] = old
            setattr(self, name, new)
        return True

    def _allocate(self, like: torch.Tensor, shape: tuple[int, int, int, int, int]) -> torch.Tensor:
        if self.device.type != "cpu":
            return like.new_zeros(shape)
        layers, rows, positions, heads, size = shape
        return like.new_zeros((layers, rows, heads, positions, size)).transpose(2, 3)
