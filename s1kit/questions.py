"""Files of questions, whatever their columns are called: JSONL (also .gz), CSV, Parquet.

A row with both a worked solution and a short answer keeps both: `solution` is the worked one, and the short one is
`metadata["final_answer"]`, which is what grading compares with. Nothing here knows what a stage is.

    >>> question_from({"problem": "1 + 1?", "solution": "It is two: 2.", "answer": 2}).metadata
    {'final_answer': '2'}
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import IO, Any, NamedTuple

from pydantic import ValidationError

from s1kit.errors import InputError
from s1kit.records import Question

COLUMNS: dict[str, tuple[str, ...]] = {
    "text": ("text", "question", "problem", "prompt", "Question", "Problem", "question_content", "instruction"),
    "worked": ("solution", "worked_solution", "Solution", "rationale", "explanation"),
    "answer": ("final_answer", "answer", "Answer", "gold", "target", "label", "expected_answer"),
    "source": ("source", "source_type", "dataset"),
    "licence": ("licence", "license"),
    "domain": ("domain",),
}
"""Names under which each thing is looked for, the first found wins."""

_NOT_METADATA = {"metadata", "id"}


@dataclass(frozen=True)
class RawRow:
    """One row as it stands in a file."""

    where: str
    """`file:line`, or `file, row n` where a file has no lines."""
    row: dict[str, Any] | None
    """None when the line is broken."""
    complaint: str = ""
    line: str = ""
    """The broken line, shortened."""


class Reject(NamedTuple):
    """A row that is not a question, and why."""

    where: str
    complaint: str
    line: str


def find_files(pattern: str) -> list[Path]:
    """The files that a path or glob names, sorted; InputError when there is none."""
    paths = sorted(Path(p) for p in glob(pattern)) or ([Path(pattern)] if Path(pattern).exists() else [])
    files = [p for p in paths if p.is_file()]
    if not files:
        raise InputError(
            f"there is no file {pattern!r}", where="path", fix="Give a .jsonl, .jsonl.gz, .csv or .parquet file."
        )
    return files


def read_rows_of(path: Path) -> Iterator[RawRow]:
    """The rows of one file, broken ones included. InputError for a file that cannot be read at all."""
    name = path.name.removesuffix(".gz")
    try:
        if name.endswith((".jsonl", ".ndjson", ".json")):
            yield from _read_jsonl(path)
        elif name.endswith((".csv", ".tsv")):
            yield from _read_csv(path, "\t" if name.endswith(".tsv") else ",")
        elif name.endswith(".parquet"):
            yield from _read_parquet(path)
        else:
            raise InputError(
                f"{path.name} has an unknown ending", where=str(path), fix="Known: .jsonl, .jsonl.gz, .csv, .parquet."
            )
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"the file cannot be read: {error}", where=str(path), fix="Give a readable file.") from error


def _open_text(path: Path) -> IO[str]:
    if path.name.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8", newline="")


def _read_jsonl(path: Path) -> Iterator[RawRow]:
    with _open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where, short = f"{path}:{number}", line.strip()[:200]
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                yield RawRow(where, None, f"the line is not JSON: {error}", short)
                continue
            if isinstance(row, dict):
                yield RawRow(where, row, line=short)
            else:
                yield RawRow(where, None, f"the line is a {type(row).__name__}, not an object", short)


def _read_csv(path: Path, delimiter: str) -> Iterator[RawRow]:
    with _open_text(path) as file:
        reader = csv.DictReader(file, delimiter=delimiter)
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if None in row or None in row.values():
                yield RawRow(where, None, "the row has another number of cells than the header", str(row)[:200])
            else:
                yield RawRow(where, {k: v for k, v in row.items() if v != ""}, line=str(row)[:200])


def _read_parquet(path: Path) -> Iterator[RawRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    yield RawRow(f"{path}, row {number}", row, line=str(row)[:200])
                    number += 1
    except pa.ArrowInvalid as error:
        raise InputError(f"the file is not Parquet: {error}", where=str(path), fix="Give a Parquet file.") from error


def question_from(
    row: Mapping[str, Any], columns: Mapping[str, str] | None = None, name: str = "", licence: str = ""
) -> Question:
    """A row of any shape as a question.

    `columns` maps `text`, `worked`, `answer`, `source`, `licence` or `domain` to the row's column (`solution` means
    `worked`); the others are found by their usual names. Raises InputError when there is no text, or a named column
    is missing.
    """
    named = {("worked" if key == "solution" else key): column for key, column in (columns or {}).items()}
    found = {key: _find(row, key, named) for key in COLUMNS}
    text = found["text"]
    if text is None:
        raise InputError(
            f"no column holds the question; the columns are {', '.join(map(str, row)) or 'none'}",
            where="columns",
            fix='Name it, for example columns = { text = "problem" }.',
        )
    if not isinstance(row[text], str) or not row[text].strip():
        raise InputError(
            f"the question in column {text!r} is {row[text]!r:.60}", where=text, fix="A question is a text."
        )
    worked, answer = (_as_text(row.get(c)) if c is not None else None for c in (found["worked"], found["answer"]))
    used = {column for column in found.values() if column} | _NOT_METADATA
    metadata = {key: value for key, value in row.items() if key not in used and value is not None}
    own = row.get("metadata")
    metadata |= _parse_metadata(own)
    if "id" in row and row["id"] is not None:
        metadata["source_id"] = row["id"]
    if worked is not None and answer is not None and answer != worked:
        metadata["final_answer"] = answer
    given = {key: _as_text(row.get(c)) if (c := found[key]) else None for key in ("source", "licence", "domain")}
    try:
        return Question(
            text=row[text],
            solution=worked if worked is not None else answer,
            source=given["source"] or name,
            licence=given["licence"] or licence,
            domain=given["domain"] or "",
            metadata=json.loads(json.dumps(metadata, default=str)),
        )
    except (ValidationError, UnicodeEncodeError) as error:
        raise InputError(f"the row is not a question: {error}", where=text, fix="Mend the row.") from error


def read_questions(
    pattern: str,
    columns: Mapping[str, str] | None = None,
    name: str = "",
    licence: str = "",
    rejects: list[Reject] | None = None,
) -> Iterator[Question]:
    """The questions of a file, or of the files of a glob.

    A broken row is an InputError naming the file and line, or lands in `rejects` where that is given.
    """
    for path in find_files(pattern):
        stem = name or path.name.split(".")[0]
        for raw in read_rows_of(path):
            complaint = raw.complaint
            if raw.row is not None:
                try:
                    yield question_from(raw.row, columns, stem, licence)
                    continue
                except InputError as error:
                    complaint = error.what
                    fix = error.fix
            else:
                fix = "Mend or delete it, or go on without it with --allow-rejects."
            if rejects is None:
                raise InputError(complaint, where=raw.where, fix=fix)
            rejects.append(Reject(raw.where, complaint, raw.line))


def _find(row: Mapping[str, Any], key: str, named: Mapping[str, str]) -> str | None:
    if key in named:
        if named[key] not in row:
            raise InputError(
                f"there is no column {named[key]!r}; the columns are {', '.join(map(str, row))}",
                where=f"columns.{key}",
                fix="Name one of them.",
            )
        return named[key]
    taken = set(named.values())
    return next((c for c in COLUMNS[key] if c in row and c not in taken and row[c] is not None), None)


def _as_text(value: Any) -> str | None:
    """Solutions come as numbers and lists, too.

    >>> _as_text(7), _as_text(7.0), _as_text(["1", "2"]), _as_text(" ")
    ('7', '7.0', '1, 2', None)
    """
    if value is None:
        return None
    if isinstance(value, list):
        return ", ".join(str(v) for v in value) or None
    text = value if isinstance(value, str) else str(value)
    return text if text.strip() else None


def _parse_metadata(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return {"metadata": value}
    return dict(value) if isinstance(value, dict) else {}
