"""Asynchronous work: run to its end from code that is not asynchronous, and side by side."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, TypeVar

T = TypeVar("T")

SWITCH_SECONDS = 0.0005
"""How long a thread waits for a busy one to let it have the interpreter."""


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, on uvloop where that is installed: a third less time for many small requests."""
    factory = None
    if find_spec("uvloop") is not None:
        import uvloop

        factory = uvloop.new_event_loop
    with _many_small_requests(), asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


@contextmanager
def _many_small_requests() -> Iterator[None]:
    """Settings of the interpreter for a busy event loop beside the thread that writes the journal.

    Garbage is collected less often: a request allocates hundreds of objects, few of them in cycles, and collections at
    Python's default thresholds took a fifth of the CPU time. The thread switch interval is shortened: the writing
    thread waits that long for the interpreter lock once a reply, and at the default of 5 ms replies reached the disk a
    third of a second late.
    """
    before, seconds = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(max(before[0], 50_000), *(max(each, 50) for each in before[1:]))
    sys.setswitchinterval(min(seconds, SWITCH_SECONDS))
    try:
        yield
    finally:
        gc.set_threshold(*before)
        sys.setswitchinterval(seconds)


async def in_parallel(
    works: Sequence[Coroutine[Any, Any, None]], tasks: list[asyncio.Task[None]] | None = None
) -> None:
    """Run all of them to their end. The first exception stops the others and is raised as it is.

    `tasks`, where given, is filled with the tasks, for whoever wants to cancel them.
    """
    if tasks is None and len(works) == 1:  # a task of its own would cost a turn of the event loop
        await works[0]
        return
    tasks = [] if tasks is None else tasks
    tasks += [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
