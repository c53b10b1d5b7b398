"""Writes the GGUF file of a checkpoint folder, for the engine `llama.cpp:` and for every program on llama.cpp.

The files of the tokenizer and the thinking format travel inside, under `s1kit.file.*`, so that our engine tokenises
exactly as in training.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s1kit.engines.gguf.architectures import (
    Architecture,
    add_settings,
    head_size,
    of_config,
    rope_factors,
    rope_of,
    tensor_names,
)
from s1kit.engines.gguf.vocabulary import add_special_tokens, add_vocabulary
from s1kit.errors import InputError, MissingExtra
from s1kit.files import write_atomically
from s1kit.forcing.formats import FORMAT_FILE
from s1kit.forcing.tokenizer import FileTokenizer

if TYPE_CHECKING:
    import torch

FILE_KEY = "s1kit.file."
"""What the keys of the files inside begin with; the file's name follows."""
FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json", FORMAT_FILE)


def export_gguf(folder: Path, file: Path) -> None:
    """Write the checkpoint in `folder` to `file`: float32 where it was, else float16 (norms and biases float32).

    Raises InputError for a model that llama.cpp would run differently, MissingExtra when gguf is not installed.
    """
    config = _read_config(folder)
    architecture = of_config(config, str(folder / "config.json"))
    if not (folder / "tokenizer.json").is_file():
        fix = "Copy tokenizer.json and tokenizer_config.json of its base model there."
        raise InputError("the checkpoint has no tokenizer", where=str(folder), fix=fix)
    tokenizer = FileTokenizer(folder)
    try:
        from gguf import GGUFWriter, LlamaFileType
    except ImportError as error:
        raise MissingExtra("writing GGUF", "gguf", extra="gguf") from error

    def write(path: Path) -> None:
        writer = GGUFWriter(str(path), architecture.name)
        writer.add_name(folder.resolve().name)
        add_settings(writer, architecture, config, str(folder / "config.json"))
        add_vocabulary(writer, config.vocab_size, folder)
        add_special_tokens(writer, tokenizer)
        for name in FILES:
            if (folder / name).is_file():
                writer.add_string(FILE_KEY + name, (folder / name).read_text(encoding="utf-8"))
        is_float32 = True
        for name, array in _tensors(folder, architecture, config):
            is_float32 = is_float32 and array.dtype.itemsize == 4
            writer.add_tensor(name, array)
        writer.add_file_type(LlamaFileType.ALL_F32 if is_float32 else LlamaFileType.MOSTLY_F16)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    write_atomically(file, write)


def _read_config(folder: Path) -> Any:
    try:
        from transformers import AutoConfig
    except ImportError as error:
        raise MissingExtra("writing GGUF", "transformers", extra="torch") from error
    if not (folder / "config.json").is_file():
        fix = "Give the folder of a checkpoint."
        raise InputError("the folder holds no config.json", where=str(folder), fix=fix)
    try:
        return AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        fix = "Repair config.json, or install a newer transformers."
        raise InputError(f"cannot read the model's settings: {error}", where=str(folder), fix=fix) from error


def _tensors(folder: Path, architecture: Architecture, config: Any) -> Iterator[tuple[str, Any]]:
    """Names as llama.cpp has them, and arrays as it lays them out."""
    import torch
    from safetensors import safe_open

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InputError("no *.safetensors in the folder", where=str(folder), fix="Save the checkpoint as safetensors.")
    place_of = tensor_names(architecture, config.num_hidden_layers)
    if (factors := rope_factors(rope_of(config), head_size(config))) is not None:
        yield "rope_freqs.weight", torch.tensor(factors, dtype=torch.float32).numpy()
    for file in files:
        with safe_open(str(file), framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (safe_open is no mapping)
                if name == "lm_head.weight" and (config.tie_word_embeddings or architecture.is_tied):
                    continue
                place = place_of(name.removeprefix("language_model."))
                if place is None:
                    fix = "Only plain checkpoints can be written; merge adapters first."
                    raise InputError(f"GGUF has no place for tensor {name!r}", where=str(file), fix=fix)
                yield place, _array(tensors.get_tensor(name), place, architecture, config)


def _array(tensor: torch.Tensor, place: str, architecture: Architecture, config: Any) -> Any:
    """A tensor as llama.cpp lays it out: float32 where it was or has one dimension, else float16."""
    import torch

    if architecture.norm_offset and place.endswith("norm.weight"):
        tensor = tensor.float() + architecture.norm_offset
    if architecture.is_permuted and (heads := permuted_heads(place, config)):
        tensor = to_pairs(tensor, heads)
    is_small = tensor.dim() == 1 or tensor.dtype == torch.float32
    return tensor.to(torch.float32 if is_small else torch.float16).contiguous().numpy()


def permuted_heads(name: str, config: Any) -> int:
    """The heads of a query or key matrix (or bias), by its name in the file; 0 for any other tensor."""
    if ".attn_q." in name:
        return int(config.num_attention_heads)
    return int(config.num_key_value_heads) if ".attn_k." in name else 0


def to_pairs(tensor: Any, heads: int) -> Any:
    """Rows from transformers' order (first halves, then second halves) to neighbours that rotate together."""
    shape = tensor.shape
    return tensor.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).transpose(1, 2).reshape(shape)


def from_pairs(tensor: Any, heads: int) -> Any:
    """The inverse of `to_pairs`."""
    shape = tensor.shape
    return tensor.reshape(heads, shape[0] // heads // 2, 2, *shape[1:]).transpose(1, 2).reshape(shape)
