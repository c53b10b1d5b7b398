"""Chunks of work in local processes that each load their own engine; progress comes back, an interrupt ends them all.

A tiny model is fastest with one thread a process, so a few processes beat a few threads.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TypeVar

from s1kit.errors import InputError, S1kitError, WorkFailed

T = TypeVar("T")

Work = Callable[[Sequence[T], Callable[[int], None]], None]
"""Does some chunks one after the other and reports how many more rows are done; must be a picklable callable."""


def in_processes(work: Work[T], chunks: Sequence[T], processes: int, on_progress: Callable[[int], None]) -> None:
    """Do all chunks; with one process here, otherwise spread over so many.

    Raises what the work raised, if it is an S1kitError; WorkFailed when a process died.
    """
    if processes <= 1 or len(chunks) <= 1:
        work(chunks, on_progress)
        return
    # Not fork: this process may hold threads of a training run.
    context = multiprocessing.get_context("spawn")
    running: dict[Connection, BaseProcess] = {}
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        for i in range(min(processes, len(chunks))):
            here, there = context.Pipe(duplex=False)
            process: BaseProcess = context.Process(target=_run, args=(work, chunks[i::processes], there))
            process.start()
            there.close()
            running[here] = process
        _listen(running, on_progress)
    finally:
        for process in running.values():
            process.terminate()
        for connection, process in running.items():
            process.join()
            connection.close()
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _listen(running: dict[Connection, BaseProcess], on_progress: Callable[[int], None]) -> None:
    waiting = set(running)
    while waiting:
        for connection in wait(list(waiting)):
            assert isinstance(connection, Connection)
            try:
                message = connection.recv()
            except EOFError:
                running[connection].join()
                code = running[connection].exitcode
                raise WorkFailed(
                    f"a process of the evaluation ended with status {code}", fix="What it wrote is kept."
                ) from None
            if message == "done":
                waiting.remove(connection)
            elif isinstance(message, int):
                on_progress(message)
            else:
                kind, what, where, fix = message
                raise {"InputError": InputError}.get(kind, WorkFailed)(what, where=where, fix=fix)


def _run(work: Work[T], chunks: Sequence[T], there: Connection) -> None:
    # The parent decides what an interrupt means; it ends its children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    try:
        work(chunks, there.send)
    except S1kitError as error:
        kind = "InputError" if isinstance(error, InputError) else "WorkFailed"
        there.send((kind, error.what, error.where, error.fix))
    else:
        there.send("done")
    finally:
        there.close()
