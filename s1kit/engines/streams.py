"""Standard output for results alone: what the libraries of engines print there goes to standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TextIO


@contextmanager
def results_only() -> Iterator[TextIO]:
    """Within, whatever is printed, by C code too, goes to standard error; yields the stream for results."""
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
