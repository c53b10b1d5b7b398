"""What every executor offers: one piece of work over many shards, each worker opening once what is expensive."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

Shard = TypeVar("Shard")
Result = TypeVar("Result")
ShardIn = TypeVar("ShardIn", contravariant=True)
ResultOut = TypeVar("ResultOut", covariant=True)

OnProgress = Callable[[int], None]
"""Told how many more rows of a shard are done."""


class Work(Protocol[ShardIn, ResultOut]):
    """What a worker does. It travels to other processes and machines: it holds references and settings, no engine."""

    def open(self) -> AbstractContextManager[Callable[[ShardIn, OnProgress], ResultOut]]:
        """Load what all shards of a worker share, and give the function that does one shard.

        What the function returns must depend on the shard alone, so that any worker may do it, and do it again.
        """
        ...


class Executor(Protocol):
    """Runs work over shards, here or elsewhere."""

    @property
    def num_workers(self) -> int:
        """Shards that are under way at once."""
        ...

    def run(
        self, work: Work[Shard, Result], shards: Iterable[Shard], on_progress: OnProgress = ...
    ) -> Generator[tuple[int, Result], None, None]:
        """Position and result of each shard, as they finish; shards are drawn as workers come free.

        Raises what the work raised, and WorkFailed when workers died.
        """
        ...


def in_order(results: Iterable[tuple[int, Result]]) -> Iterator[Result]:
    """The results in the order of their shards; those that come early are kept until it is their turn."""
    early: dict[int, Result] = {}
    turn = 0
    for position, result in results:
        early[position] = result
        while turn in early:
            yield early.pop(turn)
            turn += 1


Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class RowWork:
    """A function at the top level of a module as work: `function(rows, **settings)` gives rows."""

    function: Callable[..., Rows]
    settings: Mapping[str, Any]

    @contextmanager
    def open(self) -> Iterator[Callable[[Sequence[Mapping[str, Any]], OnProgress], Rows]]:
        """The function with its settings."""
        yield lambda rows, on_progress: self.function(list(rows), **self.settings)


def ignore(_: int) -> None:
    """An `OnProgress` that nobody watches."""
