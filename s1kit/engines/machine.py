"""This machine: its main memory, and its card: whether torch uses it, what is free, and how tensors get there."""

from __future__ import annotations

import gc
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from s1kit.errors import InputError, first_line

if TYPE_CHECKING:
    import torch


def memory_size(root: Path = Path("/")) -> int:
    """Bytes of main memory that this process may use: the machine's, or less in a container or a batch job.

    The limit of a control group is not among what the machine says of itself. `root`: where `/proc` and `/sys` are.
    """
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            folder, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            folder, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        # A group has no more than those that it is in. Inside a container its own path may not be there.
        own = folder / group.lstrip("/")
        for place in (own, *own.parents):
            if place.is_relative_to(folder) and (file := place / name).is_file():
                text = file.read_text(encoding="ascii").strip()
                sizes += [int(text)] if text.isdigit() else []
    return min(sizes)


def check_fits(num_bytes: int, where: str, fix: str) -> None:
    """Raises InputError where weights of that size are more than the main memory."""
    there = memory_size()
    if num_bytes > there:
        raise InputError(
            f"the weights take {num_bytes / 1e9:,.1f} GB and there are {there / 1e9:,.1f} GB of memory",
            where=where,
            fix=fix,
        )


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


def can_compute(device: torch.device | str = "cuda") -> bool:
    """Whether torch can use this machine's card, and a computation there succeeds."""
    import torch

    return torch.cuda.is_available() and not why_unused(device)


def why_unused(device: torch.device | str = "cuda") -> str:
    """What keeps torch from the card of this machine, such as a driver older than torch's build asks for.

    Empty where torch uses it, where there is none, and where CUDA_VISIBLE_DEVICES hides it.
    """
    import torch

    is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1")
    is_there = torch.cuda.is_available()
    if not is_there and (is_hidden or sys.platform != "linux" or not _may_have_card()):
        return ""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        # A build that has no code for this card, or one that another process has for itself, fails here.
        try_out(device)
    except torch.OutOfMemoryError:  # whoever needs memory there says so himself
        return ""
    except (RuntimeError, AssertionError) as error:  # a torch without CUDA asserts
        return first_line(error)
    return "" if is_there else "it finds none"


def try_out(device: torch.device | str) -> None:
    """Compute a number on a device. Raises RuntimeError, or AssertionError where torch has no such devices."""
    import torch

    torch.ones(1, device=device).add_(1).item()


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
