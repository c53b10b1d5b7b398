"""How the layers of a model attend: how far back, asked of the model itself, and in a decoding step on a card.

On a card each row reads its own keys and values and no more. With a mask all rows read as far as the longest, and
kernels that take one are slower. torch's variable-length attention takes the slots as they lie, with the number of
tokens of each row, and splits long rows over the card. In releases to torch 2.11 only the operation beneath it takes
these numbers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NoReturn

import torch

from s1kit.errors import InputError

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


WITH_ANOTHER_ENGINE = "Use vllm: or a completions: server for this model."
_KINDS = {"full_attention", "sliding_attention", "moe", "sparse", "dense"}


@dataclass(frozen=True)
class Windows:
    """The attention windows of a model's layers."""

    tokens: int = 0
    """Tokens that a layer with a window sees, the newest included; 0 where no layer has one."""
    is_by_kind: bool = False
    """Whether the model takes one mask for each kind of layer, and some of its layers have no window."""


ALL_SEE_ALL = Windows()


def find_windows(model: Any) -> Windows:
    """The windows of a model's layers. Raises InputError where layers keep more than keys and values, or have several.

    A window in the config says little: some models ignore it, and some use it without naming kinds of layers. What the
    layers ask their attention for on one token is what they use.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    if strange := sorted(kinds - _KINDS):
        _refuse(
            model, f"layers of kind {', '.join(strange)} attend or keep a state in a way that this engine does not know"
        )
    asked = _asked_for(model)
    windows = asked - {0}
    if len(windows) > 1 or (windows and 0 in asked and "sliding_attention" not in kinds):
        _refuse(model, f"layers look back {', '.join(map(str, sorted(asked)))} tokens (0: all)")
    if "sliding_attention" in kinds:
        return Windows(int(config.sliding_window), is_by_kind=True)
    return Windows(max(windows, default=0))


def _asked_for(model: Any) -> set[int]:
    """The windows that the layers ask for, 0 for none; empty where they attend by code of their own."""
    found: set[int] = set()

    def attend(module: Any, query: Any, key: Any, value: Any, *_: Any, **options: Any) -> tuple[Any, None]:
        found.add(int(options.get("sliding_window") or 0))
        return value.repeat_interleave(query.shape[1] // value.shape[1], 1).transpose(1, 2), None

    # What the layers compute from that does not matter, nor whether code of their own can do without a mask.
    own = (AttributeError, RuntimeError, TypeError, ValueError)
    with suppress(*own), attending(model, attend, "s1kit_windows"), torch.inference_mode():
        model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=model.device), use_cache=False, logits_to_keep=1)
    return found


def _refuse(model: Any, what: str) -> NoReturn:
    raise InputError(what, where=type(model).__name__, fix=WITH_ANOTHER_ENGINE)
