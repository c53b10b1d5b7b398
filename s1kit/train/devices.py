"""Whether this machine has a GPU, without the seconds that importing torch takes where it has none."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

_DEVICES = ("nvidiactl", "nvidia0", "kfd", "dxg")
"""Device files of NVIDIA's and AMD's drivers, and of Windows' for Linux."""


def has_gpu() -> bool:
    """Whether torch is installed and can use a CUDA or ROCm device."""
    if sys.platform == "linux" and not any(Path("/dev", name).exists() for name in _DEVICES):
        return False
    if find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()
