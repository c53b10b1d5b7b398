"""Where a stage's shards are done: this process, several local ones, or a Ray cluster. The same rows come out.

A stage hands over `Work`: settings that travel, and `open`, which loads an engine once a worker and gives the function
that does one shard. The stage cuts the shards, skips those that are there, and writes the results.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from s1kit.errors import InputError, nearest
from s1kit.recipe import Workers

__all__ = ["Executor", "OnProgress", "RowWork", "Rows", "Work", "executor_of", "ignore", "in_order", "load_executor"]

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


def executor_of(config: Workers) -> Executor:
    """Where a stage with these settings does its shards. Raises what `load_executor` raises."""
    return load_executor(
        config.executor, config.num_engines, address=config.address, cards_per_engine=config.cards_per_engine
    )


def load_executor(
    name: str = "local", num: int | None = None, *, address: str = "", cards_per_engine: float | None = None
) -> Executor:
    """`local`, in `num` processes (None: one), or `ray`, in `num` actors (None: as many as there is room for).

    Raises InputError for another name, for a cluster that is not there or too small, MissingExtra without Ray.
    """
    if name not in ("local", "ray"):
        raise InputError(f"there is no executor {name!r}", where="executor", fix=nearest(name, ["local", "ray"]))
    if name == "local":
        stated: dict[str, Any] = {"address": address, "cards_per_engine": cards_per_engine}
        for field, value in stated.items():
            if value:
                raise InputError(f"{field} is {value!r} without Ray", where=field, fix="Add executor = ray.")
        from s1kit.executors.local import LocalExecutor

        return LocalExecutor(num or 1)
    from s1kit.executors.ray_actors import RayExecutor

    return RayExecutor(address, num, cards_per_engine)
