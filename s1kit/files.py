"""Files that are whole or not there: JSON, rows of records as Parquet shards, and whatever else a stage writes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from s1kit.errors import InputError, WorkFailed
from s1kit.records import Record, arrow_schema, from_arrow, to_arrow

R = TypeVar("R", bound=Record)

_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises InputError where that is not allowed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make the folder: {error.strerror}", where=str(folder), fix="Choose another place with out=..."
        ) from error


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` fill a temporary neighbour of `path`, then move it into place: no reader sees half a file."""
    # Machines that share the disk may have processes of the same number.
    temporary = path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.part")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in _NOT_ALLOWED:
            raise InputError(
                f"no permission to write {path.name}", where=str(path.parent), fix="Choose another folder with out=..."
            ) from error
        raise WorkFailed(
            f"could not write {path.name}: {error.strerror}",
            where=str(path.parent),
            fix="Free space and run the same command again; what is written is kept.",
        ) from error
    finally:
        with suppress(OSError):  # a folder that refuses the file refuses this too
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n"
    write_atomically(path, lambda p: p.write_text(text, encoding="utf-8"))


def hash_file(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_rows(path: Path, record: type[Record], rows: Iterable[Record]) -> None:
    """Write records to one Parquet shard (zstd) with the record's schema. Replaces the file atomically."""
    write_table(path, pa.Table.from_pylist([to_arrow(row) for row in rows], schema=arrow_schema(record)))


def write_table(path: Path, table: pa.Table) -> None:
    """Write an Arrow table, already in its record's schema, to one Parquet shard."""
    write_atomically(path, lambda p: pq.write_table(table, p, compression="zstd"))


def read_rows(paths: Iterable[Path], record: type[R]) -> Iterator[R]:
    """The rows of Parquet shards, a batch in memory at a time."""
    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    yield from_arrow(record, row)
