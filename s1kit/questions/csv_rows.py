"""Rows of CSV files as spreadsheets and scripts write them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from s1kit.errors import InputError
from s1kit.questions.names import has_question
from s1kit.questions.raw_rows import MEND, RawRow, printable, repeated
from s1kit.questions.unpacking import complain_of_encoding, has_invalid_bytes, open_text

TAB = "\t"
WHOLE_LINE = "\x1f"
"""The separator of a table of one column, in whose cells commas are text: a sign that no text holds."""
_CELL_LIMIT = 2**31 - 1
_LINES_ABOVE = 10
"""A header is looked for so far down: titles and comments stand above it."""


ANKI = b"#separator:"
"""What Anki's exports begin with, whatever they are called."""
_SEPARATORS = {"tab": TAB, "comma": ",", "semicolon": ";", "pipe": "|", "colon": ":", "space": " "}


class _Layout(NamedTuple):
    delimiter: str
    num_above: int
    """Lines above the header, or above the first row where the names are known."""
    form: str
    """How the file is read, in words; empty where that is the usual way."""
    is_spaced: bool = False
    """Whether a space follows each separator, so that quotes may open behind it."""
    names: tuple[str, ...] = ()
    """The names of the columns where the file tells them otherwise than by a header (Anki's `#columns:`)."""


def read_csv(path: Path, *, is_tsv: bool) -> Iterator[RawRow]:
    """The rows; separator and header line are found out. Raises InputError for two columns of one name."""
    limit = csv.field_size_limit(_CELL_LIMIT)
    try:
        with open_text(path) as file:
            layout = _layout(list(islice(file, _LINES_ABOVE)), is_tsv)
        with open_text(path) as file:
            for _ in range(layout.num_above):
                file.readline()
            reader = csv.reader(file, delimiter=layout.delimiter, skipinitialspace=layout.is_spaced)
            header = list(layout.names) or [name.strip() for name in next(reader, [])]
            if name := repeated([name for name in header if name]):
                fix = "Give each column a name of its own."
                if not has_question(header):
                    fix = f"If the line is a row already, put a line of names above it: question,answer. {fix}"
                raise InputError(f"two columns are called {name!r}", where=f"{path}:{layout.num_above + 1}", fix=fix)
            is_framed = layout.delimiter == "|" and len(header) > 2 and header[0] == header[-1] == ""  # Markdown
            num_rows, form = 0, layout.form
            has_index = len(header) > 1 and header[0] == "" and all(header[1:]) and "id" not in header
            while True:
                line = reader.line_num + layout.num_above + 1
                try:
                    cells = next(reader)
                except StopIteration:
                    if not num_rows and header and not has_question(header):
                        raise InputError(
                            f"the file holds one line, {', '.join(header)!r:.80}, and it names no question",
                            where=str(path),
                            fix="If it is a row already, put a line of names above it: question,answer.",
                        ) from None
                    return
                if is_framed:
                    cells = [cell.strip() for cell in cells]
                    cells = [] if all(set(cell) <= set(":-") for cell in cells) else cells
                if [cell.strip() for cell in cells] == header:
                    form = ", ".join(filter(None, [layout.form, "a repeated header left out"]))
                elif any(cells):
                    num_rows += 1
                    named = ["id", *header[1:]] if has_index and cells[0].isdigit() else header
                    yield _row(f"{path}:{line}", named, cells, form)
    finally:
        csv.field_size_limit(limit)


def _row(where: str, header: list[str], cells: list[str], form: str) -> RawRow:
    short = printable(str(dict(zip(header, cells, strict=False)))[:200])
    if has_invalid_bytes(bad := next((cell for cell in cells if has_invalid_bytes(cell)), "")):
        complaint, fix = complain_of_encoding("the row", bad)
        return RawRow(where, None, complaint, short, fix)
    if any(cell and not name for name, cell in zip(header, cells, strict=False)):
        return RawRow(where, None, "a cell stands in a column without a name", short)
    if len(cells) > len(header) and not any(cells[len(header) :]):
        cells = cells[: len(header)]  # empty cells at the end, as spreadsheets leave them
    if len(cells) != len(header):
        complaint = f"the row has {len(cells)} cells and the header {len(header)}"
        return RawRow(where, None, complaint, short, f"{_advice(header, cells)} {MEND}")
    if wrong := next(filter(_FORMULA_ERROR.fullmatch, cells), ""):
        return RawRow(where, None, f"a cell holds a spreadsheet's error {wrong}", short)
    cells = ["" if cell in _EMPTY else cell for cell in cells]
    named = {n: _FORMULA.sub(r"\1", c) for n, c in zip(header, cells, strict=True) if c != ""}
    return RawRow(where, named, line=short, form=form)


