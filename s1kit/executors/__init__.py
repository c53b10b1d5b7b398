"""Where a per-batch function runs: this process, several local ones, or a Ray cluster. What comes out is the same.

A function takes a batch of plain rows and answers with plain rows; it is importable by name, so that every executor can
send it anywhere.
"""

from __future__ import annotations

from s1kit.errors import InputError, nearest
from s1kit.executors.protocol import BatchFunction, Executor, Rows

__all__ = ["BatchFunction", "Executor", "Rows", "load_executor"]


def load_executor(name: str = "local", processes: int = 1) -> Executor:
    """`local` (one or several processes) or `ray`. Raises InputError for another name, MissingExtra without Ray."""
    match name:
        case "local":
            from s1kit.executors.local import LocalExecutor

            return LocalExecutor(processes)
        case "ray":
            from s1kit.executors.ray_data import RayExecutor

            return RayExecutor(processes)
        case _:
            raise InputError(f"there is no executor {name!r}", where="executor", fix=nearest(name, ["local", "ray"]))
