"""A GGUF file as a checkpoint folder, dequantised once and kept: what `hf:`, `vllm:` and `train.base` make of one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s1kit.engines.gguf.architectures import ARCHITECTURES, config_of, tensor_names
from s1kit.engines.gguf.exporting import FILE_KEY, from_pairs, permuted_heads
from s1kit.engines.gguf.reading import GgufFile, read_gguf
from s1kit.engines.gguf.vocabulary import write_tokenizer_files
from s1kit.errors import InputError, MissingExtra
from s1kit.forcing.tokenizer import find_folder
from s1kit.progress import say

if TYPE_CHECKING:
    import torch

_SHARD_BYTES = 4 * 2**30
_LAYOUT = 2
"""Raised when the same file gives another folder, so that folders of before are not taken."""
_FLOAT32, _BFLOAT16 = 0, 30
"""ggml's numbers of data types."""


def is_gguf(reference: str) -> bool:
    """Whether a model reference (without its scheme) means a GGUF file."""
    return reference.lower().endswith(".gguf")


def unpacked(reference: str) -> Path:
    """The checkpoint folder of a GGUF file; made at the first use, in the cache folder.

    The folder is found again by the file's path, size and time of change. Raises InputError for a file that cannot be
    read as a checkpoint, MissingExtra without the packages that it takes.
    """
    path = Path(reference).expanduser().absolute()
    gguf = read_gguf(path)
    folder = _folder_of(path)
    if (folder / "config.json").is_file():
        return folder
    config = config_of(gguf)
    _check_space(gguf, folder.parent)

    def fill(part: Path) -> None:
        say(f"{path.name}: is dequantised, once, to {folder}")
        write_tokenizer(gguf, part)
        _write_model(gguf, config, part)

    return _made(folder, fill)


def tokenizer_folder(name: str) -> Path:
    """The folder of a tokenizer: a local one, the files of a Hub id, or a GGUF file's, without its weights.

    Raises InputError where there is none.
    """
    path = Path(name).expanduser().absolute()
    if not is_gguf(name) or not path.is_file():
        return find_folder(name)
    gguf = read_gguf(path)
    folder = _folder_of(path)
    if (folder / "config.json").is_file():
        return folder
    own = folder.with_name(f"{folder.name}-tokenizer")
    return own if own.is_dir() else _made(own, lambda part: write_tokenizer(gguf, part))


def _folder_of(path: Path) -> Path:
    state = path.stat()
    mark = hashlib.sha256(f"{path} {state.st_size} {state.st_mtime_ns} {_LAYOUT}".encode()).hexdigest()[:12]
    return cache_folder() / f"{path.stem}-{mark}"