_EMPTY = ("#N/A", "#NV", "\\N")
"""An empty cell as spreadsheets write it, the German one too, and MySQL."""
_FORMULA_ERROR = re.compile(r"#\u00a1?[A-Z\u00c0-\u00dc]{3,}(?:/0)?[!?]")
"""A spreadsheet's error, in whatever language: #REF!, #DIV/0!, #BEZUG!, Google's #ERROR!."""
_FORMULA = re.compile(r'^="([^"]*)"$')
"""How exports keep a spreadsheet from taking a text for a number: ="007"."""


def _advice(header: list[str], cells: list[str]) -> str:
    if len(cells) < len(header) and "\n" in cells[-1]:
        return "A quote that opens in it is not closed: close it, or double a quote that belongs to the text."
    if any('\\"' in cell for cell in cells):
        return 'The file escapes quotes by a backslash: write "" inside of a cell, as CSV does.'
    return "Put quotes around cells that hold a separator."


def _layout(lines: list[str], is_tsv: bool) -> _Layout:
    usual = "\t" if is_tsv else ","
    if lines and lines[0].startswith(ANKI.decode()):
        return _anki(lines, usual)
    if lines and lines[0].startswith("sep=") and len(lines[0].strip("\r\n")) == 5:  # Excel's own hint
        return _Layout(lines[0][4], 1, _said(lines[0][4], usual))
    for number, line in enumerate(lines):
        sign = _delimiter(line, usual)
        if has_question([cell.strip() for cell in next(csv.reader([line], delimiter=sign), [])]):
            if all(above.startswith("#") or _num_cells(above, sign) <= 1 for above in lines[:number]):
                above = f"{number} line{'s' if number > 1 else ''} above the header left out" if number else ""
                return _Layout(
                    sign, number, ", ".join(filter(None, [_said(sign, usual), above])), _is_spaced(line, sign)
                )
            break
    titles = _num_titles(lines, usual)
    sign = _delimiter(lines[titles] if lines else "", usual)
    said = f"{titles} line{'s' if titles > 1 else ''} above the header left out" if titles else ""
    is_spaced = bool(lines) and _is_spaced(lines[titles], sign)
    return _Layout(sign, titles, ", ".join(filter(None, [_said(sign, usual), said])), is_spaced)


def _is_spaced(header: str, sign: str) -> bool:
    return sign in header and header.count(sign) == header.count(f"{sign} ")


def _anki(lines: list[str], usual: str) -> _Layout:
    """The layout that the first lines of an export of Anki tell (docs.ankiweb.net/importing/text-files.html)."""
    told: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.strip("\r\n").removeprefix("#").partition(":")
        if not line.startswith("#") or not colon:
            break
        told[name.strip().lower()] = value
    sign = _SEPARATORS.get(told["separator"].strip().lower(), told["separator"][:1] or usual)
    names = tuple(name.strip() for name in told.get("columns", "").split(sign)) if told.get("columns") else ()
    return _Layout(sign, len(told), ", ".join(filter(None, ["Anki's export", _said(sign, usual)])), names=names)


def _num_titles(lines: list[str], usual: str) -> int:
    """Lines above the header of a table whose names are not known: with separators, as a spreadsheet exports the title
    of a table, and with one cell or none."""
    number = 0
    while number < len(lines) - 1 and (sign := _delimiter(lines[number], usual)) in lines[number]:
        if _num_cells(lines[number], sign) > 1 or sign == WHOLE_LINE:
            break
        number += 1
    return number if number and number < len(lines) - 1 and _num_cells(lines[number], sign) > 1 else 0


def _num_cells(line: str, sign: str) -> int:
    return sum(bool(cell.strip()) for cell in next(csv.reader([line], delimiter=sign), []))


def _delimiter(line: str, usual: str) -> str:
    """The separator that stands most often in a line, outside quotes; without any the line is one cell."""
    bare = re.sub(r'"[^"]*"', "", line)
    counts = {sign: bare.count(sign) for sign in (usual, ",", ";", "\t", "|", "^")}
    sign = max(counts, key=lambda sign: counts[sign])
    return sign if counts[sign] or not bare.strip() else WHOLE_LINE


def _said(sign: str, usual: str) -> str:
    if sign == WHOLE_LINE:
        return "one column"
    return "" if sign == usual else f"CSV separated by {'tabs' if sign == TAB else sign}"
