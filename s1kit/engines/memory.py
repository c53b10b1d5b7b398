"""Main memory: how much this process may use, whether weights fit, what keys and values may take of it."""

from __future__ import annotations

import os
from pathlib import Path

from s1kit.errors import InputError


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
