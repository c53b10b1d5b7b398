"""Rows of the files that people have: JSONL, JSON, CSV, Parquet and Arrow, compressed or not.

A row that cannot be read is named with its place and the rest of the file goes on.
"""

from __future__ import annotations

import csv
import lzma
import re
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Any

from s1kit.errors import InputError
from s1kit.questions.arrow_rows import read_arrow, read_parquet
from s1kit.questions.csv_rows import ANKI, read_csv
from s1kit.questions.json_rows import read_json
from s1kit.questions.names import has_question
from s1kit.questions.raw_rows import RawRow
from s1kit.questions.rows_inside import rows_inside
from s1kit.questions.unpacking import ENDINGS, open_text

KNOWN_ENDINGS = ".jsonl, .ndjson, .json, .csv, .tsv (each also .gz, .bz2, .xz, .zst), .parquet or .arrow"

_ADVICE = {
    (".xlsx", ".xls", ".ods"): "Save the sheet as CSV UTF-8.",
    (
        ".zip",
        ".tar",
        ".tgz",
        ".7z",
        ".rar",
    ): "Unpack it, and name the files inside, for example with a pattern such as *.csv.",
    (".txt", ".md"): "Put its questions in a CSV file with the line 'question' above them, or write one JSON object a "
    'line: {"question": "..."}.',
    (".lz4", ".br", ".lzma", ".z"): "Unpack it, or compress it as .gz, .bz2, .xz or .zst.",
    (
        ".yaml",
        ".yml",
        ".toml",
        ".avro",
        ".orc",
        ".h5",
        ".rds",
        ".dta",
        ".sav",
    ): "Save its rows as JSONL, CSV or Parquet.",
    (".pkl", ".pickle", ".pt"): "Such files can run code and are not read. Save the table as Parquet or JSONL.",
}


_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a pointer of Git LFS", "Get the file itself: git lfs pull, or download it by hand."),
    (b"<!doctype html", "a web page", "Download the file itself: 'Raw' on GitHub, the arrow beside a file on the Hub."),
    (b"<html", "a web page", "Download the file itself: 'Raw' on GitHub, the arrow beside a file on the Hub."),
    (b"<?xml", "an XML document, perhaps an error of the server", "Open it in an editor; give CSV, JSONL or Parquet."),
    (b"pk\x03\x04", "a zip archive or an Excel sheet", "Unpack it; save a sheet as CSV UTF-8."),
    (b"\xd0\xcf\x11\xe0", "an old Excel sheet", "Save the sheet as CSV UTF-8."),
    (b"%pdf-", "a PDF", "Put its questions into a CSV file."),
    (
        b"sqlite format 3",
        "an SQLite database",
        "Export the table as CSV: sqlite3 -csv -header FILE 'SELECT * FROM ...'.",
    ),
)
"""What files are that say so in their first bytes, whatever they are called, and what to do about it."""


def _refuse_other_kinds(path: Path, start: bytes) -> None:
    for sign, kind, fix in _SIGNATURES:
        if start.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(sign):
            raise InputError(f"{path.name} is {kind}", where=str(path), fix=fix)


def find_files(pattern: str) -> list[Path]:
    """The files that a path or glob names, sorted; InputError when there is none."""
    pattern = str(Path(pattern).expanduser()) if pattern.startswith("~") else pattern
    paths = [Path(pattern)] if Path(pattern).exists() else sorted(Path(p) for p in glob(pattern))
    files = [p for p in paths if p.is_file()]
    if not files and paths:
        fix = f"Name the files in it, for example {pattern.rstrip('/')}/*.arrow."
        raise InputError(f"{pattern!r} is a folder", where="path", fix=fix)
    if not files:
        raise InputError(f"there is no file {pattern!r}", where="path", fix=_of_the_hub(pattern))
    return files


_HUB_PAGE = re.compile(r"https?://(?:huggingface\.co|hf-mirror\.com|hf\.co)/datasets/([\w.-]+/[\w.-]+)")
_HUB_NAME = re.compile(r"[A-Za-z][\w-]*/[\w-]+(?:\.\d[\w.-]*)?", re.ASCII)


def _of_the_hub(name: str) -> str:
    """What to do about a name that is no file: it may be an address, or a data set of the Hub."""
    if page := _HUB_PAGE.match(name):
        return f'It is a page of the Hub: write hub = "{page[1]}" in place of path.'
    if name.startswith(("http://", "https://")):
        return "Files are read from disks: download it, and name it here."
    if _HUB_NAME.fullmatch(name):
        return f'For a data set of the Hub, write hub = "{name}" in place of path.'
    return f"Give a file that ends in {KNOWN_ENDINGS}."


def read_rows_of(path: Path) -> Iterator[RawRow]:
    """The rows of one file, broken ones included. Raises InputError for a file that cannot be read at all."""
    name = path.name.lower()
    while name.endswith(ENDINGS):
        name = name.rpartition(".")[0]
    try:
        with path.open("rb") as file:
            start = file.read(64)
        _refuse_other_kinds(path, start)
        if start.startswith(b"PAR1") or name.endswith((".parquet", ".pq")):
            rows = read_parquet(path)
        elif start.startswith(b"ARROW1") or name.endswith((".arrow", ".feather", ".ipc")):
            rows = read_arrow(path)
        elif name.endswith((".jsonl", ".ndjson", ".json", ".jl")) or (not name.endswith(_TABLES) and _is_json(path)):
            rows = read_json(path)
        elif name.endswith(_TABLES) or (name.endswith(".txt") and (start.startswith(ANKI) or _is_table(path))):
            rows = read_csv(path, is_tsv=not name.endswith(".csv"))
        else:
            advice = next((a for endings, a in _ADVICE.items() if name.endswith(endings)), f"Known: {KNOWN_ENDINGS}.")
            raise InputError(f"{path.name} has an unknown ending", where=str(path), fix=advice)
        for row in rows:
            yield from rows_inside(row)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, lzma.LZMAError) as error:
        raise InputError(f"the file cannot be read: {error}", where=str(path), fix="Give a readable file.") from error


_TABLES = (".csv", ".tsv", ".tab")


def _is_json(path: Path) -> bool:
    """Whether a file begins as a JSON object, or as an array of objects: a text may begin with a bracket."""
    with open_text(path) as file:
        return re.match(r"\s*(?:\[\s*)?\{\s*[\"}]", file.read(64)) is not None


def _is_table(path: Path) -> bool:
    """Whether a file begins with names of columns between tabs, as Excel's text files do."""
    with open_text(path) as file:
        header = file.readline(10_000)
    return "\t" in header and has_question(header.strip().split("\t"))


def whole_rows(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """The rows of one file, each with its place. Raises InputError, naming the place, at the first broken one."""
    for raw in read_rows_of(path):
        if raw.row is None:
            raise InputError(raw.complaint, where=raw.where, fix="Correct or delete that line.")
        yield raw.row, raw.where
