"""Resume checkpoint of the scan of the pool: one JSON file per 32 batches, so a killed stage scans no batch twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from s1kit.files import write_atomically

BATCHES = 32
"""Batches a file."""


class ScanCheckpoint:
    """Results of `scan_batch`, in the order of the batches, and of whatever else is worth keeping."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._new: list[dict[str, Any]] = []
        self._num_files = 0
        folder.mkdir(parents=True, exist_ok=True)

    def finished(self) -> Iterator[dict[str, Any]]:
        """What an earlier try left, from the first batch on; what is added afterwards continues it."""
        for number in count():
            path = self._path(f"{number:05d}")
            if not path.exists():
                return
            self._num_files = number + 1
            yield from json.loads(path.read_bytes())

    def add(self, seen: dict[str, Any]) -> None:
        self._new.append(seen)
        if len(self._new) == BATCHES:
            self.flush()

    def flush(self) -> None:
        """Write down what is not yet; after the last batch."""
        if self._new:
            self._write(f"{self._num_files:05d}", self._new)
            self._num_files += 1
            self._new = []

    def once(self, name: str, find: Callable[[], Any]) -> Any:
        """What `find` gives, plain values; from the file where it was found before."""
        path = self._path(name)
        if not path.exists():
            self._write(name, find())
        return json.loads(path.read_bytes())

    def clear(self) -> None:
        """Forget everything: the stage has its shards."""
        shutil.rmtree(self._folder)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _write(self, name: str, value: Any) -> None:
        text = json.dumps(value)
        write_atomically(self._path(name), lambda p: p.write_text(text, encoding="utf-8"))
