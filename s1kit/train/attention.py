"""Attention over a row of several samples that do not see each other; registered with transformers under NAME.

Every kernel is told where samples begin, so no mask of tokens x tokens exists and no time is spent on other samples.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, NoReturn

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from s1kit.errors import InputError, MissingExtra, first_line
from s1kit.progress import say
from s1kit.train.reference import WITH_ANOTHER_TOOL

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # before torch 2.10
    varlen_attn: Callable[..., Any] | None = None  # type: ignore[no-redef]

NAME = "s1kit_rows"

Kernel = Literal["sdpa", "varlen", "flash"]

_MOST_HEAD = 256
"""Size of a head, beyond which torch's variable-length kernel has no code; nor has it any for dropout."""

_MOST_APART = 0.1
"""Part of its size by which what a kernel computes in 16 bits may differ from plain attention."""

_VARLEN_TAKES = frozenset(inspect.signature(varlen_attn).parameters) if varlen_attn is not None else frozenset()
_VARLEN_CAUSAL: dict[str, Any] = {"is_causal": True} if "is_causal" in _VARLEN_TAKES else {"window_size": (-1, 0)}
"""The first release of varlen_attn said `is_causal`; later ones say it with the window."""


@dataclass(eq=False)
class Packing:
    """What attention must know about a row, handed through transformers as a keyword.

    Not frozen: torch.compile looks at every field of a frozen class, and with torch 2.11 it compiles recomputed layers
    again for every number of samples in a row.
    """

    lengths: tuple[int, ...]
    longest: int
    ends: Tensor
    """Cumulative lengths from 0, int32, on the row's device."""
    kernel: Kernel
    group: dist.ProcessGroup | None = None
    """The processes that share the row."""


@dataclass(frozen=True)
class _Form:
    """What a layer of the model asks of its attention."""

    scale: float | None
    window: int | None
    dropout: float


_CHANGE = ("softcap", "s_aux", "sinks", "position_bias", "indices", "block_indices")
"""Keywords by which transformers' models ask for more than the attention computed here."""


def _refuse(module: torch.nn.Module, what: str) -> NoReturn:
    raise InputError(f"{type(module).__name__} {what}", where="train.base", fix=WITH_ANOTHER_TOOL)


def register() -> None:
    """Make the attention known to transformers; without a mask function of that name no mask is built."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend_rows)


def choose_kernel(wanted: str, device: torch.device, dtype: torch.dtype, size: int = 64) -> Kernel:
    """The kernel to use for heads of a size. Raises InputError where the wanted one cannot run."""
    half = dtype in (torch.bfloat16, torch.float16)
    if wanted == "sdpa" or (wanted == "auto" and (device.type != "cuda" or not half)):
        return "sdpa"
    if device.type != "cuda" or not half:
        raise InputError(
            f"attention {wanted!r} needs a CUDA device and bfloat16", where="train.layout.attention", fix="Use sdpa."
        )
    if wanted == "flash":
        _flash()
    elif varlen_attn is None:
        if wanted == "varlen":
            raise InputError(
                "this torch has no varlen_attn", where="train.layout.attention", fix="Install torch 2.10 or newer."
            )
        return "sdpa"
    elif wanted == "auto" and _use_flash_3(device, dtype, size):
        return "varlen"
    kernel: Kernel = "flash" if wanted == "flash" else "varlen"
    if why := why_wrong(kernel, device, dtype, size):
        if wanted != "auto":
            raise InputError(
                f"attention {wanted!r} fails on this card: {why}", where="train.layout.attention", fix="Use sdpa."
            )
        say(f"train: attends sample by sample, since torch's variable-length attention fails on this card: {why}")
        return "sdpa"
    return kernel


def _use_flash_3(device: torch.device, dtype: torch.dtype, size: int) -> bool:
    """Let torch's attention run on FlashAttention 3, where that is installed and right; whether it does."""
    if torch.cuda.get_device_capability(device)[0] != 9 or find_spec("flash_attn_interface") is None:
        return False
    try:
        from torch.nn.attention import activate_flash_attention_impl, restore_flash_attention_impl

        activate_flash_attention_impl("FA3")
    except (ImportError, RuntimeError, AttributeError, ValueError) as error:
        say(f"train: attends without FlashAttention 3, which torch cannot use: {first_line(error)}")
        return False
    if why := why_wrong("varlen", device, dtype, size):
        restore_flash_attention_impl()
        say(f"train: attends without FlashAttention 3, which fails on this card: {why}")
        return False
    say("train: attends with FlashAttention 3")
    return True


