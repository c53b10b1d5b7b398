"""A process that packs and writes rows, for runs where replies come by the hundred a second.

Packing in a thread would not do: it and the event loop would wait for each other at every step, and a core's worth of
both becomes half a core's. The process starts once a run has shown that it is busy, and whatever becomes of it, the
caller can write the same rows itself: a row that is there already stays as it is.

Over the pipe: a line of JSON with the rows' plain values and the sizes of their requests and replies, then those, one
after the other; back comes a line once they are on the disk.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from s1kit.errors import S1kitError
from s1kit.journal.database import Database
from s1kit.journal.entries import INSERT, Parts, pack

MANY_ROWS = 8
"""A group of so many is a sign of a busy run."""
BUSY_GROUPS = 20
"""So many of them, and the process is worth its start."""


class Scribe:
    """The caller's end. Used from one thread."""

    def __init__(self, path: Path, on_written: Callable[[], None]) -> None:
        self._path, self._on_written = path, on_written
        self._num_busy = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = threading.Event()

    def write(self, rows: Sequence[Parts]) -> bool:
        """Whether the rows are on the disk now. If not, it is not running, or could not: write them otherwise."""
        if self._process is None:
            self._num_busy += len(rows) >= MANY_ROWS
            if self._num_busy == BUSY_GROUPS and os.name != "nt":
                self._start()
            return False
        if not self._is_ready.is_set():
            return False
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        head = json.dumps([(values, len(request), len(reply)) for values, request, reply in rows])
        blobs = [blob for _, request, reply in rows for blob in (request, reply)]
        try:
            self._process.stdin.write(b"".join((head.encode(), b"\n", *blobs)))
            self._process.stdin.flush()
            was_written = self._process.stdout.readline() == b"written\n"
        except OSError:
            was_written = False
        if was_written:
            self._on_written()
        else:
            self.close()
        return was_written

    def close(self) -> None:
        """It ends when its input does. It is not started again."""
        if self._process is None or self._process.returncode is not None:
            return
        self._is_ready.clear()
        self._process.communicate()

    def _start(self) -> None:
        command = [sys.executable, "-m", "s1kit.journal.scribe", str(self._path)]
        try:
            # A group of its own: Ctrl-C is for the run, which then closes it.
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0
            )
        except OSError:  # no room for another process
            return
        threading.Thread(target=self._wait_until_ready, args=(self._process,), daemon=True).start()

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        if process.stdout.readline() == b"ready\n":
            self._is_ready.set()


def work(path: Path, given: IO[bytes], answers: IO[bytes]) -> None:
    """The process's end: until the input ends, or a fault of the file, which the caller will meet and explain."""
    database = Database(path)
    try:
        answers.write(b"ready\n")
        answers.flush()
        while line := given.readline():
            rows = []
            for values, request_size, reply_size in json.loads(line):
                request, reply = given.read(request_size), given.read(reply_size)
                if len(request) < request_size or len(reply) < reply_size:
                    return  # the caller died in the middle of a row
                rows.append(pack(values, request, reply))
            database.write(INSERT, rows)
            answers.write(b"written\n")
            answers.flush()
    except (S1kitError, BrokenPipeError):
        return
    finally:
        database.close()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    work(Path(sys.argv[1]), sys.stdin.buffer, sys.stdout.buffer)
