"""Who is asking what right now, so that two processes on one journal do not pay for one request twice."""

from __future__ import annotations

import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: two processes may then ask the same question twice, at once; nothing else changes
    fcntl = None  # type: ignore[assignment]


class Claims:
    """Each claim is a lock of the operating system on one byte of a side file: it goes when its process goes, however
    that dies."""

    def __init__(self, journal_path: Path) -> None:
        self._path = journal_path.with_name(journal_path.name + "-claims")
        self._file: int | None = None
        self._held: set[str] = set()

    def take(self, key: str) -> bool:
        """Reserve a request for this process; False when it is being asked already, here or elsewhere."""
        if key in self._held:
            return False
        if fcntl is not None:
            if self._file is None:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _offset(key))
            except OSError:
                return False
        self._held.add(key)
        return True

    def drop(self, key: str) -> None:
        self._held.discard(key)
        if fcntl is not None and self._file is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _offset(key))

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _offset(key: str) -> int:
    return int(key[:15], 16)
