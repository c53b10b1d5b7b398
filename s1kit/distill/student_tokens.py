"""Counts thinking in the student's tokens, where the student's tokenizer can be found without downloading anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

from tokenizers import Tokenizer

Count = Callable[[Sequence[str]], list[int]]


def student_counter(base: str) -> Count | None:
    """A function from texts to their numbers of tokens for the model that `train.base` names; None where unknown.

    `base` is `tiny-base`, `hf:<folder or Hub id>`, `random:<folder>`, or a folder; a Hub id is looked up in the cache.
    """
    path = tokenizer_path(base)
    if path is None:
        return None
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()

    def count(texts: Sequence[str]) -> list[int]:
        return [len(e.ids) for e in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    return count


def tokenizer_path(base: str) -> Path | None:
    """The `tokenizer.json` of a model reference, or None."""
    if base == "tiny-base":
        folder = Path(str(resources.files("s1kit.tiny"))) / "base"
    else:
        scheme, colon, rest = base.partition(":")
        name = rest if colon and scheme in ("hf", "random", "vllm") else base
        folder = Path(name)
        if not folder.is_dir():
            return _in_hub_cache(name)
    path = folder / "tokenizer.json"
    return path if path.is_file() else None


def _in_hub_cache(hub_id: str) -> Path | None:
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    found = sorted(cache.glob(f"models--{hub_id.replace('/', '--')}/snapshots/*/tokenizer.json"))
    return found[-1] if found else None
