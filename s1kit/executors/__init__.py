"""Where a per-batch function runs: this process, several local ones, or a Ray cluster. What comes out is the same.

A function takes a batch of plain rows and answers with plain rows; it is importable by name, so that every executor can
send it anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from s1kit.errors import InputError, nearest

Rows = list[dict[str, Any]]
BatchFunction = Callable[..., Rows]
"""`function(rows, **settings)`, at the top level of a module."""


class Executor(Protocol):
    """Runs a function over batches, in order."""

    def map(
        self, function: BatchFunction, batches: Iterable[Sequence[Mapping[str, Any]]], settings: Mapping[str, Any]
    ) -> Iterator[Rows]:
        """One result a batch, in the order of the batches, whatever finishes first."""
        ...


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
