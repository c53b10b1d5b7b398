"""Checks of the stage `train`: packages, base, tokenizer and format, disk and memory."""

from __future__ import annotations

import json
import os
from pathlib import Path

from s1kit.cli.preflight.faults import FaultCollector
from s1kit.cli.references import require
from s1kit.engines.machine import memory_size
from s1kit.errors import InputError
from s1kit.recipe import Recipe, Train

BYTES_A_PARAMETER = 16
"""Bytes a parameter takes in float32 training: weight, gradient and two moments of the optimiser."""
_COMMON = {"gemma", "gemma2", "gemma3_text", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"}
"""Architectures that every supported transformers trains: their folders are checked without importing it."""


def check_train(recipe: Recipe, found: FaultCollector) -> None:
    from s1kit.engines.machine import has_gpu
    from s1kit.forcing.formats import find_format
    from s1kit.train.reference import base_folder, check_machine
    from s1kit.train.shapes import SHAPES

    train = recipe.train
    is_known = not train.format or found.run(find_format, train.format) is not None
    has_packages = _check_packages(train, found)
    found.run(check_machine, train, has_card=has_gpu(), num_processes=int(os.environ.get("WORLD_SIZE", "1")))
    base = found.run(base_folder, train.base)
    on_hub = train.tokenizer.startswith("hf:")
    if train.tokenizer and not on_hub and not Path(train.tokenizer).expanduser().exists():
        fix = "Give a folder, a tokenizer.json(.gz) or hf:<Hub id>."
        found.add(f"there is no {train.tokenizer}", "train.tokenizer", fix)
        return
    is_here = not on_hub and base is not None and bool(train.tokenizer or Path(base[1]).is_dir() or base[1] in SHAPES)
    if is_here and is_known and has_packages:
        found.run(_check_tokenizer, recipe)
    if base and has_packages:
        found.run(_check_room, recipe)


def _check_packages(train: Train, found: FaultCollector) -> bool:
    """The packages that the settings need are installed; whether none is missing."""
    needed = [("torch", "fine-tuning", "train"), ("transformers", "fine-tuning", "train")]
    if train.lora:
        needed.append(("peft", "train.lora", "train"))
    if train.lora and train.lora.quantize:
        needed.append(("bitsandbytes", "train.lora.quantize", "qlora"))
    if train.layout.attention == "flash":
        needed.append(("flash_attn", "train.layout.attention = flash", "flash"))
    if train.layout.fp8:
        needed.append(("torchao", "train.layout.fp8", "fp8"))
    needed += [(tracker, "train.layout.trackers", tracker) for tracker in train.layout.trackers]
    num_before = len(found.faults)
    for package, purpose, extra in needed:
        found.run(require, package, purpose, extra)
    return len(found.faults) == num_before


def _check_tokenizer(recipe: Recipe) -> None:
    """The tokenizer has the format's delimiters, and the model room for its tokens.

    The files of a folder of a common architecture say so at once; anything else is opened with transformers, whose
    import takes seconds and which knows what it can load.
    """
    from s1kit.forcing.detection import choose_format
    from s1kit.forcing.formats import load_format
    from s1kit.forcing.tokenizer import FileTokenizer
    from s1kit.train.encoded import check_format
    from s1kit.train.reference import base_folder, check_config

    train = recipe.train
    folder = Path(base_folder(train.base)[1]).expanduser()
    if not train.tokenizer and all((folder / name).is_file() for name in ("tokenizer.json", "config.json")):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if config.get("model_type") in _COMMON:
            files = FileTokenizer(folder)
            check_format(files, choose_format(train.format or None, load_format(folder), files, train.template))
            check_config(config, len(files.get_vocab()))
            return
    from s1kit.train.loading import load_config, load_format_and_tokenizer

    fmt, tokenizer = load_format_and_tokenizer(train)
    check_format(tokenizer, fmt)
    load_config(train.base, tokenizer)


def _check_room(recipe: Recipe) -> None:
    """Disk for the checkpoints, and on a machine without a GPU the memory that full fine-tuning takes."""
    from s1kit.engines.machine import has_gpu
    from s1kit.train.disk import check_disk
    from s1kit.train.estimate import shape_of
    from s1kit.train.packing import batches

    train = recipe.train
    try:
        shape = shape_of(train.base)
    except InputError:  # on the Hub, and of a size that is not known by name
        return
    there = next(p for p in [recipe.folder / "train", *recipe.folder.absolute().parents] if p.exists())
    num_steps = len(batches(recipe.curate.num, train.batch_size, train.epochs, train.max_steps, recipe.seed))
    check_disk(there, shape, train, num_steps)
    if train.lora is not None or has_gpu():
        return
    needed, free = shape.parameters * BYTES_A_PARAMETER, memory_size()
    if needed > free:
        raise InputError(
            f"training {shape.parameters / 1e9:.1f}B parameters takes {needed / 1e9:,.0f} GB and more of memory; "
            f"this machine has {free / 1e9:,.0f} GB and no GPU",
            where="train.base",
            fix='Train on a machine with GPUs, take a smaller base, or stop before with stages=["collect", ...].',
        )
