"""Rows of JSONL files and of JSON documents: arrays, objects that hold a list, tables by column, rows by their ids."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from s1kit.errors import InputError
from s1kit.questions.conversations import is_message
from s1kit.questions.names import columns_for, has_question
from s1kit.questions.raw_rows import MEND, RawRow, TooLong, find_fault, printable, repeated
from s1kit.questions.unpacking import complain_of_encoding, has_invalid_bytes, open_text

_MAX_DIGITS = 4300
"""Python converts no longer integer."""

_COMMENT = re.compile(r"\s*(#|//)")
_STRING_OR_COMMA = re.compile(r'"(?:\\.|[^"\\])*"|,(?=\s*[}\]])')
_DESCRIBING = ("features", "fields", "schema", "columns", "segments")
"""Lists that hold no rows: what the columns of the rows are, and the parts of one rendered sample (axolotl)."""
_RECORD_MARK = "\x1e"
"""Before each text of a JSON sequence (RFC 7464)."""


def read_json(path: Path) -> Iterator[RawRow]:
    """JSONL, whatever the file is called; or one document, in one line or spread over lines.

    Raises InputError for an array that is none.
    """
    with open_text(path) as file:
        first, *more = [*islice((line for line in file if line.strip() and not _COMMENT.match(line)), 2), ""]
    start = first.lstrip()[:1]
    rows = None
    if start == "[" or (start == "{" and (not any(more) or not _is_json(first))):
        rows = _read_whole(path, first, is_row=not any(more) and ".jsonl" in path.name.lower())
    yield from _read_lines(path) if rows is None else rows


def _read_whole(path: Path, first: str, *, is_row: bool) -> list[RawRow] | None:
    """The rows of a file that is one document, or several objects spread over lines; None where it is neither.

    `first` is the file's first line. `is_row` as in `_document`.
    """
    with open_text(path) as file:
        whole = file.read()
    if has_invalid_bytes(whole):
        return None
    try:
        return _document(path, whole, is_row=is_row)
    except json.JSONDecodeError as error:
        if first.strip() == "[":
            where = f"{path}:{error.lineno}"
            raise InputError(
                f"the JSON array is broken: {error.msg}", where=where, fix="Correct it at that place."
            ) from error
    except (ValueError, RecursionError):
        return None  # no document: its broken lines are named one by one
    if (several := _several(whole)) is None:
        return None
    form = "JSON objects one after another"
    return [_checked(f"{path}, item {number}", row, str(row)[:200], form) for number, row in enumerate(several)]


def _read_lines(path: Path) -> Iterator[RawRow]:
    with open_text(path) as file:
        # A carriage return alone ends a line too; `newline=""` leaves it in, and JSON allows none within a string.
        lines = (part.removeprefix(_RECORD_MARK) for line in file for part in re.split(r"\r(?!\n)", line))
        form = ""
        for number, line in enumerate(lines, start=1):
            if _COMMENT.match(line):
                form = "JSONL, comments left out"
            elif line.strip():
                yield _row_of_line(f"{path}:{number}", line, form)


def _several(whole: str) -> list[Any] | None:
    """The objects of a text that holds one after another, spread over lines; None where it holds anything else."""
    decoder = json.JSONDecoder(parse_int=_integer, parse_constant=_constant, object_pairs_hook=_object)
    found, at = [], 0
    try:
        while at < len(whole):
            value, at = decoder.raw_decode(whole, at)
            found.append(value)
            at = _BETWEEN.match(whole, at).end()  # type: ignore[union-attr]
    except (ValueError, RecursionError):
        return None
    return found


_BETWEEN = re.compile(r"[\s,]*")


def _document(path: Path, whole: str, *, is_row: bool) -> list[RawRow]:
    """The rows of one document.

    `is_row`: an object is the only row of JSONL.
    """
    mended = ""
    try:
        document = _load(whole)
    except json.JSONDecodeError:
        lines = [line for line in whole.splitlines(keepends=True) if not _COMMENT.match(line)]
        text = _STRING_OR_COMMA.sub(lambda found: "" if found.group() == "," else found.group(), "".join(lines))
        if text == whole:
            raise
        document, mended = _load(text), ", comments or needless commas left out"
    form, rows = _rows(document, is_row=is_row)
    form = f"{form}{mended}" if form else mended.removeprefix(", ")
    return [
        _checked(f"{path}, item {number}", row, json.dumps(row, default=str)[:200], form)
        for number, row in enumerate(rows)
    ]


CUT = "truncated_cells"
"""Where the Hub's viewer says which cells of a row it shows in part."""


def _rows(document: Any, *, is_row: bool) -> tuple[str, list[Any]]:
    """The rows of a document, and what it was taken for; no words for one row."""
    if isinstance(document, list):
        if document and all(isinstance(item, str) for item in document):
            return "a JSON array of texts, each a question", [{"question": item} for item in document]
        return "a JSON array", document
    if not isinstance(document, dict):
        return "", [document]
    columns, data = document.get("columns"), document.get("data")
    if isinstance(columns, list) and isinstance(data, list) and all(isinstance(row, list) for row in data):
        return "a table by rows (columns, data)", [dict(zip(columns, row, strict=False)) for row in data]
    if has_question(document):
        table = _table_by_columns(document)
        return ("", [document]) if table is None else ("a table by columns", table)
    if cells := _cells_by_number(document):
        return "a table by columns", cells
    return (None if is_row else _list_inside(document)) or _rows_by_id(document) or ("", [document])


