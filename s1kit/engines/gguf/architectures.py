"""The architectures that are written to and read from GGUF files: their settings, both ways, and what is refused.

Keys and tensor layouts are those of llama.cpp's converter and loader; tensor names come from the package `gguf`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from s1kit.engines.gguf.reading import GgufFile
from s1kit.errors import InputError


@dataclass(frozen=True, slots=True)
class Architecture:
    """How one architecture of llama.cpp relates to transformers."""

    name: str
    """`general.architecture`."""
    model_type: str
    """What its files are read as in transformers."""
    also: tuple[str, ...] = ()
    """Further model types that compute the same."""
    activation: str = "silu"
    is_permuted: bool = False
    """Rows of the query and key matrices are stored in the order of interleaved rotary pairs."""
    norm_offset: float = 0.0
    """What files add to the weights of norms."""
    scales_queries: bool = False
    """Queries are scaled by `query_pre_attn_scalar`, which files do not hold: llama.cpp knows it by the shape."""
    is_tied: bool = False


ARCHITECTURES = {
    a.name: a
    for a in (
        Architecture("llama", "llama", also=("mistral",), is_permuted=True),
        Architecture("qwen2", "qwen2"),
        Architecture("qwen3", "qwen3"),
        Architecture("gemma", "gemma", activation="gelu_pytorch_tanh", norm_offset=1.0, is_tied=True),
        Architecture(
            "gemma2", "gemma2", activation="gelu_pytorch_tanh", norm_offset=1.0, scales_queries=True, is_tied=True
        ),
        Architecture("gemma3", "gemma3_text", activation="gelu_pytorch_tanh", norm_offset=1.0, scales_queries=True),
    )
}
MODEL_TYPES = {model_type: a for a in ARCHITECTURES.values() for model_type in (a.model_type, *a.also)}

_NUMBERS = {
    "max_position_embeddings": "context_length",
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
}
_CAPS = {
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
_LAYERS_27B = {"gemma2": 46, "gemma3": 62}
_SLIDING_PATTERN = {"gemma2": 2, "gemma3": 6}
"""Every so many layers, one attends to everything; llama.cpp knows this by the architecture."""
_SLIDING_THETA = 10000.0


def of_config(config: Any, where: str) -> Architecture:
    """The architecture of a transformers config. Raises InputError, naming what cannot be written."""
    found = MODEL_TYPES.get(config.model_type)
    if found is None:
        known = ", ".join(sorted(MODEL_TYPES))
        fix = f"Known: {known}. For others use llama.cpp's own convert_hf_to_gguf.py."
        raise InputError(f"a model of type {config.model_type!r} cannot be written as GGUF", where=where, fix=fix)
    activation = getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", None)
    faults = []
    if activation not in (found.activation, "gelu" if found.norm_offset else found.activation):
        faults.append(f"the activation {activation!r}")
    if found.name not in _SLIDING_PATTERN and _window(config):
        faults.append(f"attention in a window of {_window(config)} tokens")
    if found.name in _SLIDING_PATTERN and list(config.layer_types) != _layer_types(found, config.num_hidden_layers):
        faults.append("layers that attend in another pattern than the family's")
    if found.scales_queries and config.query_pre_attn_scalar != _query_scalar(found, config):
        faults.append(f"query_pre_attn_scalar {config.query_pre_attn_scalar}")
    if getattr(config, "use_bidirectional_attention", None):
        faults.append("bidirectional attention")
    if faults:
        fix = "llama.cpp would run another model. Use the engine hf: or vllm:."
        raise InputError(
            f"GGUF cannot hold this {config.model_type} model: it has {', '.join(faults)}", where=where, fix=fix
        )
    return found


def add_settings(writer: Any, architecture: Architecture, config: Any, where: str) -> None:
    """Write the model's settings. Raises InputError for a scaling of positions that llama.cpp does not know."""
    values = {key: getattr(config, name) for name, key in _NUMBERS.items()}
    writer.add_vocab_size(config.vocab_size)
    for key, value in values.items():
        writer.add_uint32(f"{architecture.name}.{key}", int(value))
    width = head_size(config)
    for key in ("attention.key_length", "attention.value_length", "rope.dimension_count"):
        writer.add_uint32(f"{architecture.name}.{key}", width)
    writer.add_layer_norm_rms_eps(float(config.rms_norm_eps))
    for name, key in _CAPS.items():
        if getattr(config, name, None):
            writer.add_float32(f"{architecture.name}.{key}", float(getattr(config, name)))
    if architecture.name in _SLIDING_PATTERN:
        writer.add_sliding_window(int(config.sliding_window))
    rope = rope_of(config)
    sliding = dict(config.rope_parameters).get("sliding_attention")
    if sliding and (sliding.get("rope_type", "default"), sliding["rope_theta"]) != ("default", _SLIDING_THETA):
        raise InputError(f"sliding layers with the positions {sliding}", where=where, fix="Use the engine hf:.")
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    _add_rope_scaling(writer, architecture, config, rope, where)


