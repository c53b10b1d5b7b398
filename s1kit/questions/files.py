"""Rows of JSONL, JSON, CSV and Parquet files, as they are found on people's disks.

Byte order marks (UTF-8 and UTF-16), `;` and tab as separators, JSON arrays and cells of any size are read; a row that
cannot be read is named with its place and the rest of the file goes on.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import IO, Any

from s1kit.errors import InputError

KNOWN_ENDINGS = ".jsonl, .ndjson, .json, .csv, .tsv (each also .gz) or .parquet"

MEND = "Correct or delete it, or go on without it with --allow-rejects."
TO_UTF8 = (
    "Save the file as UTF-8 (in Excel: 'CSV UTF-8'), or convert it: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW; "
    "--allow-rejects goes on without such rows."
)

_MAX_DIGITS = 4300
"""Python converts no longer integer."""

_CELL_LIMIT = 2**31 - 1
_INVALID_BYTE = re.compile("[\udc80-\udcff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class RawRow:
    """One row as it stands in a file."""

    where: str
    """`file:line`, or `file, row n` where a file has no lines."""
    row: dict[str, Any] | None
    """None when the line is broken."""
    complaint: str = ""
    line: str = ""
    """The beginning of the line, for people."""
    fix: str = MEND
    form: str = ""
    """How the file was read where that was found out, e.g. `CSV separated by ;`."""


def find_files(pattern: str) -> list[Path]:
    """The files that a path or glob names, sorted; InputError when there is none."""
    paths = [Path(pattern)] if Path(pattern).exists() else sorted(Path(p) for p in glob(pattern))
    files = [p for p in paths if p.is_file()]
    if not files:
        raise InputError(
            f"there is no file {pattern!r}", where="path", fix=f"Give a file that ends in {KNOWN_ENDINGS}."
        )
    return files


def read_rows_of(path: Path) -> Iterator[RawRow]:
    """The rows of one file, broken ones included. Raises InputError for a file that cannot be read at all."""
    name = path.name.lower().removesuffix(".gz")
    try:
        if name.endswith((".jsonl", ".ndjson", ".json")):
            yield from _read_json(path)
        elif name.endswith((".csv", ".tsv")):
            yield from _read_csv(path, is_tsv=name.endswith(".tsv"))
        elif name.endswith(".parquet"):
            yield from _read_parquet(path)
        else:
            advice = "Save the sheet as CSV UTF-8." if name.endswith((".xlsx", ".xls")) else f"Known: {KNOWN_ENDINGS}."
            raise InputError(f"{path.name} has an unknown ending", where=str(path), fix=advice)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"the file cannot be read: {error}", where=str(path), fix="Give a readable file.") from error


@contextmanager
def _open_text(path: Path) -> Iterator[IO[str]]:
    """The file as text. Invalid UTF-8 arrives as surrogates, so that the reader can name the row it stands in."""
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rb") as binary:
        start = binary.read(4)
    encoding = "utf-16" if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    errors = "strict" if encoding == "utf-16" else "surrogateescape"
    with opener(path, "rt", encoding=encoding, errors=errors, newline="") as file:
        yield file


def _read_json(path: Path) -> Iterator[RawRow]:
    """JSONL; or one array, one object that holds a list of rows, or one row, spread over lines."""
    with _open_text(path) as file:
        first = next((line for line in file if line.strip()), "")
    start = first.lstrip()[:1]
    if start == "[" or (start == "{" and not _is_json(first)):
        with _open_text(path) as file:
            whole = file.read()
        if not _INVALID_BYTE.search(whole):
            try:
                yield from _rows_of_document(path, _load(whole))
                return
            except (ValueError, RecursionError):
                pass  # no document: its broken lines are named one by one
    with _open_text(path) as file:
        # A carriage return alone ends a line too; `newline=""` leaves it in, and JSON allows none within a string.
        lines = (part for line in file for part in re.split(r"\r(?!\n)", line))
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _row_of_line(f"{path}:{number}", line)


def _rows_of_document(path: Path, document: Any) -> Iterator[RawRow]:
    form = "a JSON array"
    if isinstance(document, dict):
        lists = {
            key: value
            for key, value in document.items()
            if isinstance(value, list) and value and all(isinstance(v, dict) for v in value)
        }
        if len(lists) == 1 and len(document) <= 5 and "question" not in document:
            ((key, document),) = lists.items()
            form = f"the list {key!r} of a JSON object"
        else:
            document, form = [document], "one JSON object"
    for number, item in enumerate(document):
        yield _checked(f"{path}, item {number}", item, json.dumps(item, default=str)[:200], form)


def _row_of_line(where: str, line: str) -> RawRow:
    short = line.strip()[:200]
    if _INVALID_BYTE.search(line):
        return RawRow(where, None, "the line is not UTF-8; it looks like Latin-1", _printable(short), TO_UTF8)
    try:
        return _checked(where, _load(line), short)
    except (ValueError, RecursionError) as error:
        return RawRow(where, None, f"the line is not JSON: {error}", _printable(short))


def _checked(where: str, row: Any, short: str, form: str = "") -> RawRow:
    """The row as a RawRow; one that cannot be stored says why."""
    short = _printable(short)
    if not isinstance(row, dict):
        return RawRow(where, None, f"the line is a {type(row).__name__}, not an object", short)
    if fault := find_fault(row):
        return RawRow(where, None, fault, short)
    return RawRow(where, row, line=short, form=form)


def find_fault(value: Any, place: str = "") -> str:
    """What makes a value of JSON or Parquet impossible to keep, and where it stands; empty when nothing does.

    >>> find_fault({"a": [1, {"b": "x\\ud83d"}]})
    "a[1].b holds half of a surrogate pair, '\\\\ud83d', which is no character"
    """
    match value:
        case _TooLong():
            return f"{place} is an integer of {len(value):,} digits; put it in quotes to keep it"
        case str() if found := _SURROGATE.search(value):
            return f"{place} holds half of a surrogate pair, {found.group()!r}, which is no character"
        case dict():
            dotted = f"{place}." if place else ""
            for key, item in value.items():
                if fault := find_fault(key, "a column's name") or find_fault(item, f"{dotted}{key}"):
                    return fault
        case list():
            for number, item in enumerate(value):
                if fault := find_fault(item, f"{place}[{number}]"):
                    return fault
    return ""


class _TooLong(str):
    """The digits of an integer that is longer than Python converts."""


def _integer(digits: str) -> Any:
    return int(digits) if len(digits) <= _MAX_DIGITS else _TooLong(digits)


def _constant(name: str) -> None:
    """NaN is what pandas writes for an empty cell; infinity has no such meaning."""
    if name != "NaN":
        raise ValueError(f"{name} is no value of JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"the key {_repeated([key for key, _ in pairs])!r} stands twice in one object")
    return found


def _repeated(names: Sequence[str]) -> str:
    return next((name for name, count in Counter(names).items() if count > 1), "")


def _load(text: str) -> Any:
    return json.loads(text, parse_int=_integer, parse_constant=_constant, object_pairs_hook=_object)


def _is_json(line: str) -> bool:
    try:
        _load(line)
    except (ValueError, RecursionError) as error:
        return not isinstance(error, json.JSONDecodeError)
    return True


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _read_csv(path: Path, *, is_tsv: bool) -> Iterator[RawRow]:
    limit = csv.field_size_limit(_CELL_LIMIT)
    try:
        with _open_text(path) as file:
            delimiter, form = _delimiter(path, is_tsv)
            reader = csv.reader(file, delimiter=delimiter)
            header = next(reader, [])
            if header and header[0].startswith("sep="):  # Excel's own hint
                header = next(reader, [])
            header = [name.strip() for name in header]
            if name := _repeated([name for name in header if name]):
                raise InputError(
                    f"two columns are called {name!r}", where=f"{path}:1", fix="Give each column a name of its own."
                )
            while True:
                line = reader.line_num + 1
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                if any(cells):
                    yield _row_of_cells(f"{path}:{line}", header, cells, form)
    finally:
        csv.field_size_limit(limit)


def _row_of_cells(where: str, header: list[str], cells: list[str], form: str) -> RawRow:
    short = _printable(str(dict(zip(header, cells, strict=False)))[:200])
    if any(_INVALID_BYTE.search(cell) for cell in cells):
        return RawRow(where, None, "the row is not UTF-8; it looks like Latin-1", short, TO_UTF8)
    nameless = any(cell and not name for name, cell in zip(header, cells, strict=False))
    if nameless:
        return RawRow(where, None, "a cell stands in a column without a name", short)
    if len(cells) > len(header) and not any(cells[len(header) :]):
        cells = cells[: len(header)]  # empty cells at the end, as spreadsheets leave them
    if len(cells) != len(header):
        complaint = f"the row has {len(cells)} cells and the header {len(header)}"
        return RawRow(where, None, complaint, short, f"Put quotes around cells that hold a separator. {MEND}")
    return RawRow(where, {n: c for n, c in zip(header, cells, strict=True) if c != ""}, line=short, form=form)


def _delimiter(path: Path, is_tsv: bool) -> tuple[str, str]:
    """The separator that stands most often in the header, outside quotes; and how to say it where it is no comma."""
    with _open_text(path) as file:
        first = file.readline()
    if first.startswith("sep=") and len(first.strip()) == 5:
        sign = first[4]
    else:
        bare = re.sub(r'"[^"]*"', "", first)
        expected = "\t" if is_tsv else ","
        counts = {sign: bare.count(sign) for sign in (expected, ",", ";", "\t", "|")}
        sign = max(counts, key=lambda s: counts[s])
    names = {"\t": "tabs", ",": ","}
    said = "" if sign == ("\t" if is_tsv else ",") else f"CSV separated by {names.get(sign, sign)}"
    return sign, said


def _read_parquet(path: Path) -> Iterator[RawRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if name := _repeated(file.schema_arrow.names):
                raise InputError(
                    f"two columns are called {name!r}", where=str(path), fix="Give each column a name of its own."
                )
            number = 0
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    yield RawRow(f"{path}, row {number}", row, line=_printable(str(row)[:200]))
                    number += 1
    except pa.ArrowInvalid as error:
        raise InputError(f"the file is not Parquet: {error}", where=str(path), fix="Give a Parquet file.") from error
