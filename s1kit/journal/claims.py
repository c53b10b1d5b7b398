"""Who is asking what right now, so that two processes on one journal do not pay for one request twice."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: two processes may then ask the same question twice, at once; nothing else changes
    fcntl = None  # type: ignore[assignment]


@dataclass
class _LockFile:
    """The side file of one journal. POSIX drops all locks of a process when it closes any descriptor of the file, so
    all journals on one path in a process share one."""

    file: int | None
    num_users: int = 0
    held: set[str] = field(default_factory=set)


_FILES: dict[tuple[int, Path], _LockFile] = {}
"""By process, for a fork inherits the table and not the locks, and by path."""
_GUARD = threading.Lock()


class Claims:
    """Claims on requests: POSIX locks on one byte each of a side file, which the kernel releases with their process."""

    def __init__(self, journal_path: Path) -> None:
        self._path = journal_path.with_name(journal_path.name + "-claims").absolute()
        self._shared: _LockFile | None = None
        self._mine: set[str] = set()

    def take(self, key: str) -> bool:
        """Reserve a request; False when it is being asked already, here or elsewhere."""
        with _GUARD:
            shared = self._open()
            if key in shared.held:
                return False
            if shared.file is not None:
                try:
                    fcntl.lockf(shared.file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _offset(key))
                except OSError:
                    return False
            shared.held.add(key)
            self._mine.add(key)
            return True

    def drop(self, key: str) -> None:
        """Release a claim of this object; any other key is left alone."""
        with _GUARD:
            if self._shared is None or key not in self._mine:
                return
            self._mine.discard(key)
            self._shared.held.discard(key)
            if self._shared.file is not None:
                fcntl.lockf(self._shared.file, fcntl.LOCK_UN, 1, _offset(key))

    def close(self) -> None:
        for key in list(self._mine):
            self.drop(key)
        with _GUARD:
            if self._shared is None:
                return
            self._shared.num_users -= 1
            if not self._shared.num_users:
                if self._shared.file is not None:
                    os.close(self._shared.file)
                _FILES.pop((os.getpid(), self._path), None)
            self._shared = None

    def _open(self) -> _LockFile:
        if self._shared is None:
            where = (os.getpid(), self._path)
            if where not in _FILES:
                _FILES[where] = _LockFile(
                    os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644) if fcntl is not None else None
                )
            self._shared = _FILES[where]
            self._shared.num_users += 1
        return self._shared


def _offset(key: str) -> int:
    return int(key[:15], 16)
