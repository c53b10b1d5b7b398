"""Shards on a Ray cluster: a pool of Ray actors that hold an engine each. One is started here where none is named.

Ray restarts an actor that dies and repeats the shard it was at; rows come back to this process, which writes them, so
the machines need share no disk but for models and files that a reference names by path.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from s1kit.errors import InputError, S1kitError, WorkFailed, first_line
from s1kit.executors.protocol import OnProgress, Result, Shard, Work, ignore
from s1kit.executors.ray_cluster import ActorResources, connect

RETRIES = 3
"""Times that a shard is done again after the process at it died."""


class RayExecutor:
    """A pool of actors on `address` (see `connect`). Without a number, as many as the cluster has room for."""

    def __init__(
        self, address: str = "", num_engines: int | None = None, cards_per_engine: float | None = None
    ) -> None:
        self._cluster: ActorResources = connect(address, num_engines, cards_per_engine)
        self.num_workers = self._cluster.num_engines

    def run(
        self, work: Work[Shard, Result], shards: Iterable[Shard], on_progress: OnProgress = ignore
    ) -> Generator[tuple[int, Result], None, None]:
        """See `Executor.run`; progress is told by whole shards. An interrupt ends the actors."""
        import ray
        from ray.exceptions import RayActorError, RayTaskError
        from ray.util.actor_pool import ActorPool

        options = {"num_cpus": 1, "num_gpus": self._cluster.cards_per_engine}
        remote = ray.remote(**options, max_restarts=-1, max_task_retries=RETRIES)(_Actor)
        actors = [remote.remote(work, os.getcwd()) for _ in range(self.num_workers)]
        pool = ActorPool(actors)
        try:
            for position, shard in enumerate(shards):
                if not pool.has_free():
                    yield _take(pool, on_progress)
                pool.submit(lambda actor, given: actor.do.remote(*given), (position, shard))
            while pool.has_next():
                yield _take(pool, on_progress)
        except RayTaskError as error:
            if isinstance(error.cause, S1kitError):
                raise error.cause from None
            raise
        except RayActorError as error:
            raise WorkFailed(
                f"an engine's process died {RETRIES + 1} times at the same rows: {first_line(error)}",
                where="executor = ray",
                fix="What was finished is kept. Look at the memory of the machines, or set a smaller batch.",
            ) from error
        finally:
            for actor in actors:
                ray.kill(actor)


class _Actor:
    """Holds what the work opened. It opens with its first shard, so that a refusal reaches the one who asked."""

    def __init__(self, work: Work[Any, Any], folder: str) -> None:
        self._work, self._folder = work, folder
        self._stack = ExitStack()
        self._do: Callable[[Any, OnProgress], Any] | None = None

    def do(self, position: int, shard: Any) -> tuple[int, Any, int]:
        """Position, result, and rows that progress was told of."""
        if self._do is None:
            if not Path(self._folder).is_dir():
                raise InputError(
                    f"the folder {self._folder} is not on the machine {os.uname().nodename}",
                    where="executor = ray",
                    fix="Start from a folder that all machines of the cluster share.",
                )
            os.chdir(self._folder)  # paths in references are relative to where the command was given
            self._do = self._stack.enter_context(self._work.open())
        told: list[int] = []
        return position, self._do(shard, told.append), sum(told)


def _take(pool: Any, on_progress: OnProgress) -> tuple[int, Any]:
    position, result, told = pool.get_next_unordered()
    on_progress(told)
    return position, result
