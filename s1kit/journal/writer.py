"""Writes replies to the journal in a thread. Replies that arrive during one transaction share the next (group commit).

A reply that was paid for is lost if the process dies before it is on disk.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from s1kit.errors import S1kitError
from s1kit.journal.entries import Charge, Entry, Failure, Reading, Row, failure_row, pack, to_parts


@dataclass(frozen=True)
class _Pending:
    """An entry on its way, with its request and reply as JSON where they are at hand."""

    entry: Entry | Reading | Failure
    request: bytes | None
    reply: bytes | None
    charge: Charge | None
    written: asyncio.Future[None] | None
    """Who waits for it; None: nobody."""


class Writer:
    """Gathers entries in the event loop and writes them in a thread, which starts with the first."""

    def __init__(self, write: Callable[[Sequence[Row], Sequence[Charge], Sequence[Row], Sequence[Row]], None]) -> None:
        self._write = write
        self._gathered: list[_Pending] = []
        self._is_due = False
        """Whether what is gathered will be handed over in a moment."""
        self._queue: queue.Queue[list[_Pending] | None] = queue.Queue()
        self._thread: threading.Thread | None = None

    async def commit(
        self, entry: Entry | Reading | Failure, request: bytes | None, reply: bytes | None, charge: Charge | None
    ) -> None:
        """Returns when the entry is on disk."""
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()
        if not self._is_due:
            self._is_due = True
            loop.call_soon(self._hand_over)
        # Whoever asked may be cancelled; what has arrived is written all the same.
        self._gathered.append(_Pending(entry, request, reply, charge, written))
        await written

    def note(self, reading: Reading, charge: Charge | None) -> None:
        """Write it with the next that somebody waits for, at the latest when the writer is flushed or closed."""
        self._gathered.append(_Pending(reading, None, None, charge, None))

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

    def _hand_over(self) -> None:
        """Give what has arrived to the thread, many at once: waking it for each would cost more than writing."""
        self._is_due = False
        gathered, self._gathered = self._gathered, []
        if not gathered:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
            self._thread.start()
        self._queue.put(gathered)

    def _work(self) -> None:
        while (group := self._next_group()) is not None:
            problem: S1kitError | None = None
            try:
                rows = [pack(*to_parts(p.entry, p.request, p.reply)) for p in group if isinstance(p.entry, Entry)]
                failures = [failure_row(p.entry) for p in group if isinstance(p.entry, Failure)]
                readings = [p.entry.row for p in group if isinstance(p.entry, Reading)]
                self._write(rows, [p.charge for p in group if p.charge is not None], failures, readings)
            except S1kitError as error:
                problem = error
            waiting: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
            for pending in group:
                if pending.written is not None:
                    waiting.setdefault(pending.written.get_loop(), []).append(pending.written)
            for loop, futures in waiting.items():
                with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(_resolve, futures, problem)
            self._queue.task_done()

    def _next_group(self) -> list[_Pending] | None:
        """All that has arrived meanwhile; None at the end. `task_done` is owed once for it."""
        group = self._queue.get()
        while group is not None:
            try:
                more = self._queue.get_nowait()
            except queue.Empty:
                break
            if more is None:
                self._queue.put(None)
                self._queue.task_done()
                break
            group += more
            self._queue.task_done()
        return group


def _resolve(futures: Sequence[asyncio.Future[None]], problem: S1kitError | None) -> None:
    for future in futures:
        if future.done():
            continue
        if problem is None:
            future.set_result(None)
        else:
            future.set_exception(problem)
