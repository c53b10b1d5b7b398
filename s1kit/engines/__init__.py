"""Something that decodes. `load_engine` turns a model reference into one; each adapter imports its library lazily."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

from s1kit.errors import InputError
from s1kit.records import Generation, Segment
from s1kit.request import Request

OnSegment = Callable[[int, Segment], None]
"""Called with the request's position in the iterable and the next run of tokens, as soon as they are there."""

SCHEMES = (
    "tiny",
    "tiny-base",
    "hf:<dir or Hub id>",
    "vllm:<dir or Hub id>",
    "llama.cpp:<file.gguf>",
    "completions:<base URL>#<model>",
    "scripted",
)


class Engine(Protocol):
    """Decodes requests, each under its own budget."""

    def generate(self, requests: Iterable[Request], on_segment: OnSegment | None = None) -> Iterator[Generation]:
        """Yields one generation a request, as they finish. Raises InputError on a request it cannot honour exactly."""
        ...


def load_engine(model: str, **options: Any) -> Engine:
    """The engine for a model reference such as `hf:path`, `llama.cpp:file.gguf` or `tiny`.

    Options go to the adapter: `format` (a thinking format or its name), `max_batch`, `device`, `dtype`,
    `context_tokens` where they apply. Raises InputError for an unknown scheme and MissingExtra when the engine's
    library is not installed.
    """
    scheme, _, rest = model.partition(":")
    match scheme:
        case "tiny" | "tiny-base" if not rest:
            return _load_hf(str(_packaged(scheme)), options)
        case "hf":
            return _load_hf(rest, options)
        case "scripted":
            from s1kit.engines.scripted import load as load_scripted

            return load_scripted(rest, **options)
        case "vllm":
            from s1kit.engines.vllm import load as load_vllm

            return load_vllm(rest, **options)
        case "llama.cpp":
            from s1kit.engines.llama_cpp import load as load_llama_cpp

            return load_llama_cpp(rest, **options)
        case "completions":
            from s1kit.engines.completions import load as load_completions

            return load_completions(rest, **options)
        case "chat":
            raise InputError(
                "a remote chat model cannot be forced: its thinking is out of reach",
                where=model,
                fix="Use it as a teacher, or serve open weights and give completions:<base URL>#<model>.",
            )
        case _:
            known = f"Known: {', '.join(SCHEMES)}."
            fix = f"For a folder, write hf:{model}. {known}" if Path(model).is_dir() else known
            raise InputError(f"no engine knows the model {model!r}", where="model", fix=fix)


def _load_hf(folder: str, options: dict[str, Any]) -> Engine:
    from s1kit.engines.transformers import load

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
