"""Attention of a decoding step on a card: each row reads its own keys and values and no more.

With a mask all rows read as far as the longest, and kernels that take one are slower. torch's variable-length attention
takes the slots as they lie, with the number of tokens of each row, and splits long rows over the card. In releases to
torch 2.11 only the operation beneath it takes these numbers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # before torch 2.10
    varlen_attn: Callable[..., Any] | None = None  # type: ignore[no-redef]

NAME = "s1kit_slots"
_MOST_HEAD = 256
_TAKES = frozenset(inspect.signature(varlen_attn).parameters) if varlen_attn is not None else frozenset()


def _arguments(operation: Any) -> frozenset[str]:
    """The names that an operation of torch takes; none where this build has no such operation."""
    return frozenset(argument.name for argument in operation.default._schema.arguments) if operation else frozenset()


_flash_attention: Any = getattr(torch.ops.aten, "_flash_attention_forward", None)
_HAS_LENGTHS = "seqused_k" in _TAKES or "seqused_k" in _arguments(_flash_attention)


@dataclass(frozen=True, slots=True)
class RowLengths:
    """The lengths of the rows, which variable-length attention gets through transformers as a keyword."""

    starts_of_queries: torch.Tensor
    """0, 1, 2, ...: one token a row."""
    starts_of_keys: torch.Tensor
    """0, `width`, 2 * `width`, ...: where each row's slot begins."""
    used: torch.Tensor
    """Tokens of each row, the new one included."""
    width: int
    """Positions of a slot."""


def can_attend(model: Any) -> bool:
    """Whether torch, the card and the model have what `attend_slots` needs; it looks back to the beginning."""
    if not _HAS_LENGTHS or model.device.type != "cuda":
        return False
    config = model.config.get_text_config()
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return (
        model.dtype in (torch.bfloat16, torch.float16)
        and getattr(config, "_attn_implementation", "") == "sdpa"
        and size <= _MOST_HEAD
        and size % 8 == 0
    )


@contextmanager
def attending(model: Any, attend: Callable[..., Any], name: str = NAME) -> Iterator[None]:
    """Let a model, within the context, attend by `attend`, which transformers knows as `name`."""
    from transformers import AttentionInterface

    AttentionInterface.register(name, attend)
    config = model.config.get_text_config()
    before, config._attn_implementation = config._attn_implementation, name
    try:
        yield
    finally:
        config._attn_implementation = before


def attend_slots(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    row_lengths: RowLengths,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one token a row over whole slots. In `[row, head, token, size]`, out `[row, token, head, size]`."""
    q = query[:, :, 0]
    k, v = (x.transpose(1, 2).flatten(0, 1) for x in (key, value))
    public: Any = varlen_attn
    rows = (row_lengths.starts_of_queries, row_lengths.starts_of_keys, 1, row_lengths.width)
    how: dict[str, Any] = {"scale": scaling, "seqused_k": row_lengths.used}
    if "seqused_k" in _TAKES:
        # Releases that do not ask whether heads are grouped see it by themselves; `Passes.check` compares either way.
        how |= {"enable_gqa": q.shape[1] != k.shape[1]} if "enable_gqa" in _TAKES else {}
        out = public(q.contiguous(), k, v, *rows, **how)
    else:
        # No dropout, not causal (the one query is the last token), and no copy of the probabilities.
        out = _flash_attention(q.contiguous(), k, v, *rows, 0.0, False, False, **how)[0]
    return out[:, None], None
