"""How far the layers of a model look back, asked of the model itself."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

import torch

from s1kit.engines.hf.attention import attending
from s1kit.errors import InputError

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