def tensor_names(architecture: Architecture, num_layers: int) -> Callable[[str], str | None]:
    """Maps a checkpoint's name of a tensor to the one in the file, None where the architecture has no such tensor."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    kind = next(k for k, name in MODEL_ARCH_NAMES.items() if name == architecture.name)
    names = get_tensor_name_map(kind, num_layers)
    return lambda name: names.get_name(name, (".weight", ".bias"))


def head_size(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def rope_of(config: Any) -> dict[str, Any]:
    """The parameters of rotary positions, of the layers that attend to everything."""
    rope = dict(config.rope_parameters)
    return dict(rope.get("full_attention", rope))


def _add_rope_scaling(writer: Any, architecture: Architecture, config: Any, rope: dict[str, Any], where: str) -> None:
    kind = rope.get("rope_type", "default")
    faults = [] if rope.get("partial_rotary_factor", 1.0) == 1.0 else ["positions on a part of each head"]
    match kind:
        case "default" | "llama3" if kind == "default" or architecture.name == "llama":
            pass  # llama3's is a tensor of factors: see `rope_factors`
        case "linear":
            writer.add_string(f"{architecture.name}.rope.scaling.type", "linear")
            writer.add_rope_scaling_factor(float(rope["factor"]))
        case "yarn":
            own = {"beta_fast": 32, "beta_slow": 1, "truncate": True}
            faults += [f"yarn with {k} = {rope[k]}" for k, v in own.items() if rope.get(k) not in (None, v)]
            faults += [f"yarn with {k}" for k in ("attention_factor", "mscale", "mscale_all_dim") if rope.get(k)]
            original = rope.get("original_max_position_embeddings") or config.max_position_embeddings
            writer.add_string(f"{architecture.name}.rope.scaling.type", "yarn")
            writer.add_rope_scaling_factor(float(rope["factor"]))
            writer.add_rope_scaling_orig_ctx_len(int(original))
        case _:
            faults.append(f"positions scaled by {kind!r}")
    if faults:
        fix = "llama.cpp would run another model. Use the engine hf: or vllm:, or remove the scaling from config.json."
        raise InputError(
            f"GGUF cannot hold this {config.model_type} model: it has {', '.join(faults)}", where=where, fix=fix
        )


def rope_factors(rope: dict[str, Any], width: int) -> list[float] | None:
    """What each rotary frequency is divided by under Llama 3's scaling; None under any other.

    Low frequencies are divided by the factor, high ones not at all, those between by an interpolation.
    """
    if rope.get("rope_type") != "llama3":
        return None
    factor, low, high = (float(rope[k]) for k in ("factor", "low_freq_factor", "high_freq_factor"))
    original, base = float(rope["original_max_position_embeddings"]), float(rope["rope_theta"])
    factors = []
    for i in range(0, width, 2):
        wavelength = 2 * math.pi * base ** (i / width)
        if wavelength < original / high:
            factors.append(1.0)
        elif wavelength > original / low:
            factors.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return factors


def config_of(gguf: GgufFile) -> dict[str, Any]:
    """The fields of a transformers config. Raises InputError for an architecture or setting that is not known."""
    architecture = _architecture_of(gguf)
    config: dict[str, Any] = {name: gguf.value(key) for name, key in _NUMBERS.items()}
    if isinstance(config["num_key_value_heads"], list) or isinstance(config["intermediate_size"], list):
        raise InputError(
            "the layers differ in shape, which is not read here",
            where=str(gguf.path),
            fix="Use the engine llama.cpp:.",
        )
    heads = config["num_attention_heads"]
    config["num_key_value_heads"] = config["num_key_value_heads"] or heads
    width = gguf.value("attention.key_length") or gguf.value("rope.dimension_count") or config["hidden_size"] // heads
    rope = _rope_parameters(gguf, width)
    config |= {
        "model_type": architecture.model_type,
        "head_dim": width,
        "hidden_act": architecture.activation,
        "rms_norm_eps": round(gguf.value("attention.layer_norm_rms_epsilon", 1e-6), 10),
        "vocab_size": gguf.tensors["token_embd.weight"].shape[0],
        "tie_word_embeddings": "output.weight" not in gguf.tensors,
        "rope_parameters": rope,
    }
    match architecture.name:
        case "llama":
            config["attention_bias"] = "blk.0.attn_q.bias" in gguf.tensors
            config["mlp_bias"] = "blk.0.ffn_up.bias" in gguf.tensors
        case "qwen3":
            config["attention_bias"] = "blk.0.attn_q.bias" in gguf.tensors
        case "gemma3":
            sliding = {"rope_type": "default", "rope_theta": _SLIDING_THETA}
            config["rope_parameters"] = {"sliding_attention": sliding, "full_attention": rope}
    if architecture.norm_offset:
        config["hidden_activation"] = architecture.activation
    if architecture.name in _SLIDING_PATTERN:
        config["sliding_window"] = gguf.value("attention.sliding_window", 4096)
        config["layer_types"] = _layer_types(architecture, config["num_hidden_layers"])
        config |= {name: gguf.value(key) for name, key in _CAPS.items()}
    if architecture.scales_queries:
        is_27b = config["num_hidden_layers"] == _LAYERS_27B[architecture.name]
        config["query_pre_attn_scalar"] = config["hidden_size"] // heads if is_27b else width
    return config


def _architecture_of(gguf: GgufFile) -> Architecture:
    """The architecture of a file. Raises InputError for one that is not read here and for a part of a model."""
    where = str(gguf.path)
    architecture = ARCHITECTURES.get(gguf.architecture)
    if architecture is None:
        known = ", ".join(ARCHITECTURES)
        fix = f"Known: {known}. The engine llama.cpp: runs every architecture that its llama.cpp knows."
        raise InputError(
            f"the file is of architecture {gguf.architecture!r}, which is not read here", where=where, fix=fix
        )
    missing = [key for key in _NUMBERS.values() if key != "attention.head_count_kv" and not gguf.value(key)]
    if missing or "token_embd.weight" not in gguf.tensors:
        what = f"no {gguf.architecture}.{missing[0]}" if missing else "no token_embd.weight"
        raise InputError(f"the file has {what}", where=where, fix="Take a file that holds a whole model, not a part.")
    if gguf.value("expert_count"):
        raise InputError(
            "the model is a mixture of experts, which is not read here", where=where, fix="Use the engine llama.cpp:."
        )
    return architecture


def _rope_parameters(gguf: GgufFile, width: int) -> dict[str, Any]:
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": float(gguf.value("rope.freq_base", 10000.0))}
    kind = gguf.value("rope.scaling.type", "none")
    fix = "Use the engine llama.cpp:."
    if gguf.value("rope.dimension_count", width) != width:
        raise InputError(
            "rotary positions cover a part of each head, which is not read here", where=str(gguf.path), fix=fix
        )
    if kind in ("linear", "yarn"):
        rope |= {"rope_type": kind, "factor": float(gguf.value("rope.scaling.factor", 1.0))}
        if kind == "yarn":
            rope["original_max_position_embeddings"] = gguf.value("rope.scaling.original_context_length")
    elif kind != "none":
        raise InputError(
            f"rotary positions are scaled by {kind!r}, which is not read here", where=str(gguf.path), fix=fix
        )
    if "rope_freqs.weight" not in gguf.tensors:
        return rope
    # The file holds the divisors that come of Llama 3's settings, not the settings.
    held = gguf.array("rope_freqs.weight").tolist()
    for factor in (8.0, 32.0, 4.0, 16.0, 2.0, 64.0):
        named = {"factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
        tried = rope | named | {"rope_type": "llama3", "original_max_position_embeddings": 8192}
        expected = rope_factors(tried, width) or []
        if len(expected) == len(held) and all(abs(a - b) <= 1e-3 * b for a, b in zip(expected, held, strict=True)):
            return tried
    raise InputError(
        "the rotary frequencies (rope_freqs.weight) are of no known scaling", where=str(gguf.path), fix=fix
    )


def _window(config: Any) -> int | None:
    """The attention window where one is used and is shorter than the context."""
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    return int(window) if window and window < config.max_position_embeddings else None


def _layer_types(architecture: Architecture, num: int) -> list[str]:
    every = _SLIDING_PATTERN[architecture.name]
    return ["full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(num)]


def _query_scalar(architecture: Architecture, config: Any) -> int:
    is_27b = config.num_hidden_layers == _LAYERS_27B[architecture.name]
    return int(config.hidden_size // config.num_attention_heads if is_27b else head_size(config))