def _table_by_columns(document: dict[str, Any]) -> list[Any] | None:
    """The rows of an object that has a list for each column, or an object of cells by their row; None for others."""
    values = list(document.values())
    texts = document[columns_for("text", document)[0]]
    is_table = isinstance(texts, list) and all(isinstance(text, str) for text in texts)
    if is_table and all(isinstance(v, list) and len(v) == len(texts) for v in values):
        return [dict(zip(document, cells, strict=True)) for cells in zip(*values, strict=True)]
    if all(isinstance(v, dict) for v in values) and all(v.keys() == values[0].keys() for v in values):
        return [{name: document[name][key] for name in document} for key in values[0]]
    return None


def _cells_by_number(document: dict[str, Any]) -> list[Any] | None:
    """The rows of a table as pandas' `to_json` writes it by default: each column an object of cells by row number."""
    first = next(iter(document.values()), None)
    numbers = list(first) if isinstance(first, dict) else []
    if numbers != [str(n) for n in range(len(numbers))] or not numbers:
        return None
    if not all(isinstance(cells, dict) and list(cells) == numbers for cells in document.values()):
        return None
    return [{name: cells[number] for name, cells in document.items()} for number in numbers]


def _list_inside(document: dict[str, Any]) -> tuple[str, list[Any]] | None:
    """The only list of rows that an object holds, and its name."""
    lists = {k: v for k, v in document.items() if k not in _DESCRIBING and isinstance(v, list) and v}
    tables = {k: v for k, v in lists.items() if all(isinstance(row, dict) and not is_message(row) for row in v)}
    holds_one = any(isinstance(value, dict) and has_question(value) for value in document.values())
    if len(tables) != 1 or holds_one:
        return None
    ((key, rows),) = tables.items()
    if all(isinstance(row.get("row"), dict) for row in rows):  # as the Hub's viewer gives them
        rows = [row["row"] | {CUT: row[CUT]} if row.get(CUT) else row["row"] for row in rows]
    return f"the list {key!r} of a JSON object", rows


def _rows_by_id(document: dict[str, Any]) -> tuple[str, list[Any]] | None:
    values = list(document.values())
    if len(values) < 2 or not all(isinstance(v, dict) for v in values) or not set(values[0]).intersection(*values[1:]):
        return None
    return "a JSON object of rows by their ids", [{"id": k, **v} for k, v in document.items()]


def _row_of_line(where: str, line: str, form: str) -> RawRow:
    short = line.strip()[:200]
    if has_invalid_bytes(line):
        complaint, fix = complain_of_encoding("the line", line)
        return RawRow(where, None, complaint, printable(short), fix)
    try:
        return _checked(where, _load(line), short, form)
    except (ValueError, RecursionError) as error:
        broken = f"the line is not JSON: {error}"
    bare = line.strip()
    try:
        if bare.endswith(","):
            return _checked(where, _load(bare[:-1]), short, "JSONL with commas between its lines")
    except (ValueError, RecursionError):
        pass
    fix = f"It is a Python dictionary: write it with json.dumps. {MEND}" if bare.startswith("{'") else MEND
    return RawRow(where, None, broken, printable(short), fix)


def _checked(where: str, row: Any, short: str, form: str = "") -> RawRow:
    """The row as a RawRow; one that cannot be stored says why."""
    short = printable(short)
    if isinstance(row, list) and row and all(isinstance(item, dict) and is_message(item) for item in row):
        row, form = {"messages": row}, form or "lists of messages"
    if not isinstance(row, dict):
        fix = f'Write each row as {{"question": "...", "answer": "..."}}. {MEND}'
        return RawRow(where, None, f"the row is a {type(row).__name__}, not an object", short, fix)
    if fault := find_fault(row):
        return RawRow(where, None, fault, short)
    return RawRow(where, row, line=short, form=form)


def _integer(digits: str) -> Any:
    return int(digits) if len(digits) <= _MAX_DIGITS else TooLong(digits)


def _constant(name: str) -> None:
    """NaN is what pandas writes for an empty cell; infinity has no such meaning."""
    if name != "NaN":
        raise ValueError(f"{name} is no value of JSON")


def _object(pairs: list[tuple[str, Any]]) -> Any:
    found = dict(pairs)
    if len(pairs) == 1 and pairs[0][0].startswith("$number"):  # MongoDB's exports
        return pairs[0][1]
    if len(found) < len(pairs):
        raise ValueError(f"the key {repeated([key for key, _ in pairs])!r} stands twice in one object")
    return found


def _load(text: str) -> Any:
    return json.loads(text, parse_int=_integer, parse_constant=_constant, object_pairs_hook=_object)


def _is_json(line: str) -> bool:
    try:
        _load(line)
    except (ValueError, RecursionError) as error:
        return not isinstance(error, json.JSONDecodeError)
    return True
