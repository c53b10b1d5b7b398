"""Progress: a bar on a terminal, plain lines otherwise, nothing when quiet; and standard output for results alone."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TextIO, TypeVar

T = TypeVar("T")

_quiet = False
_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_TO_FIRST_LINE = 3.0
_MOST_SECONDS_SILENT = 300.0


@contextmanager
def quieted(is_quiet: bool) -> Iterator[None]:
    """Silence progress and `say` for a while, if `is_quiet` (the flag `--quiet`; all processes but the main one)."""
    global _quiet
    before = _quiet
    _quiet = before or is_quiet
    try:
        yield
    finally:
        _quiet = before


def say(text: str) -> None:
    """One line about the work, on standard error, unless quiet."""
    if not _quiet:
        print(text, file=sys.stderr, flush=True)


class Meter:
    """Counts finished things and shows the count at a human pace, also while nothing finishes."""

    def __init__(self, name: str, total: int | None, unit: str) -> None:
        self._name, self._total, self._unit = name, total, unit
        self._done, self._note = 0, ""
        self._start = time.monotonic()
        # The first line comes early: a stage that says nothing looks as if it hung.
        self._shown = self._start - _SECONDS_BETWEEN_LINES + _SECONDS_TO_FIRST_LINE
        self._bar = None
        if not _quiet and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, desc=name, unit=f" {unit}", leave=True, dynamic_ncols=True)
        self._closed = threading.Event()
        self._beating = threading.Thread(target=self._beat, name=f"s1kit-progress-{name}", daemon=True)
        if not _quiet:
            self._beating.start()

    def advance(self, num: int = 1, note: str = "") -> None:
        """`num` more are done; `note` (loss, cost, failures) is shown beside the count."""
        self._done += num
        self._note = note or self._note
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(num)
        elif not _quiet and time.monotonic() - self._shown > _SECONDS_BETWEEN_LINES:
            self._print()

    def _beat(self) -> None:
        """Show the count now and then, ever more rarely where it stays the same: a first result may take minutes."""
        gap, last = _SECONDS_BETWEEN_LINES, self._done
        wait = _SECONDS_TO_FIRST_LINE if self._bar is None else 1.0
        while not self._closed.wait(wait):
            if self._bar is not None:
                self._bar.refresh()
                continue
            if self._done != last:
                gap, last = _SECONDS_BETWEEN_LINES, self._done
            wait = self._shown + gap - time.monotonic()
            if wait <= 0:
                if not _quiet:
                    self._print()
                wait = gap = min(2 * gap, _MOST_SECONDS_SILENT)

    def close(self) -> None:
        self._closed.set()
        if self._beating.is_alive():
            self._beating.join()
        if self._bar is not None:
            self._bar.close()
        elif not _quiet:
            self._print()

    def _print(self) -> None:
        self._shown = time.monotonic()
        seconds = self._shown - self._start
        of = f"/{self._total}" if self._total is not None else ""
        note = f"  {self._note}" if self._note else ""
        print(f"{self._name}: {self._done}{of} {self._unit} in {seconds:.1f} s{note}", file=sys.stderr, flush=True)


@contextmanager
def meter(name: str, total: int | None = None, unit: str = "rows") -> Iterator[Meter]:
    """A meter that is closed whatever happens.

    with meter("distill", total=len(questions), unit="questions") as m:
        for question in questions:
            ...
            m.advance()
    """
    m = Meter(name, total, unit)
    try:
        yield m
    finally:
        m.close()


def track(items: Iterable[T], name: str, unit: str = "rows") -> Iterator[T]:
    """Yield the items and advance a progress bar by one for each."""
    with meter(name, unit=unit) as m:
        for item in items:
            yield item
            m.advance()


@contextmanager
def results_only() -> Iterator[TextIO]:
    """Send whatever is printed meanwhile, by C code too, to standard error; yields the stream for results."""
    sys.stdout.flush()
    saved = os.dup(1)
    stream = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding or "utf-8", errors=sys.stdout.errors)
    is_own = getattr(sys.stdout, "buffer", None) is not None and _is_first(sys.stdout)
    out = stream if is_own else sys.stdout
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield out
    finally:
        out.flush()
        os.dup2(saved, 1)
        os.close(saved)
        stream.close()


def _is_first(stream: TextIO) -> bool:
    """Whether a stream writes to the process's own standard output, not to what somebody put in its place."""
    try:
        return stream.fileno() == 1
    except (OSError, ValueError):
        return False
