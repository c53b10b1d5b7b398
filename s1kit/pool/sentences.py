"""A sentence model: texts to vectors whose cosine says how near two texts are in meaning.

Any folder that transformers opens will do: config.json, tokenizer.json and weights as .safetensors, in the layout of
sentence-transformers or without it. No code of the folder is run, and nothing pickled is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s1kit.engines.machine import can_compute
from s1kit.errors import InputError, MissingExtra
from s1kit.files import hash_file, write_atomically

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_TOKENS = 256
"""Tokens of a text that are read, from its start; sentence models were trained on no more."""

BATCH_TOKENS = 8192
"""Tokens in a forward pass, padding included."""


class SentenceModel:
    """A sentence embedding model; see `load_sentence_model`."""

    def __init__(self, folder: Path) -> None:
        try:
            import torch
            from transformers import AutoModel, AutoTokenizer
        except ImportError as error:
            raise MissingExtra("decontaminate = semantic", "transformers", extra="semantic") from error
        self._pools_first = _pooling(folder) == "cls"
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            # Without use_safetensors, a folder of pickled weights would be opened.
            model = AutoModel.from_pretrained(
                folder, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"the sentence model cannot be opened: {reason}", where=str(folder), fix=_FIX) from error
        self._device = "cuda" if can_compute() else "cpu"
        self._model: Any = model.to(self._device).eval()
        self._max_tokens = min(MAX_TOKENS, self._tokenizer.model_max_length)
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token

    def embed(self, texts: Sequence[str]) -> NDArray[np.float16]:
        """One unit vector for each text, in order; shape (texts, width)."""
        import numpy as np
        import torch

        ids = self._tokenizer(list(texts), truncation=True, max_length=self._max_tokens)["input_ids"]
        # Neighbours in length share a pass, so that little of it is padding.
        order = sorted(range(len(texts)), key=lambda n: len(ids[n]))
        vectors: list[Any] = [None] * len(texts)
        with torch.inference_mode():
            for batch in _batches(order, [len(i) for i in ids]):
                padded = self._tokenizer.pad({"input_ids": [ids[n] for n in batch]}, return_tensors="pt")
                found = self._pass(padded.to(self._device))
                for n, vector in zip(batch, found, strict=True):
                    vectors[n] = vector
        return np.stack(vectors) if vectors else np.zeros((0, 0), np.float16)

    def _pass(self, padded: Any) -> Any:
        import torch

        hidden = self._model(**padded).last_hidden_state
        if self._pools_first:
            pooled = hidden[:, 0]
        else:
            mask = padded["attention_mask"].unsqueeze(-1)
            pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        return torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy().astype("float16")


_FIX = "Give a folder with config.json, tokenizer.json and .safetensors weights of a sentence-embedding model."


@lru_cache(maxsize=2)
def load_sentence_model(folder: str) -> SentenceModel:
    """The model of a folder, opened once a process. Raises InputError, MissingExtra."""
    model_files(folder)
    return SentenceModel(Path(folder))


def model_files(folder: str) -> list[Path]:
    """The files that decide what the model says. InputError when the folder is none of a model."""
    path = Path(folder)
    files = sorted(
        p for pattern in ("*.json", "*.txt", "*.safetensors", "1_Pooling/*.json") for p in path.glob(pattern)
    )
    if not (path / "config.json").is_file() or not any(p.suffix == ".safetensors" for p in files):
        raise InputError(f"{folder!r} is no folder of a model", where="collect.semantic.model", fix=_FIX)
    return files


@lru_cache(maxsize=2)
def fingerprint(folder: str) -> str:
    """A hash of everything that decides a vector."""
    parts = [f"{p.name} {hash_file(p)}" for p in model_files(folder)]
    return hashlib.sha256("\n".join([str(MAX_TOKENS), *parts]).encode()).hexdigest()[:16]


def embed_cached(folder: str, texts: Sequence[str], cache: Path) -> NDArray[np.float16]:
    """The vectors of a batch, from the cache's file of this model and these texts where there is one."""
    import numpy as np

    spelled = hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
    path = cache / fingerprint(folder) / f"{spelled}.npy"
    if path.exists():
        vectors: NDArray[np.float16] = np.load(path, allow_pickle=False)
        return vectors
    vectors = load_sentence_model(folder).embed(texts)
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, vectors, allow_pickle=False)

    write_atomically(path, write)
    return vectors


def _pooling(folder: Path) -> str:
    """`mean` or `cls`, as the folder says; mean where it says nothing. InputError for what we do not do."""
    modules, pooling = folder / "modules.json", folder / "1_Pooling" / "config.json"
    if modules.is_file():
        types = [str(m.get("type", "")).rpartition(".")[2] for m in json.loads(modules.read_text(encoding="utf-8"))]
        if others := [t for t in types if t not in ("Transformer", "Pooling", "Normalize")]:
            raise InputError(f"the sentence model has a layer {others[0]}", where=str(modules), fix=_ONLY_POOLING)
    if not pooling.is_file():
        return "mean"
    config = json.loads(pooling.read_text(encoding="utf-8"))
    modes = [key for key, on in config.items() if key.startswith("pooling_mode_") and on is True]
    match modes:
        case ["pooling_mode_mean_tokens"] | []:
            return "mean"
        case ["pooling_mode_cls_token"]:
            return "cls"
    raise InputError(f"the sentence model pools by {', '.join(modes)}", where=str(pooling), fix=_ONLY_POOLING)


_ONLY_POOLING = "Give a model that takes the mean of its tokens, or the first one."


def _batches(order: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """Positions in the order given, in batches of at most `BATCH_TOKENS`; lengths rise along it."""
    batches: list[list[int]] = []
    for n in order:
        if not batches or (len(batches[-1]) + 1) * lengths[n] > BATCH_TOKENS:
            batches.append([])
        batches[-1].append(n)
    return batches
