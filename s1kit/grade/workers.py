"""A pool of killable processes for comparisons that may never end.

It knows how to start, feed, time and kill them; what they compare is in `symbolic`.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

SECONDS = 3.0
"""One comparison may take; the worker is killed then. math-verify's own default is 5, by a signal."""

START_SECONDS = 60.0
"""A worker may take to import math-verify, on a busy machine."""


class Worker:
    """One process, and the job it is at."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "s1kit.grade.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        self.job: int | None = None
        self.is_ready = False
        self.deadline = time.monotonic() + START_SECONDS
        self._buffer = b""

    def fileno(self) -> int:
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def send(self, job: int, pair: tuple[str, str], seconds: float) -> None:
        assert self.process.stdin is not None
        self.job, self.deadline = job, time.monotonic() + seconds
        with contextlib.suppress(BrokenPipeError):  # its death is seen when its output ends
            self.process.stdin.write(json.dumps({"answer": pair[0], "solution": pair[1]}).encode() + b"\n")
            self.process.stdin.flush()

    def receive(self) -> list[bytes] | None:
        """The lines that arrived; None when the process is gone."""
        data = os.read(self.fileno(), 1 << 16)
        if not data:
            return None
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return lines

    def kill(self) -> None:
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self.process.wait()


class WorkerPool:
    """Compares pairs in `processes` workers, which start when first needed and live until `close`."""

    def __init__(self, processes: int, seconds: float = SECONDS) -> None:
        self._num, self._seconds = max(1, processes), seconds
        self._workers: list[Worker] = []
        weakref.finalize(self, _kill_all, self._workers)

    def close(self) -> None:
        _kill_all(self._workers)

    def run(self, pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        """One answer a pair, in order: the fields of `symbolic.Opinions`, or `{"failure": why}`."""
        answers: list[dict[str, Any] | None] = [None] * len(pairs)
        waiting = deque(range(len(pairs)))
        crashes = 0
        with selectors.DefaultSelector() as selector:
            for idle in self._workers:
                selector.register(idle, selectors.EVENT_READ, idle)
            while waiting or any(w.job is not None for w in self._workers):
                busy = sum(w.job is not None for w in self._workers)
                while len(self._workers) < min(self._num, busy + len(waiting)):
                    self._start(selector)
                self._feed(waiting, pairs)
                for key, _ in selector.select(timeout=self._until_deadline()):
                    worker: Worker = key.data
                    lines = worker.receive()
                    if lines is None:
                        crashes += worker.job is None
                        if crashes > 3:
                            raise RuntimeError("the comparison process does not start: python -m s1kit.grade.worker")
                        self._drop(worker, selector, answers, "the comparison crashed")
                        continue
                    for line in lines:
                        self._take(worker, line, answers)
                for late in [w for w in self._workers if self._is_late(w)]:
                    self._drop(late, selector, answers, f"no result within {self._seconds:g} s")
        return [answer or {"failure": "no result"} for answer in answers]

    def _start(self, selector: selectors.BaseSelector) -> None:
        worker = Worker()
        self._workers.append(worker)
        selector.register(worker, selectors.EVENT_READ, worker)

    def _feed(self, waiting: deque[int], pairs: Sequence[tuple[str, str]]) -> None:
        for worker in self._workers:
            if worker.is_ready and worker.job is None and waiting:
                job = waiting.popleft()
                worker.send(job, pairs[job], self._seconds)

    def _until_deadline(self) -> float:
        deadlines = [w.deadline for w in self._workers if w.job is not None or not w.is_ready]
        return max(0.0, min(deadlines, default=time.monotonic()) - time.monotonic()) + 0.001

    def _is_late(self, worker: Worker) -> bool:
        return (worker.job is not None or not worker.is_ready) and time.monotonic() > worker.deadline

    def _take(self, worker: Worker, line: bytes, answers: list[dict[str, Any] | None]) -> None:
        if not worker.is_ready:
            worker.is_ready = True
        elif worker.job is not None:
            answers[worker.job] = json.loads(line)
            worker.job = None

    def _drop(
        self, worker: Worker, selector: selectors.BaseSelector, answers: list[dict[str, Any] | None], why: str
    ) -> None:
        if worker.job is not None:
            answers[worker.job] = {"failure": why}
        selector.unregister(worker)
        self._workers.remove(worker)
        worker.kill()


def _kill_all(workers: list[Worker]) -> None:
    while workers:
        workers.pop().kill()
