"""Replies on their way to the disk, in a thread of its own: at once, or many together where hundreds a second come."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from s1kit.errors import S1kitError
from s1kit.journal.entries import Entry, Row, pack, to_parts
from s1kit.journal.scribe import Scribe

SECONDS_TO_GATHER = 0.025
"""Replies that arrive within so long share a transaction in a busy run. A model thinks for longer."""
BUSY = 16
"""Replies within that time that make a run a busy one; below, what a kill can lose is what arrives during a write."""


@dataclass(frozen=True)
class _Pending:
    """An entry on its way, with its request and reply as JSON where they are at hand."""

    entry: Entry
    request: bytes | None
    reply: bytes | None
    written: asyncio.Future[None]
    loop: asyncio.AbstractEventLoop


class Writer:
    """Gathers entries in the event loop and writes them in a thread, which starts with the first.

    The thread hands them to `scribe` while that takes them, and else packs and writes them itself.
    """

    def __init__(self, write: Callable[[Sequence[Row]], None], scribe: Scribe) -> None:
        self._write, self._scribe = write, scribe
        self._gathered: list[_Pending] = []
        self._queue: queue.Queue[list[_Pending] | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._window, self._num_in_window, self._is_busy = 0.0, 0, False

    async def commit(self, entry: Entry, request: bytes | None, reply: bytes | None) -> None:
        """Returns when the entry is on disk."""
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()
        self._count(loop.time())
        if not self._gathered:
            loop.call_later(SECONDS_TO_GATHER if self._is_busy else 0.0, self._hand_over)
        # Whoever asked may be cancelled; what has arrived is written all the same.
        self._gathered.append(_Pending(entry, request, reply, written, loop))
        await written

    def flush(self) -> None:
        """Returns when everything that has arrived is on disk; whoever asked for it may have been cancelled."""
        self._hand_over()
        if self._thread is not None:
            self._queue.join()

    def close(self) -> None:
        self._hand_over()
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None
        self._scribe.close()

    def _count(self, now: float) -> None:
        """Notice how fast replies come."""
        if (since := now - self._window) >= SECONDS_TO_GATHER:
            self._is_busy = self._num_in_window * SECONDS_TO_GATHER >= BUSY * since
            self._window, self._num_in_window = now, 0
        self._num_in_window += 1

    def _hand_over(self) -> None:
        """Give what has arrived to the thread, many at once: waking it for each would cost more than writing."""
        gathered, self._gathered = self._gathered, []
        if not gathered:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
            self._thread.start()
        self._queue.put(gathered)

    def _work(self) -> None:
        while (group := self._queue.get()) is not None:
            problem: S1kitError | None = None
            try:
                rows = [to_parts(pending.entry, pending.request, pending.reply) for pending in group]
                if not self._scribe.write(rows):
                    self._write([pack(*parts) for parts in rows])
            except S1kitError as error:
                problem = error
            for loop in {pending.loop for pending in group}:
                futures = [pending.written for pending in group if pending.loop is loop]
                with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(_resolve, futures, problem)
            self._queue.task_done()


def _resolve(futures: Sequence[asyncio.Future[None]], problem: S1kitError | None) -> None:
    for future in futures:
        if future.done():
            continue
        if problem is None:
            future.set_result(None)
        else:
            future.set_exception(problem)
