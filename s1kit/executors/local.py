"""Batches in this process, or in several on this machine."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

from s1kit.executors.protocol import BatchFunction, Rows

AHEAD = 2
"""Batches a process that are read before they are needed: memory stays bounded whatever the pool's size."""


class LocalExecutor:
    """`processes` = 1 runs in this process."""

    def __init__(self, processes: int = 1) -> None:
        self._processes = max(1, processes)

    def map(
        self, function: BatchFunction, batches: Iterable[Sequence[Mapping[str, Any]]], settings: Mapping[str, Any]
    ) -> Iterator[Rows]:
        """One result a batch, in order. An exception of the function is raised as it is."""
        if self._processes == 1:
            for batch in batches:
                yield function(list(batch), **settings)
            return
        # Spawned, not forked: the parent may hold threads of numpy or torch.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self._processes, mp_context=context) as pool:
            waiting: deque[Future[Rows]] = deque()
            for batch in batches:
                waiting.append(pool.submit(function, list(batch), **settings))
                if len(waiting) >= AHEAD * self._processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
