"""Shards in this process, or in several on this machine that each open their own engine."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from multiprocessing.util import Finalize
from typing import Any

from s1kit.errors import WorkFailed
from s1kit.executors import OnProgress, Result, Shard, Work, ignore

AHEAD = 1
"""Shards a process that wait at its door, so that it is not idle while a result is written."""

SECONDS_BETWEEN_LOOKS = 0.5
"""Between two looks at how far the processes are."""


class LocalExecutor:
    """`processes` = 1 runs in this process."""

    def __init__(self, processes: int = 1) -> None:
        self.num_workers = max(1, processes)

    def run(
        self, work: Work[Shard, Result], shards: Iterable[Shard], on_progress: OnProgress = ignore
    ) -> Generator[tuple[int, Result], None, None]:
        """See `Executor.run`. An interrupt ends the processes."""
        if self.num_workers > 1:
            yield from self._in_processes(work, shards, on_progress)
            return
        with ExitStack() as stack:
            do: Callable[[Shard, OnProgress], Result] | None = None
            for position, shard in enumerate(shards):
                do = do or stack.enter_context(work.open())  # not before there is something to do
                yield position, do(shard, on_progress)

    def _in_processes(
        self, work: Work[Shard, Result], shards: Iterable[Shard], on_progress: OnProgress
    ) -> Iterator[tuple[int, Result]]:
        # Spawned, not forked: this process may hold threads of numpy or torch.
        context = multiprocessing.get_context("spawn")
        progress = _Progress(context.Value("q", 0), on_progress)
        others = set(multiprocessing.active_children())
        waiting: dict[Future[Result], int] = {}
        with _one_thread_each():
            pool = ProcessPoolExecutor(
                self.num_workers, mp_context=context, initializer=_begin, initargs=(work, progress.count)
            )
            try:
                for position, shard in enumerate(shards):
                    waiting[pool.submit(_do, shard)] = position
                    while len(waiting) >= (1 + AHEAD) * self.num_workers:
                        yield from _finished(waiting, progress)
                while waiting:
                    yield from _finished(waiting, progress)
            except BrokenProcessPool as error:
                raise WorkFailed(
                    "a worker process ended unexpectedly, perhaps because memory ran out",
                    fix="What was finished is kept: run the same command again, with fewer processes or engines.",
                ) from error
            finally:
                if waiting:
                    for child in set(multiprocessing.active_children()) - others:
                        child.terminate()
                pool.shutdown(cancel_futures=True)


class _Progress:
    """Rows done in other processes, counted in shared memory."""

    def __init__(self, count: Any, on_progress: OnProgress) -> None:
        self.count, self._told, self._on_progress = count, 0, on_progress

    def look(self) -> None:
        # Without the lock: a process that was killed may have died with it.
        now = self.count.get_obj().value
        if now > self._told:
            self._on_progress(now - self._told)
            self._told = now


def _finished(waiting: dict[Future[Result], int], progress: _Progress) -> Iterator[tuple[int, Result]]:
    done, _ = wait(waiting, timeout=SECONDS_BETWEEN_LOOKS, return_when=FIRST_COMPLETED)
    progress.look()
    for future in done:
        result = future.result()
        yield waiting.pop(future), result


_doing: Callable[[Any, OnProgress], Any] | None = None
_work: Work[Any, Any]
_count: Any


def _begin(work: Work[Any, Any], count: Any) -> None:
    global _work, _count
    # The parent decides what an interrupt means; it ends its children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _work, _count = work, count


def _do(shard: Any) -> Any:
    """One shard, in a process of the pool. The first one opens the work: what opening raises reaches the parent."""
    global _doing
    if _doing is None:
        stack = ExitStack()
        _doing = stack.enter_context(_work.open())
        Finalize(None, stack.close, exitpriority=10)
    return _doing(shard, _tell)


def _tell(num: int) -> None:
    with _count.get_lock():
        _count.value += num


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """A small model is fastest with one thread a process, so processes that start now take one each."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
