"""The card of this machine: whether torch uses it, and tensors on their way to it."""

from __future__ import annotations

import gc
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from s1kit.errors import first_line

if TYPE_CHECKING:
    import torch

_DEVICES = ("nvidiactl", "nvidia0", "kfd", "dxg")
"""Device files of NVIDIA's and AMD's drivers, and of Windows' for Linux."""


def has_gpu() -> bool:
    """Whether torch is installed and can use a CUDA or ROCm device.

    Without a driver's device file torch is not imported, which takes seconds.
    """
    if not _may_have_card() or find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def why_unused() -> str:
    """What keeps torch from the card of this machine, such as a driver older than torch's build asks for.

    Empty where torch uses it, where there is none, and where CUDA_VISIBLE_DEVICES hides it.
    """
    import torch

    is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1")
    if is_hidden or sys.platform != "linux" or not _may_have_card() or torch.cuda.is_available():
        return ""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:  # a torch without CUDA asserts
        return first_line(error)
    return "it finds none"


def free_bytes(device: torch.device | str | None = None) -> int:
    """Bytes of a card's memory that can be had, with what earlier models of this process have left to its allocator."""
    import torch

    gc.collect()  # models go round in circles
    torch.cuda.empty_cache()
    return int(torch.cuda.mem_get_info(device)[0])


def sent_to(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on a device; for a card through pinned memory, so that the host waits for nothing that runs there."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _may_have_card() -> bool:
    return sys.platform != "linux" or any(Path("/dev", name).exists() for name in _DEVICES)
