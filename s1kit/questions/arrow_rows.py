"""Rows of Parquet and Arrow files; the latter is what `datasets` keeps its data in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from s1kit.errors import InputError
from s1kit.questions.raw_rows import RawRow, printable, repeated
from s1kit.questions.unpacking import ENDINGS, open_bytes


def read_parquet(path: Path) -> Iterator[RawRow]:
    """Raises InputError for a file that is not Parquet, or that has two columns of one name."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with ExitStack() as stack:
            source: Any = path
            if path.name.lower().endswith(ENDINGS):  # compressed once more: Parquet is read from its end
                source = pa.BufferReader(stack.enter_context(open_bytes(path)).read())
            file = stack.enter_context(pq.ParquetFile(source))
            yield from _rows(path, file.schema_arrow.names, file.iter_batches(batch_size=1024))
    except pa.ArrowInvalid as error:
        raise InputError(f"the file is not Parquet: {error}", where=str(path), fix="Give a Parquet file.") from error


def read_arrow(path: Path) -> Iterator[RawRow]:
    """An Arrow file with or without an index of its batches (`datasets` writes the latter). Raises InputError."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            try:
                file = pa.ipc.open_file(source)
                batches: Iterable[Any] = (file.get_batch(number) for number in range(file.num_record_batches))
            except pa.ArrowInvalid:
                source.seek(0)
                batches = file = pa.ipc.open_stream(source)
            yield from _rows(path, file.schema.names, batches)
    except pa.ArrowInvalid as error:
        raise InputError(f"the file is not Arrow: {error}", where=str(path), fix="Give an Arrow file.") from error


def _rows(path: Path, names: list[str], batches: Iterable[Any]) -> Iterator[RawRow]:
    if name := repeated(names):
        raise InputError(f"two columns are called {name!r}", where=str(path), fix="Give each column a name of its own.")
    number = 0
    for batch in batches:
        for row in _with_text(batch, path).to_pylist():
            yield RawRow(f"{path}, row {number}", row, line=printable(str(row)[:200]))
            number += 1


def _with_text(batch: Any, path: Path) -> Any:
    """The batch with its columns of bytes as text, since some writers know no other type. Raises InputError."""
    import pyarrow as pa

    columns, names = list(batch.columns), batch.schema.names
    for number, column in enumerate(columns):
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            try:
                columns[number] = column.cast(pa.large_string())
            except pa.ArrowInvalid as error:
                raise InputError(
                    f"the column {names[number]!r} holds bytes that are no UTF-8",
                    where=str(path),
                    fix="Leave the column out, or write it as text.",
                ) from error
    return pa.RecordBatch.from_arrays(columns, names=names)
