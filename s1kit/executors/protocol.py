"""What every executor offers: the same function over batches of plain rows, results in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

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
