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
import tempfile
import time
import weakref
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s1kit.errors import InputError

SECONDS = 3.0
"""Processor time a comparison may take before its worker is killed. math-verify stops itself after 5, by a signal."""

WALL_FACTOR = 10
"""On a busy machine a comparison may take so many times longer by the clock: load must not change verdicts."""

START_SECONDS = 120.0
"""A worker may take to import math-verify, on a busy machine."""

SECONDS_BETWEEN_LOOKS = 0.25
"""Between two looks at who is late, when nothing arrives."""

LONGEST_LOOK = 1.0
"""Seconds that count between two looks: while the machine or this process was paused, no worker had time."""


def import_path() -> list[str]:
    """Where a worker looks for modules: this package and the folders of PYTHONPATH, never the current folder.

    `-P` and this list together keep a `sympy.py` beside the data from being imported.
    """
    named = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(path)]
    return list(dict.fromkeys([*named, str(Path(__file__).resolve().parents[2])]))


class Worker:
    """One worker process and the job it is running."""

    def __init__(self, now: float) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "s1kit.grade.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(import_path())},
        )
        self.job: int | None = None
        self.is_ready = False
        self.deadline = now + START_SECONDS
        self.cpu_deadline = float("inf")
        self._buffer = b""

    def fileno(self) -> int:
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def send(self, job: int, pair: tuple[str, str], seconds: float, now: float) -> None:
        assert self.process.stdin is not None
        self.job = job
        used = self.cpu_seconds()
        self.cpu_deadline = used + seconds
        self.deadline = now + seconds * (WALL_FACTOR if used else 1)
        with contextlib.suppress(BrokenPipeError):  # its death is seen when its output ends
            self.process.stdin.write(json.dumps({"answer": pair[0], "solution": pair[1]}).encode() + b"\n")
            self.process.stdin.flush()

    def cpu_seconds(self) -> float:
        """Processor time the process has used; 0.0 where the system does not tell (only Linux does, in this way)."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def is_late(self, now: float) -> bool:
        """Whether the job, or the start of the process, has passed its time limit by the pool's clock."""
        if self.is_ready and self.job is None:
            return False
        return now > self.deadline or self.cpu_seconds() > self.cpu_deadline

    def receive(self) -> list[bytes] | None:
        """The lines that the process has written since the last call; None when it has exited."""
        data = os.read(self.fileno(), 1 << 16)
        if not data:
            return None
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return lines

    def last_error(self) -> str:
        """The last line that the process wrote to standard error."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][-300:] if lines else f"it ended without a message, exit status {self.process.poll()}"

    def kill(self) -> None:
        self.process.kill()
        self._errors.close()
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
        self._clock, self._looked = 0.0, time.monotonic()
        weakref.finalize(self, _kill_all, self._workers)

    def close(self) -> None:
        _kill_all(self._workers)

    def run(self, pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        """One answer a pair, in order: the fields of `symbolic.Opinions`, or `{"failure": why}`."""
        answers: list[dict[str, Any] | None] = [None] * len(pairs)
        waiting = deque(range(len(pairs)))
        self._looked = time.monotonic()
        with selectors.DefaultSelector() as selector:
            for idle in self._workers:
                selector.register(idle, selectors.EVENT_READ, idle)
            while waiting or any(w.job is not None for w in self._workers):
                busy = sum(w.job is not None for w in self._workers)
                while len(self._workers) < min(self._num, busy + len(waiting)):
                    self._start(selector)
                self._feed(waiting, pairs)
                for key, _ in selector.select(timeout=SECONDS_BETWEEN_LOOKS):
                    worker: Worker = key.data
                    lines = worker.receive()
                    if lines is None:
                        if not worker.is_ready:
                            self._refuse(worker, selector, answers, worker.last_error())
                        self._drop(worker, selector, answers, "the comparison crashed")
                        continue
                    for line in lines:
                        self._take(worker, line, answers)
                now = self._now()
                for late in [w for w in self._workers if w.is_late(now)]:
                    if not late.is_ready:
                        self._refuse(late, selector, answers, f"it was not ready after {START_SECONDS:g} s")
                    self._drop(late, selector, answers, f"no result within {self._seconds:g} s")
        return [answer or {"failure": "no result"} for answer in answers]

    def _now(self) -> float:
        """Seconds of the pool's clock, which stops while nobody reads results, so that pauses time nothing out."""
        now = time.monotonic()
        self._clock += min(now - self._looked, LONGEST_LOOK)
        self._looked = now
        return self._clock

    def _start(self, selector: selectors.BaseSelector) -> None:
        worker = Worker(self._now())
        self._workers.append(worker)
        selector.register(worker, selectors.EVENT_READ, worker)

    def _feed(self, waiting: deque[int], pairs: Sequence[tuple[str, str]]) -> None:
        for worker in self._workers:
            if worker.is_ready and worker.job is None and waiting:
                job = waiting.popleft()
                worker.send(job, pairs[job], self._seconds, self._now())

    def _take(self, worker: Worker, line: bytes, answers: list[dict[str, Any] | None]) -> None:
        if not worker.is_ready:
            worker.is_ready = True
        elif worker.job is not None:
            answers[worker.job] = json.loads(line)
            worker.job = None

    def _refuse(
        self, worker: Worker, selector: selectors.BaseSelector, answers: list[dict[str, Any] | None], why: str
    ) -> None:
        """Raise for a worker that failed to start: another try would fail the same way."""
        self._drop(worker, selector, answers, why)
        self.close()
        raise InputError(
            f"the process that compares formulas does not start: {why}",
            where=f"{sys.executable} -P -m s1kit.grade.worker",
            fix='Reinstall the extra: pip install --force-reinstall "s1kit[grade]".',
        )

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
