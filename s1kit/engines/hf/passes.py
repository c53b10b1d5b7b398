"""Passes through a transformers model over the slots of a running batch. All return logits of each row's last token."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import DynamicCache

from s1kit.engines.hf.attention import (
    ALL_SEE_ALL,
    WITH_ANOTHER_ENGINE,
    RowLengths,
    Windows,
    attend_slots,
    attending,
    can_attend,
)
from s1kit.engines.hf.kv_cache import Slots
from s1kit.errors import InputError
from s1kit.progress import say

_MOST_APART = 0.1
"""How far the logits of two ways of attention in 16 bits may be apart on average, in their standard deviation."""


class Passes:
    """A model and its cache."""

    def __init__(self, model: Any, vocabulary_size: int, slots: Slots, windows: Windows = ALL_SEE_ALL) -> None:
        self.slots = slots
        self.model = model
        # transformers 5.24 renamed the argument, and says that 5.40 knows the new name alone.
        named = inspect.signature(model.forward).parameters
        self._cache = "cache" if "cache" in named else "past_key_values"
        self._device: torch.device = model.device
        self._vocabulary_size = vocabulary_size
        self._window = windows.tokens
        self._masks_by_kind = windows.is_by_kind
        self._no_masks = dict.fromkeys(("full_attention", "sliding_attention")) if windows.is_by_kind else None
        self._is_eager = getattr(model.config.get_text_config(), "_attn_implementation", "sdpa") == "eager"
        self.reads_lengths = not windows.tokens and can_attend(model)
        """Whether decoding attends by the rows' lengths and not by a mask."""
        self.is_unchecked = self.reads_lengths
        """Whether that is still to be compared with a mask's."""

    def prefill(self, contexts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, DynamicCache]:
        """Logits `[row, vocabulary]` after whole contexts, and a cache of their keys and values.

        Padded on the right, where causal attention does not see the padding.
        """
        lengths = [len(context) for context in contexts]
        cache = DynamicCache()
        with self._only_last(lengths) as options:
            ids = _padded(contexts, lengths).to(self._device)
            out = self.model(input_ids=ids, use_cache=True, **{self._cache: cache}, **options)
        return self._logits(out), cache

    def extend(self, first: int, ids: Sequence[Sequence[int]], lengths: Sequence[int]) -> torch.Tensor:
        """Logits after new ids for the rows from `first` on, which have so many tokens in the cache.

        What is padding comes to lie beyond the rows' lengths and is never looked at; there must be memory for it.
        """
        num_new = [len(i) for i in ids]
        padded = _padded(ids, num_new).to(self._device)
        positions = torch.tensor(lengths, device=self._device)[:, None]
        positions = positions + torch.arange(max(num_new), device=self._device)
        width = max(lengths) + max(num_new)
        with self._only_last(num_new) as options:
            return self._over_slots(slice(first, first + len(ids)), padded, positions, width, options)

    def decode(self, ids: torch.Tensor, positions: torch.Tensor, width: int, start: int | None = None) -> torch.Tensor:
        """Logits after the same number of ids `[row, token]` for each of the first rows.

        There must be memory for `width` positions. `start`: see `Slots.aim`; `width` is then no more than the tokens of
        each row. Nothing waits for the host.
        """
        rows = slice(0, len(ids))
        if self.reads_lengths and ids.shape[1] == 1:
            return self._by_lengths(rows, ids, positions)
        return self._over_slots(rows, ids, positions, width, {"logits_to_keep": 1}, start)

    def check(self, ids: torch.Tensor, positions: torch.Tensor, width: int) -> None:
        """Compare attention by lengths with attention by a mask on a step's tokens; give it up where they differ."""
        self.is_unchecked = False
        rows = slice(0, len(ids))
        try:
            found = self._by_lengths(rows, ids, positions).float()
        except (RuntimeError, TypeError, ValueError) as error:
            self._attend_by_mask(f"{type(error).__name__}: {error}".splitlines()[0])
            return
        wanted = self._over_slots(rows, ids, positions, width, {"logits_to_keep": 1}).float()
        apart = float((found - wanted).abs().mean() / wanted.std())
        if not apart < _MOST_APART:
            self._attend_by_mask(f"it is {apart:.2f} standard deviations from attention with a mask")

    def _attend_by_mask(self, why: str) -> None:
        self.reads_lengths = False
        say(f"hf: decodes without variable-length attention, which failed its check: {why}")

    def _by_lengths(self, rows: slice, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        width = self.slots.capacity[1]
        starts = torch.arange(rows.stop + 1, dtype=torch.int32, device=self._device)
        lengths = RowLengths(starts, starts * width, (positions[:, 0] + 1).int(), width)
        with attending(self.model, attend_slots):
            out = self.model(
                input_ids=ids,
                position_ids=positions,
                use_cache=True,
                logits_to_keep=1,
                row_lengths=lengths,
                **{self._cache: self.slots.aim(rows, positions, width)},
            )
        return self._logits(out)

    def _over_slots(
        self,
        rows: slice,
        ids: torch.Tensor,
        positions: torch.Tensor,
        width: int,
        options: dict[str, Any],
        start: int | None = None,
    ) -> torch.Tensor:
        # One token a row that sees all there is needs no mask.
        is_all = start is not None and ids.shape[1] == 1 and not 0 < self._window <= width
        out = self.model(
            input_ids=ids,
            attention_mask=self._no_masks if is_all else self._masks(positions, width),
            position_ids=positions,
            use_cache=True,
            **{self._cache: self.slots.aim(rows, positions, width, start)},
            **options,
        )
        return self._logits(out)

    def _logits(self, out: Any) -> torch.Tensor:
        logits: torch.Tensor = out.logits[:, -1, : self._vocabulary_size]
        return logits

    def _masks(self, positions: torch.Tensor, width: int) -> Any:
        """What each token may look at, in the form that attention takes; one a kind of layer where kinds differ."""
        places = torch.arange(width, device=self._device)
        mask = (places <= positions[:, :, None])[:, None]
        if not self._window:
            return self._form(mask)
        near = places > positions[:, None, :, None] - self._window
        if not self._masks_by_kind:
            return self._form(mask & near)
        return {"full_attention": self._form(mask), "sliding_attention": self._form(mask & near)}

    def _form(self, mask: torch.Tensor) -> torch.Tensor:
        if not self._is_eager:
            return mask
        dtype = self.model.dtype
        return torch.zeros(mask.shape, dtype=dtype, device=self._device).masked_fill_(~mask, torch.finfo(dtype).min)

    @contextmanager
    def _only_last(self, lengths: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Options of a forward pass whose logits `[row, 1, vocabulary]` are those after each row's last token.

        A vocabulary is far wider than a hidden state. `logits_to_keep` picks the same positions in every row, which for
        rows of different lengths would be each row's end in all of them; so the output layer is given one state a row.
        """
        if min(lengths) == max(lengths):
            yield {"logits_to_keep": 1}
            return
        rows = torch.arange(len(lengths), device=self._device)
        ends = torch.tensor(lengths, device=self._device) - 1
        head = self.model.get_output_embeddings()
        hook = head.register_forward_pre_hook(lambda _, given: (given[0][rows, ends][:, None], *given[1:]))
        try:
            yield {}
        finally:
            hook.remove()


def _padded(rows: Sequence[Sequence[int]], lengths: Sequence[int]) -> torch.Tensor:
    """Ids as a tensor `[row, token]`, zeros on the right of the shorter rows."""
    longest = max(lengths)
    if min(lengths) == longest:
        return torch.tensor(rows)
    return torch.tensor([(*row, *(0,) * (longest - length)) for row, length in zip(rows, lengths, strict=True)])


def check_steps(model: Any, vocabulary_size: int, windows: Windows) -> int:
    """Bytes of keys and values for one token, all layers.

    Raises InputError where a step over the slots gives other logits than the whole context computed anew.

    So a model that remembers in a way that nobody here foresaw is refused when it is loaded, and never decoded wrongly.
    """
    contexts, news = [[1, 2, 3, 4, 5], [6, 7, 8]], [[9], [10]]
    contexts, news = ([[i % vocabulary_size for i in row] for row in rows] for rows in (contexts, news))
    passes = Passes(model, vocabulary_size, Slots(model.device), windows)
    with torch.inference_mode():
        try:
            wanted = [
                model(input_ids=torch.tensor([row + new], device=model.device), use_cache=False).logits[0, -1].float()
                for row, new in zip(contexts, news, strict=True)
            ]
            _, cache = passes.prefill(contexts)
            passes.slots.add(cache, 0, [0, 1], [5, 3], width=8)
            found = passes.extend(0, news, [5, 3]).float()
        except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise _unservable(model, f"{type(error).__name__}: {error}".splitlines()[0]) from error
    expected = torch.stack(wanted)[:, :vocabulary_size]
    if not bool(torch.isfinite(expected).all()):
        kind = str(model.dtype).removeprefix("torch.")
        fix = "Fetch the weights again." if kind == "float32" else "Give dtype=float32, which holds larger numbers."
        raise InputError(f"the logits of {type(model).__name__} are no finite numbers in {kind}", where="hf:", fix=fix)
    apart = float((found - expected).abs().mean() / expected.std())
    if not apart < _MOST_APART:
        raise _unservable(model, f"logits are {apart:.2f} standard deviations from those of the whole context")
    slots = passes.slots
    return sum(own.nbytes for own in (*slots.keys, *slots.values)) // math.prod(slots.capacity)


def _unservable(model: Any, why: str) -> InputError:
    return InputError(
        f"{type(model).__name__} cannot be decoded step by step with this engine's cache: {why}",
        where="hf:",
        fix=WITH_ANOTHER_ENGINE,
    )
