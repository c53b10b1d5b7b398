"""Writes the GGUF file of a Qwen2 checkpoint, for the engine `llama.cpp:` and for llama.cpp itself.

The files of the tokenizer and the thinking format travel inside, under `s1kit.file.*`, so that our engine tokenises
exactly as in training. llama.cpp's own text tokenisation is Qwen2's: right for Qwen2.5 and what is fine-tuned from it,
not for a model with a tokenizer of another kind, such as `tiny`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from s1kit.errors import InputError, MissingExtra
from s1kit.forcing.formats import FORMAT_FILE
from s1kit.forcing.tokenizer import FileTokenizer
from s1kit.stage import write_atomically

FILE_KEY = "s1kit.file."
"""What the keys of the files inside begin with; the file's name follows."""
FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json", FORMAT_FILE)

_LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_TOP_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def export_gguf(folder: Path, file: Path) -> None:
    """Write the checkpoint in `folder` to `file`: float32 where it was, else float16 (norms and biases float32).

    Raises InputError when the folder holds no Qwen2 checkpoint, MissingExtra when gguf is not installed.
    """
    try:
        from gguf import GGUFWriter
    except ImportError as error:
        raise MissingExtra("writing GGUF", "gguf", extra="llama-cpp") from error
    config = _read_config(folder)
    if not (folder / "tokenizer.json").is_file():
        fix = "Copy tokenizer.json and tokenizer_config.json of its base model there."
        raise InputError("the checkpoint has no tokenizer", where=str(folder), fix=fix)
    tokenizer = FileTokenizer(folder)

    def write(path: Path) -> None:
        writer = GGUFWriter(str(path), "qwen2")
        _write_shape(writer, config, folder)
        _write_tokenizer(writer, config, tokenizer, folder)
        for name, tensor in _tensors(folder, config):
            writer.add_tensor(name, tensor)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    write_atomically(file, write)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    fix = "Give the folder of a Qwen2 checkpoint (Qwen2, Qwen2.5, or one fine-tuned from them)."
    if not path.is_file():
        raise InputError("the folder holds no config.json", where=str(folder), fix=fix)
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if config.get("model_type") != "qwen2" or config.get("use_sliding_window"):
        raise InputError(f"a model of type {config.get('model_type')!r}", where=str(path), fix=fix)
    return config


def _write_shape(writer: Any, config: dict[str, Any], folder: Path) -> None:
    rope = config.get("rope_parameters") or config
    writer.add_name(folder.name)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))


def _write_tokenizer(writer: Any, config: dict[str, Any], tokenizer: FileTokenizer, folder: Path) -> None:
    raw = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    if raw.get("model", {}).get("type") != "BPE":
        fix = "Use the engine hf: for this model."
        raise InputError("the tokenizer is no byte-level BPE", where=str(folder / "tokenizer.json"), fix=fix)
    names = {i: text for text, i in raw["model"]["vocab"].items()}
    added = {t["id"]: t for t in raw["added_tokens"]}
    texts, kinds = [], []
    for i in range(config["vocab_size"]):
        # llama.cpp's kinds: 1 normal, 3 control, 4 user-defined, 5 unused.
        texts.append(added[i]["content"] if i in added else names.get(i, f"[PAD{i}]"))
        kinds.append((3 if added[i]["special"] else 4) if i in added else (1 if i in names else 5))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(texts)
    writer.add_token_types(kinds)
    merges = [m if isinstance(m, str) else " ".join(m) for m in raw["model"]["merges"]]
    writer.add_token_merges(merges or ["Ġ Ġ"])
    if tokenizer.eos_token_id is not None:
        writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_add_bos_token(False)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)
    for name in FILES:
        if (folder / name).is_file():
            writer.add_string(FILE_KEY + name, (folder / name).read_text(encoding="utf-8"))


def _tensors(folder: Path, config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names as llama.cpp has them, and arrays."""
    import torch
    from safetensors import safe_open

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InputError("no *.safetensors in the folder", where=str(folder), fix="Save the checkpoint as safetensors.")
    for file in files:
        with safe_open(str(file), framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (safe_open is no mapping)
                if name == "lm_head.weight" and config.get("tie_word_embeddings"):
                    continue
                tensor = tensors.get_tensor(name)
                is_small = tensor.dim() == 1 or tensor.dtype == torch.float32
                kind = torch.float32 if is_small else torch.float16
                yield _gguf_name(name), tensor.to(kind).numpy()


def _gguf_name(name: str) -> str:
    if name in _TOP_NAMES:
        return _TOP_NAMES[name]
    parts = name.split(".")
    middle, last = ".".join(parts[3:-1]), parts[-1]
    if parts[:2] != ["model", "layers"] or middle not in _LAYER_NAMES:
        fix = "Only plain Qwen2 checkpoints can be written; merge adapters first."
        raise InputError(f"a tensor named {name!r}", where="checkpoint", fix=fix)
    return f"blk.{parts[2]}.{_LAYER_NAMES[middle]}.{last}"