def why_wrong(kernel: Kernel, device: torch.device, dtype: torch.dtype, size: int) -> str:
    """What is wrong with a kernel on a device; empty where output and gradients are those of plain attention.

    A card may be too new for a library's kernels, or too small for heads of that size, and a build may be without them:
    so that it is known before training.
    """
    lengths = (5, 40, 19)
    ends = torch.tensor([0, *lengths], device=device).cumsum(0).to(torch.int32)
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(n, sum(lengths), size, generator=generator).to(device, dtype) for n in (4, 2, 2, 4)]
    found: list[list[Tensor]] = []
    for each in (kernel, "sdpa"):
        q, k, v, gradient = (x.detach().clone().requires_grad_() for x in drawn)
        try:
            out = _KERNELS[each](q, k, v, Packing(lengths, max(lengths), ends, kernel), _Form(None, None, 0.0))
            found.append([out.detach(), *torch.autograd.grad(out, (q, k, v), gradient)])
        except (RuntimeError, TypeError, ValueError, AssertionError) as error:
            return f"{type(error).__name__}: {first_line(error)[:300]}"
    apart = max(float((a - b).float().norm() / b.float().norm()) for a, b in zip(*found, strict=True))
    return "" if apart < _MOST_APART else f"it is {apart:.0%} away from plain attention"


