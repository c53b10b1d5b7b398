"""Engines decode requests. `load_engine` turns a model reference into one; each adapter imports its library lazily."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from s1kit.engines.references import joined, read_reference
from s1kit.errors import InputError
from s1kit.forcing.request import Engine, OnSegment

__all__ = ["SCHEMES", "Engine", "OnSegment", "load_engine"]

SCHEMES = (
    "tiny",
    "tiny-base",
    "hf:<dir or Hub id>",
    "vllm:<dir or Hub id>",
    "llama.cpp:<file.gguf>",
    "completions:<base URL>#<model>",
    "scripted",
)


def load_engine(model: str, **options: Any) -> Engine:
    """The engine for a model reference such as `hf:path`, `llama.cpp:file.gguf` or `tiny`.

    Options may stand in the reference (`hf:path,dtype=bfloat16`) or be given here: `format` (a thinking format or its
    name), `template` (switches of the chat template), `context_tokens`, `max_batch` and those of `OPTIONS`. Raises
    InputError for an unknown scheme or option and MissingExtra when the engine's library is not installed.
    """
    reference = read_reference(model)
    rest, options = reference.target, joined(reference.options, options, model)
    match reference.scheme:
        case "tiny" | "tiny-base" if not rest:
            return _load_hf(str(_packaged(reference.scheme)), options)
        case "hf":
            return _load_hf(rest, options)
        case "scripted":
            from s1kit.engines.scripted import load as load_scripted

            return load_scripted(rest, **options)
        case "vllm":
            from s1kit.engines.vllm.engine import load as load_vllm

            return load_vllm(rest, **options)
        case "llama.cpp":
            from s1kit.engines.llama_cpp.engine import load as load_llama_cpp

            return load_llama_cpp(rest, **options)
        case "completions":
            from s1kit.engines.completions.loading import load as load_completions

            return load_completions(rest, **options)
        case "chat":
            raise InputError(
                "a remote chat model takes no budget: its thinking cannot be ended or continued from outside",
                where=model,
                fix="Use it as a teacher, or serve open weights and give completions:<base URL>#<model>.",
            )
        case _:
            fix = f"{suggested(model)}Known: {', '.join(SCHEMES)}."
            raise InputError(f"no engine knows the model {model!r}", where="model", fix=fix)


def suggested(model: str) -> str:
    """The reference that a path, an address or a Hub id without a scheme is likely meant as, as a sentence; or ""."""
    if model.lower().endswith(".gguf"):
        return f"For a GGUF file, write llama.cpp:{model} or hf:{model}. "
    if model.startswith(("http://", "https://")):
        return f"For a server, write completions:{model}#<model>. "
    if Path(model).is_dir():
        return f"For a folder, write hf:{model}. "
    return f"For a model of the Hub, write hf:{model}. " if model.count("/") == 1 and ":" not in model else ""


def _load_hf(folder: str, options: dict[str, Any]) -> Engine:
    from s1kit.engines.hf.engine import load

    return load(folder, **options)


def _packaged(name: str) -> Path:
    """The folder of a model that ships with the package."""
    folder = Path(str(files("s1kit"))) / "tiny" / ("model" if name == "tiny" else "base")
    if (folder / "config.json").is_file():
        return folder
    fix = (
        "Make one with: s1kit run tiny, and give hf:runs/tiny/train/checkpoint."
        if name == "tiny"
        else "Run runs/tiny_base.sh."
    )
    raise InputError(f"the packaged model {name!r} is not there", where=str(folder), fix=fix)
