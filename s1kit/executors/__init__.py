"""Where a stage's shards are done: this process, several local ones, or a Ray cluster. The same rows come out.

A stage hands over `Work`: settings that travel, and `open`, which loads an engine once a worker and gives the function
that does one shard. The stage cuts the shards, skips those that are there, and writes the results.
"""

from __future__ import annotations

from typing import Any

from s1kit.errors import InputError, nearest
from s1kit.executors.protocol import Executor, OnProgress, Rows, RowWork, Work, ignore, in_order
from s1kit.recipe import Workers

__all__ = ["Executor", "OnProgress", "RowWork", "Rows", "Work", "executor_of", "ignore", "in_order", "load_executor"]


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
