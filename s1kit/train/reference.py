"""What `train.base` refers to. Needs no torch, so that a recipe can be checked and estimated without it."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

from s1kit.engines.gguf.unpacking import is_gguf, unpacked
from s1kit.engines.references import looks_local, read_reference
from s1kit.errors import InputError
from s1kit.recipe import Layout, Train
from s1kit.train.shapes import SHAPES


def base_folder(base: str) -> tuple[str, str]:
    """The kind of a reference ("hf" or "random") and its folder (that of a GGUF file dequantised), Hub id or shape.

    Raises InputError for an unknown kind or a folder that is not a model.

    >>> base_folder("random:qwen2-small")
    ('random', 'qwen2-small')
    """
    if base in ("tiny-base", "tiny"):
        folder = Path(str(resources.files("s1kit.tiny"))) / "base"
        return "hf", str(_checked(folder, base, need_weights=True))
    kind, colon, name = base.partition(":")
    if not colon:
        kind, name = "hf", base
    if stated := read_reference(base).options:
        raise InputError(
            f"{base!r} has the options {', '.join(stated)}, which engines take and fine-tuning does not",
            where="train.base",
            fix="Leave it out; train.dtype, train.template and train.format are settings of their own.",
        )
    if kind == "hf" and is_gguf(name):
        return kind, str(unpacked(name))
    if kind not in ("hf", "random") or not name:
        raise InputError(
            f"{base!r} is not a model to train",
            where="train.base",
            fix="Give hf:<folder, GGUF file or Hub id>, random:<folder or shape>, or tiny-base.",
        )
    if looks_local(name):
        return kind, str(_checked(Path(name).expanduser(), base, need_weights=kind == "hf"))
    if kind == "random" and name not in SHAPES:
        raise InputError(
            f"there is no folder and no shape {name!r}", where="train.base", fix=f"Known shapes: {', '.join(SHAPES)}."
        )
    if not colon and get_close_matches(name, ["tiny-base"], 1, 0.75):
        raise InputError(f"there is no model {name!r}", where="train.base", fix="Did you mean tiny-base?")
    return kind, name


def _checked(folder: Path, base: str, need_weights: bool) -> Path:
    weights = any(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file() or (need_weights and not weights):
        missing = "config.json" if not (folder / "config.json").is_file() else "*.safetensors"
        raise InputError(
            f"{base!r} is not a model folder: it has no {missing}",
            where=str(folder),
            fix="Give a Hugging Face folder with config.json, *.safetensors and a tokenizer.",
        )
    return folder


WITH_ANOTHER_TOOL = "Train it with another tool: see s1kit export."

STATES = frozenset({"linear_attention", "conv", "hybrid", "hybrid_sliding"})
"""transformers' names of layers that carry a state from token to token, beside attention or in its place."""

_KINDS = STATES | {"full_attention", "sliding_attention", "moe", "sparse", "dense"}


def check_processes(layout: Layout, num_processes: int) -> None:
    """Raises InputError where the layout does not fit the number of processes."""
    if num_processes % layout.context_parallel:
        raise InputError(
            f"context_parallel is {layout.context_parallel}, which does not divide the {num_processes} processes",
            where="train.layout.context_parallel",
            fix="Give a divisor, or start another number of processes with torchrun.",
        )


def check_machine(train: Train, *, has_card: bool, num_processes: int) -> None:
    """Raises InputError for what settings ask of the cards and processes, where those are not there."""
    layout = train.layout
    check_processes(layout, num_processes)
    if layout.attention in ("varlen", "flash") and not (has_card and train.dtype == "bfloat16"):
        raise InputError(
            f"attention {layout.attention!r} needs a CUDA device and bfloat16",
            where="train.layout.attention",
            fix="Use sdpa.",
        )
    if layout.fp8 and not has_card:
        raise InputError(
            "fp8 needs a card that has it (H100, H200, B200)", where="train.layout.fp8", fix="Leave it out."
        )
    if layout.master_dtype == "bfloat16" and train.dtype == "float32" and num_processes == 1 and not has_card:
        raise InputError(
            "weights held in bfloat16 are cast to float32 by FSDP, which one process on a CPU does without",
            where="train.layout.master_dtype",
            fix="Leave it out, or set train.dtype=bfloat16.",
        )
    if train.lora is None or not train.lora.quantize:
        return
    if num_processes > 1 or not has_card:
        raise InputError(
            "quantize trains on exactly one CUDA card",
            where="train.lora.quantize",
            fix="Leave it out, or use one card.",
        )
    if train.dtype != "bfloat16":
        raise InputError(
            f"quantize multiplies in bfloat16, and dtype is {train.dtype}",
            where="train.dtype",
            fix="Set train.dtype=bfloat16, or leave quantize out.",
        )


def check_config(values: Mapping[str, Any], num_tokens: int) -> None:
    """Raises InputError for a config.json that the trainer cannot use with a tokenizer of so many tokens."""
    if "text_config" in values and "num_attention_heads" not in values:
        raise InputError(
            f"a {values.get('model_type')!r} model reads more than text",
            where="train.base",
            fix="Take a checkpoint of its language model alone, or train it with another tool: see s1kit export.",
        )
    if strange := sorted(set(values.get("layer_types") or ()) - _KINDS):
        raise InputError(
            f"the model has layers of kind {', '.join(strange)}", where="train.base", fix=WITH_ANOTHER_TOOL
        )
    vocabulary = values.get("vocab_size")
    if isinstance(vocabulary, int) and num_tokens > vocabulary:
        raise InputError(
            f"the tokenizer has {num_tokens} tokens and the model {vocabulary}",
            where="train.tokenizer",
            fix="Take the model's own tokenizer.",
        )
    for name in ("final_logit_softcapping", "attn_logit_softcapping"):
        if values.get(name):
            raise InputError(f"the model uses {name}", where="train.base", fix=WITH_ANOTHER_TOOL)