def _made(folder: Path, fill: Callable[[Path], None]) -> Path:
    """The folder, filled as a whole or not there."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    part.mkdir(parents=True, exist_ok=True)
    try:
        fill(part)
        if not folder.exists():  # another process may have been faster
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def cache_folder() -> Path:
    """Where unpacked files are kept: `S1KIT_CACHE`, else `s1kit` in the user's cache folder."""
    given = os.environ.get("S1KIT_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return (Path(given) if given else Path(base) / "s1kit").expanduser() / "gguf"


def write_tokenizer(gguf: GgufFile, folder: Path) -> None:
    """Write the tokenizer's files, and the thinking format of a file that `s1kit export` wrote."""
    own = {k.removeprefix(FILE_KEY): v for k, v in gguf.metadata.items() if k.startswith(FILE_KEY)}
    if "tokenizer.json" not in own:
        write_tokenizer_files(gguf, folder)
    for name, text in own.items():
        (folder / Path(name).name).write_text(text, encoding="utf-8")


def _check_space(gguf: GgufFile, folder: Path) -> None:
    needed = sum(_size(info.shape) * (4 if _keeps_float32(gguf) else 2) for info in gguf.tensors.values())
    there = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise InputError(
            f"the dequantised model takes {needed / 1e9:,.1f} GB and {there} has {free / 1e9:,.1f} GB free",
            where=str(gguf.path),
            fix="Set S1KIT_CACHE to a folder with more room, or use the engine llama.cpp:, which reads the file as is.",
        )


def _keeps_float32(gguf: GgufFile) -> bool:
    return all(info.kind == _FLOAT32 for info in gguf.tensors.values())


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _write_model(gguf: GgufFile, config: dict[str, Any], folder: Path) -> None:
    """Write the weights and config.json into `folder`, which holds the tokenizer's files already."""
    try:
        import gguf as _  # noqa: F401 (`tensor_names` needs it)
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM
    except ImportError as error:
        raise MissingExtra("reading a GGUF file as a checkpoint", error.name or "gguf", extra="gguf,torch") from error
    settings = AutoConfig.for_model(**config)
    kinds = {info.kind for info in gguf.tensors.values() if len(info.shape) > 1}
    dtype = torch.float32 if _keeps_float32(gguf) else torch.bfloat16 if kinds == {_BFLOAT16} else torch.float16
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(settings, dtype=dtype)
    _write_weights(gguf, settings, _places(gguf, settings, model.state_dict()), dtype, folder)
    generation = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    for name in ("eos_token_id", "bos_token_id", "pad_token_id"):
        setattr(settings, name, generation.get(name))
    settings.architectures = [type(model).__name__]
    settings.dtype = dtype
    settings.save_pretrained(folder)


def _places(gguf: GgufFile, settings: Any, names: Iterable[str]) -> dict[str, str]:
    """The name in the file of each tensor of a checkpoint. Raises InputError where the file has others."""
    place_of = tensor_names(ARCHITECTURES[gguf.architecture], settings.num_hidden_layers)
    places = {name: place_of(name) or "output.weight" for name in names}
    if settings.tie_word_embeddings:
        places.pop("lm_head.weight", None)
    missing = [place for place in places.values() if place not in gguf.tensors]
    strange = set(gguf.tensors) - set(places.values()) - {"rope_freqs.weight"}
    if missing or strange:
        what = f"no tensor {missing[0]!r}" if missing else f"a tensor {min(strange)!r}, which the architecture lacks"
        fix = "Take a file of the whole model (merge parts with llama-gguf-split), or use the engine llama.cpp:."
        raise InputError(f"the file has {what}", where=str(gguf.path), fix=fix)
    return places


def _write_weights(gguf: GgufFile, settings: Any, places: Mapping[str, str], dtype: torch.dtype, folder: Path) -> None:
    """Write the tensors in shards, of which one at a time is in memory."""
    import torch
    from safetensors.torch import save_file

    architecture = ARCHITECTURES[gguf.architecture]
    shard: dict[str, Any] = {}
    held = 0
    index: dict[str, int] = {}
    num_shards = 1

    def save() -> None:
        save_file(shard, folder / f"part-{num_shards}.safetensors", metadata={"format": "pt"})

    for name, place in places.items():
        tensor = torch.from_numpy(gguf.array(place))
        if architecture.norm_offset and place.endswith("norm.weight"):
            tensor = tensor - architecture.norm_offset
        if architecture.is_permuted and (heads := permuted_heads(place, settings)):
            tensor = from_pairs(tensor, heads)
        tensor = tensor.to(dtype).contiguous()
        if held and held + tensor.nbytes > _SHARD_BYTES:
            save()
            shard.clear()
            num_shards, held = num_shards + 1, 0
        shard[name] = tensor
        index[name] = num_shards
        held += tensor.nbytes
    save()
    _name_shards(folder, index, num_shards)


def _name_shards(folder: Path, index: dict[str, int], num: int) -> None:
    names = {i: "model.safetensors" if num == 1 else f"model-{i:05}-of-{num:05}.safetensors" for i in range(1, num + 1)}
    for i, name in names.items():
        (folder / f"part-{i}.safetensors").rename(folder / name)
    if num > 1:
        text = json.dumps({"metadata": {}, "weight_map": {name: names[i] for name, i in index.items()}})
        (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
