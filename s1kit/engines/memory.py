"""Main memory: whether weights fit, asked before they are read, and what keys and values may take of it."""

from __future__ import annotations

import os

from s1kit.errors import InputError


def share_of_memory(parts: int) -> int:
    """A fraction of this machine's main memory: one part in `parts`, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // parts


def check_fits(num_bytes: int, where: str, fix: str) -> None:
    """Raises InputError where weights of that size are more than this machine's main memory."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if num_bytes > there:
        raise InputError(
            f"the weights take {num_bytes / 1e9:,.1f} GB and this machine has {there / 1e9:,.1f} GB of memory",
            where=where,
            fix=fix,
        )