def attend_rows(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packing: Packing | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each sample of a row. In (1, heads, tokens, size), out (1, tokens, heads, size).

    `sliding_window`: keys that a token sees, its own included; None: all before it. Raises InputError for what no
    kernel here computes.
    """
    if packing is None:
        _refuse(module, "does not pass on where samples begin")
    if unknown := [name for name in _CHANGE if others.get(name) is not None]:
        _refuse(module, f"uses {', '.join(unknown)}")
    form = _Form(scaling, sliding_window, dropout)
    # Under autocast, positions leave queries and keys in float32, which kernels refuse beside values in bfloat16.
    q, k, v = query[0].to(value.dtype), key[0].to(value.dtype), value[0]
    if packing.group is not None:
        size = dist.get_world_size(packing.group)
        k, v = (_repeat_heads(x, size, q.shape[0]) for x in (k, v))
        q, k, v = (exchange(x, packing.group, True) for x in (q, k, v))
    out = _KERNELS[packing.kernel](q, k, v, packing, form)
    if packing.group is not None:
        out = exchange(out, packing.group, False)
    return out.transpose(0, 1).unsqueeze(0), None


@torch.compiler.disable  # type: ignore[untyped-decorator]  # it would be compiled again for every row's lengths
def _sdpa(q: Tensor, k: Tensor, v: Tensor, packing: Packing, form: _Form) -> Tensor:
    """One call a sample. On a CPU 1.4 times as fast as padding the samples to one call, 4 times as a block mask."""
    parts = zip(*(torch.split(x, list(packing.lengths), 1) for x in (q, k, v)), strict=True)
    grouped = q.shape[0] != k.shape[0]
    outs = []
    for a, b, c in parts:
        near = _near(a.shape[1], form.window, a.device)
        out = F.scaled_dot_product_attention(
            a[None],
            b[None],
            c[None],
            attn_mask=near,
            is_causal=near is None,
            dropout_p=form.dropout,
            scale=form.scale,
            enable_gqa=grouped,
        )
        outs.append(out[0])
    return torch.cat(outs, 1)


def _near(length: int, window: int | None, device: torch.device) -> Tensor | None:
    """(length, length): which keys each token of a sample sees; None where the window holds the whole sample."""
    if window is None or length <= window:
        return None
    return torch.ones(length, length, dtype=torch.bool, device=device).tril().triu(1 - window)


def _flash_attn(q: Tensor, k: Tensor, v: Tensor, packing: Packing, form: _Form) -> Tensor:
    out: Tensor = _flash()(
        *(x.transpose(0, 1) for x in (q, k, v)),
        packing.ends,
        packing.ends,
        packing.longest,
        packing.longest,
        dropout_p=form.dropout,
        softmax_scale=form.scale,
        causal=True,
        window_size=_window_size(form),
    )
    return out.transpose(0, 1)


def _window_size(form: _Form) -> tuple[int, int]:
    """Keys before and after a token's own, as kernels count them; -1 is no limit, and causality is told separately."""
    return (-1 if form.window is None else form.window - 1, 0 if form.window is not None else -1)


def _torch_varlen(q: Tensor, k: Tensor, v: Tensor, packing: Packing, form: _Form) -> Tensor:
    size = q.shape[-1]
    has_code = size <= _MOST_HEAD and size % 8 == 0 and v.shape[-1] == size and not form.dropout
    if not has_code or (form.window is not None and "window_size" not in _VARLEN_TAKES):
        by_sample: Tensor = _sdpa(q, k, v, packing, form)
        return by_sample
    options = dict(_VARLEN_CAUSAL)
    if form.window is not None:
        options["window_size"] = (form.window - 1, 0)
    if "enable_gqa" in _VARLEN_TAKES:
        # Releases that do not ask have the same kernel, which sees by itself that heads are grouped.
        options["enable_gqa"] = q.shape[0] != k.shape[0]
    if "scale" in _VARLEN_TAKES:
        options["scale"] = form.scale
    q, k, v = (x.transpose(0, 1).contiguous() for x in (q, k, v))
    # The row's own tuple of lengths is not looked at: torch.compile would compile again for each.
    out: Any = varlen_attn(q, k, v, packing.ends, packing.ends, packing.longest, packing.longest, **options)
    transposed: Tensor = out.transpose(0, 1)
    return transposed


_KERNELS: dict[str, Callable[[Tensor, Tensor, Tensor, Packing, _Form], Tensor]] = {
    "sdpa": _sdpa,
    "varlen": _torch_varlen,
    "flash": _flash_attn,
}


def _flash() -> Callable[..., Any]:
    try:
        from flash_attn import flash_attn_varlen_func
    except ImportError as error:
        raise MissingExtra("train.layout.attention=flash", "flash-attn", extra="flash") from error
    function: Callable[..., Any] = flash_attn_varlen_func
    return function


def _repeat_heads(x: Tensor, parts: int, query_heads: int) -> Tensor:
    """Repeat key or value heads until they can be dealt to `parts` processes."""
    if x.shape[0] % parts == 0:
        return x
    return x.repeat_interleave(query_heads // x.shape[0], 0)


def exchange(x: Tensor, group: dist.ProcessGroup, gather_tokens: bool) -> Tensor:
    """Exchange (all heads, my tokens, size) for (my heads, all tokens, size), or back; differentiable."""
    out: Tensor = _Exchange.apply(x, group, gather_tokens)  # type: ignore[no-untyped-call]
    return out


class _Exchange(torch.autograd.Function):
    """Ulysses (arXiv 2309.14509). Each direction is the other's transpose: the backward pass is the other direction."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup, gather_tokens: bool) -> Tensor:
        ctx.group, ctx.gather_tokens = group, gather_tokens
        return _exchange(x, group, gather_tokens)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _exchange(grads[0], ctx.group, not ctx.gather_tokens), None, None


def _exchange(x: Tensor, group: dist.ProcessGroup, gather_tokens: bool) -> Tensor:
    parts = dist.get_world_size(group)
    heads, tokens, size = x.shape
    if gather_tokens:
        send = x.reshape(parts, heads // parts, tokens, size).contiguous()
    else:
        send = x.reshape(heads, parts, tokens // parts, size).transpose(0, 1).contiguous()
    received = torch.empty_like(send)
    dist.all_to_all_single(received, send, group=group)
    if gather_tokens:
        return received.transpose(0, 1).reshape(heads // parts, parts * tokens, size)
    return received.reshape(parts * heads, tokens // parts, size)
