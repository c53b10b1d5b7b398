"""`s1kit doctor`: what is here, and what to install for what is not."""

from __future__ import annotations

import argparse
import os
import platform
from importlib import metadata

from s1kit import __version__

_PACKAGES = {
    "torch": "train",
    "transformers": "train",
    "peft": "train",
    "math-verify": "grade",
    "datasketch": "curate",
    "matplotlib": "report",
    "starlette": "serve",
    "uvicorn": "serve",
    "datasets": "hub",
    "ray": "ray",
    "llama-cpp-python": "llama-cpp",
}
_KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "DEEPSEEK_API_KEY", "OPENROUTER_API_KEY", "HF_TOKEN")


def main(given: argparse.Namespace) -> int:
    print(f"s1kit {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    print(f"cores: {os.cpu_count()}, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}")
    print("\npackages")
    for package, extra in _PACKAGES.items():
        version = _version(package)
        print(f"  {package:<18} {version or f'not installed: pip install s1kit[{extra}]'}")
    from s1kit.engines.doctor import describe_engines

    print("\nengines")
    for name, state in describe_engines():
        print(f"  {name:<18} {state}")
    print("\nkeys (present or not; values are never shown)")
    for key in _KEYS:
        print(f"  {key:<18} {'present' if os.environ.get(key) else 'absent'}")
    return 0


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
