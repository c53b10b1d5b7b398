"""Shards on a Ray cluster: joining one that has room, and a pool of Ray actors that hold an engine each.

A cluster is started here where none is named. Ray restarts an actor that dies and repeats the shard it was at; rows
come back to this process, which writes them, so the machines need share no disk but for models and files that a
reference names by path.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from s1kit.errors import InputError, MissingExtra, S1kitError, WorkFailed, first_line
from s1kit.executors import OnProgress, Result, Shard, Work, ignore

CONNECT_SECONDS = 1.0
"""For the head to take a connection: one that is not there is told at once, not after Ray's own patience."""

OBJECT_STORE_BYTES = 256 << 20
"""Object store of a cluster that is started here. Results are written as they come, so it holds a few shards."""


RETRIES = 3
"""Times that a shard is done again after the process at it died."""


@dataclass(frozen=True)
class ActorResources:
    """What a run takes of a cluster."""

    num_engines: int
    cards_per_engine: float
    """Cards (GPUs) of one engine; 0 where the cluster has none."""


def connect(address: str, num_engines: int | None, cards_per_engine: float | None) -> ActorResources:
    """Join the cluster at `address`, and take room for the engines.

    `address` is `host:port` of the head, `ray://host:port` of its client server, `auto` for the one that this machine
    is part of; empty: RAY_ADDRESS, and without that a new one on this machine. Raises InputError for a cluster that is
    not there or too small, MissingExtra without Ray.
    """
    if find_spec("ray") is None:
        raise MissingExtra("executor = ray", "ray", extra="ray")
    address = address or os.environ.get("RAY_ADDRESS", "")
    _knock(address)  # before Ray is imported, which takes seconds
    # Ray reports how it is used to its makers unless told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized() and _is_another(address, num_engines):
        ray.shutdown()
    if not ray.is_initialized():
        try:
            ray.init(**_options(address, num_engines))
        except Exception as error:
            line = first_line(error)
            if address in ("", "local"):
                fix = "Run the same command again, on a machine that is less busy; what is done is kept."
                raise WorkFailed(
                    f"Ray did not start on this machine: {line}", where="executor = ray", fix=fix
                ) from error
            raise _absent(address, line) from error
        _joined[:] = [address or "local"]
    return room([node for node in ray.nodes() if node["Alive"]], num_engines, cards_per_engine)


def _is_another(address: str, num_engines: int | None) -> bool:
    """Whether the cluster that an earlier stage joined, or started with fewer engines, is not the one asked for."""
    import ray

    if address not in ("", "local"):
        return _joined != [address]
    return _joined == ["local"] and ray.cluster_resources().get("CPU", 0) < (num_engines or 1)


_joined: list[str] = []
"""The address of the cluster that `connect` joined."""


def room(nodes: list[dict[str, Any]], num_engines: int | None, cards_per_engine: float | None) -> ActorResources:
    """The engines that fit on nodes as `ray.nodes` lists them. Raises InputError where those asked for do not.

    An engine lies on one node: its cards are of one machine.
    """
    has = [node["Resources"] for node in nodes]
    cards, processors = sum(r.get("GPU", 0.0) for r in has), sum(r.get("CPU", 0.0) for r in has)
    asked = 1.0 if cards_per_engine is None and cards else cards_per_engine or 0.0
    if asked > 1 and asked != int(asked):
        raise InputError(
            f"cards_per_engine is {asked:g}, neither a share of a card nor a whole number",
            where="cards_per_engine",
            fix="Give a share up to 1, or a whole number.",
        )
    most = sum(_fitting(r, asked) for r in has)
    wanted = num_engines if num_engines is not None else max(1, most)
    if wanted > most:
        each = f" of {asked:g} {'card' if asked == 1 else 'cards'}" if asked else " of one processor"
        raise InputError(
            f"{wanted} {'engine' if wanted == 1 else 'engines'}{each} each {'does' if wanted == 1 else 'do'} not fit: "
            f"the cluster has {cards:g} cards and {processors:g} processors on {len(has)} "
            f"{'machine' if len(has) == 1 else 'machines'}, room for {most}",
            where="num_engines, cards_per_engine",
            fix=f"Ask for {most} or fewer, or for fewer cards each." if most else "Ask for fewer cards each.",
        )
    return ActorResources(wanted, asked)


def _fitting(resources: dict[str, float], cards: float) -> int:
    processors = int(resources.get("CPU", 0.0))
    if not cards:
        return processors
    has = resources.get("GPU", 0.0)
    # Ray does not spread an engine over cards of which each has a part free.
    return min(processors, int(has // cards) if cards >= 1 else int(has) * int(1 / cards))


def _options(address: str, num_engines: int | None) -> dict[str, Any]:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address not in ("", "local"):
        return {"address": address, **quiet}
    return {
        "address": "local",
        "num_cpus": max(os.cpu_count() or 1, num_engines or 1),
        "object_store_memory": OBJECT_STORE_BYTES,
        "include_dashboard": False,
        **quiet,
    }


def _knock(address: str) -> None:
    """Raises InputError where nobody listens at a stated host and port."""
    if not address or address in ("auto", "local"):
        return
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port or (10001 if parts.scheme == "ray" else 6379)
    except ValueError:
        host = None
    if not host or (parts.scheme not in ("", "ray")):
        raise InputError(
            f"{address!r} is no address of a Ray cluster",
            where="address",
            fix="Give host:port of its head, ray://host:port, or auto for the one this machine is part of.",
        )
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise _absent(address, f"nobody answers at {host}, port {port}: {error}") from error


def _absent(address: str, why: str) -> InputError:
    return InputError(
        f"there is no Ray cluster at {address!r}: {why.rstrip('.')}",
        where="address",
        fix="Start one with `ray start --head`, give its address, or leave it out for one on this machine.",
    )


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
    """A Ray actor that does shards. It opens the work with its first shard, so that a refusal reaches the caller."""

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
