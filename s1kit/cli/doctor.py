"""`s1kit doctor`: which parts and engines are installed, and the command that installs the others."""

from __future__ import annotations

import argparse
import os
import platform
from importlib import metadata

from s1kit import __version__

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


def main(given: argparse.Namespace) -> int:
    print(f"s1kit {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    print(f"cores: {os.cpu_count()}, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}")
    print("\npackages")
    for package, extra in _PACKAGES.items():
        version = _version(package)
        missing = f"not installed: pip install 's1kit[{extra}]'"
        print(f"  {package:<18} {version or missing}")
    from s1kit.engines.doctor import describe_engines
    from s1kit.providers.catalog import KEY_VARIABLES
    from s1kit.providers.keys import keys_present

    print("\nengines")
    for name, state in describe_engines():
        print(f"  {name:<18} {state}")
    print("\nkeys (present or not; values are never shown)")
    present = keys_present()
    for provider, names in KEY_VARIABLES.items():
        named = " or ".join(names) or "it logs in with its cloud's own tools"
        state = f"present ({present[provider]})" if provider in present else f"absent ({named})"
        print(f"  {provider:<18} {state}")
    print(f"  {'Hugging Face':<18} {'present' if os.environ.get('HF_TOKEN') else 'absent'} (HF_TOKEN)")
    return 0


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
