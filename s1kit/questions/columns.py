"""Rows to questions: finds the columns of question and solution, whatever they are called.

A row with both a worked solution and a short answer keeps both: `solution` is the worked one, and the short one is
`metadata["final_answer"]`, which is what grading compares with.

    >>> question_from({"problem": "1 + 1?", "solution": "It is two: 2.", "answer": 2}).metadata
    {'final_answer': '2'}
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from s1kit.errors import InputError, nearest
from s1kit.forcing.delimiters import split_thinking
from s1kit.questions.cells import parse_cell
from s1kit.questions.choices import CountsFromEither, first_number
from s1kit.questions.conversations import WHOLE
from s1kit.questions.files import find_files, read_rows_of
from s1kit.questions.json_rows import CUT
from s1kit.questions.media import refuse_media
from s1kit.questions.names import COLUMNS, columns_for, plain_name
from s1kit.questions.options import LETTERS
from s1kit.questions.raw_rows import Shaped
from s1kit.questions.references import aliases_in, distinct_answers
from s1kit.questions.rendered import without_template
from s1kit.questions.shapes import OWN, reshape
from s1kit.records import Question


class Reject(NamedTuple):
    """A row that is not a question, and why."""

    where: str
    complaint: str
    line: str


class _Read(NamedTuple):
    question: Question
    shape: str
    """How the row was read, for people."""
    counted: tuple[str, int] | None = None
    """As in `Shaped`."""


class WholeFile:
    """What all rows of a file tell about one: whether the numbers of its right options count from 0 or from 1."""

    def __init__(self, rows: Callable[[], Iterable[Mapping[str, Any]]]) -> None:
        self._rows = rows
        self._firsts: dict[tuple[str, int], int | None] = {}

    def first(self, column: str, num_options: int) -> int | None:
        """Whether a column counts options from 0 or from 1; None where the file does not tell."""
        key = (column, num_options)
        if key not in self._firsts:
            self._firsts[key] = first_number((row.get(column) for row in self._rows()), num_options)
        return self._firsts[key]


def question_from(
    row: Mapping[str, Any],
    columns: Mapping[str, str] | None = None,
    name: str = "",
    licence: str = "",
    file: WholeFile | None = None,
) -> Question:
    """Make a question of a row of any shape.

    `columns` maps `text`, `worked`, `answer`, `source`, `licence` or `domain` to the row's column (`solution` means
    `worked`), or to a place inside one such as `messages[0].content`; the others are found by their usual names, and
    known shapes (`s1kit.questions.shapes`) by themselves unless `text` is named. `file` is asked where one row does not
    tell. Raises InputError when there is no text, or a named column is missing.
    """
    return question_and_shape(row, columns, name, licence, file)[0]


def question_and_shape(
    row: Mapping[str, Any],
    columns: Mapping[str, str] | None = None,
    name: str = "",
    licence: str = "",
    file: WholeFile | None = None,
) -> tuple[Question, str]:
    """As `question_from`, and how the row was read, in words."""
    try:
        read = _read(row, columns, name, licence)
        told = read.counted
    except CountsFromEither as error:
        read, told = None, (error.column, error.num_options)
        if file is None or told[0] not in row or file.first(*told) is None:
            raise
    if told is None or file is None or told[0] not in row or (first := file.first(*told)) is None:
        assert read is not None
        return read.question, read.shape
    if read is None or first:
        letter = LETTERS[int(float(row[told[0]])) - first]
        read = _read({**row, told[0]: letter}, columns, name, licence)
    return read.question, f"{read.shape}, which counts from {first}"


def _read(row: Mapping[str, Any], columns: Mapping[str, str] | None, name: str, licence: str) -> _Read:
    named = {("worked" if key == "solution" else key): column for key, column in (columns or {}).items()}
    if unknown := sorted(named.keys() - COLUMNS.keys()):
        raise InputError(
            f"columns names {unknown[0]!r}", where="columns", fix=nearest(unknown[0], [*COLUMNS, "solution"])
        )
    if cut := row.get(CUT):
        raise InputError(
            f"the Hub's viewer shows {', '.join(map(str, cut)) if isinstance(cut, list) else cut!r:.80} in part",
            where=CUT,
            fix='Download the file of the data set itself, or name the set in the source: hub = "owner/name".',
        )
    shape, plain, counted = Shaped("", dict(row)) if "text" in named else reshape(row)
    values = {key: _value_at(row, column, key) for key, column in named.items()}
    found = dict(named)
    for key in COLUMNS.keys() - named.keys():
        free = (c for c in columns_for(key, plain) if c not in named.values())
        is_there = _may_be_asked if key == "text" else _is_there
        if (column := next((c for c in free if is_there(plain[c], c)), None)) is not None:
            found[key], values[key] = column, plain[column]
    text = without_template(_checked_text(row, values, found))
    if "text" not in named:
        refuse_media(row, text, found["text"])
        _refuse_second_question(plain, found["text"])
    given = {key: _as_text(values.get(key), found.get(key, "")) for key in COLUMNS if key != "text"}
    worked, answer = (value.strip() if (value := given[key]) else None for key in ("worked", "answer"))
    if worked is not None and str(answer).casefold() in _NO_ANSWERS:
        answer = None
    is_own = shape.startswith((OWN, WHOLE))
    conversation = {name: _objects(plain.get(name)) if is_own else () for name in ("messages", "tools")}
    metadata = _metadata(plain, {*found.values(), *(conversation if is_own else ())})
    if worked is not None and answer is not None and answer != worked:
        metadata["final_answer"] = answer
    try:
        question = Question(
            text=text,
            solution=worked if worked is not None else answer,
            source=given["source"] or name,
            licence=given["licence"] or licence,
            domain=given["domain"] or "",
            # Dates become text and NaN becomes null: JSON has neither.
            metadata=json.loads(json.dumps(metadata, default=str), parse_constant=lambda _: None),
            messages=conversation["messages"],
            tools=conversation["tools"],
        )
    except (ValidationError, UnicodeEncodeError) as error:
        raise InputError(f"the row is not a question: {error}", where=found["text"], fix="Correct the row.") from error
    told = shape or _described(found, values, plain)
    return _Read(question, f"{told}{'' if is_own else _said_beside(question)}", counted)


_BESIDE = ("system", "system_prompt", "tools", "contexts", "hint", "evidence")


def _said_beside(question: Question) -> str:
    """What a question may have been asked with and is not asked with, in words: a system message, tools, a hint."""
    there = {plain_name(name): name for name, value in question.metadata.items() if value not in (None, "", "[]", [])}
    beside = [there[plain_name(name)] for name in _BESIDE if plain_name(name) in there]
    return f", {' and '.join(beside)} kept as metadata" if beside else ""


def _checked_text(row: Mapping[str, Any], values: Mapping[str, Any], found: Mapping[str, str]) -> str:
    """The question's text. Raises InputError where no column holds it, and where its value is nothing that is asked."""
    if "text" not in found:
        raise InputError(
            f"no column holds the question; the columns are {_listed(row)}",
            where="columns",
            fix=_where_the_question_may_be(row),
        )
    text = values["text"]
    if not isinstance(text, str) or not any(map(str.isalnum, text)):
        raise InputError(
            f"the question in column {found['text']!r} is {text!r:.60}",
            where=found["text"],
            fix="A question is a text."
            + (" If the file is a table of columns, save it as one object a row." if isinstance(text, list) else ""),
        )
    return text


def _refuse_second_question(row: Mapping[str, Any], column: str) -> None:
    """Raises InputError where another column with a text has the same name but for case and signs."""
    others = (other for other in row if other != column and plain_name(other) == plain_name(column))
    if other := next((str(o) for o in others if isinstance(row[o], str) and row[o].strip()), ""):
        raise InputError(
            f"the columns {column!r} and {other!r} both may hold the question",
            where="columns",
            fix=f'Say which in the source, for example columns = {{ text = "{column}" }}.',
        )


def _metadata(row: Mapping[str, Any], used: Collection[str]) -> dict[str, Any]:
    """What the row has beside the question, its own `metadata` spread out and its id as `source_id`."""
    given = row.get("metadata")
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except json.JSONDecodeError:
            given = {"metadata": given}
    rest = {key: value for key, value in row.items() if key not in {*used, "metadata", "id"} and not _is_missing(value)}
    rest |= given if isinstance(given, dict) else {}
    if isinstance(rest.get("aliases"), str):
        rest["aliases"] = aliases_in(rest["aliases"])
    return rest | ({"source_id": row["id"]} if row.get("id") is not None else {})


def read_questions(
    pattern: str,
    columns: Mapping[str, str] | None = None,
    name: str = "",
    licence: str = "",
    rejects: list[Reject] | None = None,
    *,
    prepare: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None,
    shapes: Counter[str] | None = None,
) -> Iterator[Question]:
    """The questions of a file, or of the files of a glob.

    `prepare` may change a row, or leave it out with None. `shapes` counts how the rows were read, in words. A broken
    row is an InputError naming the file and line, or lands in `rejects` where that is given.
    """
    for path in find_files(pattern):
        stem = name or path.name.split(".")[0]
        file = WholeFile(lambda path=path: (raw.row for raw in read_rows_of(path) if raw.row is not None))  # type: ignore[misc]
        for raw in read_rows_of(path):
            complaint, fix = raw.complaint, raw.fix
            if raw.row is not None:
                try:
                    row = raw.row if prepare is None else prepare(raw.row)
                    if row is None:
                        continue
                    question, shape = question_and_shape(row, columns, stem, licence, file)
                    if shapes is not None:
                        shapes[f"{path.name}: {f'{raw.form}, ' if raw.form else ''}{shape}"] += 1
                    yield question
                    continue
                except InputError as error:
                    complaint, fix = error.what, error.fix
            if rejects is None:
                raise InputError(complaint, where=raw.where, fix=fix)
            rejects.append(Reject(raw.where, complaint, raw.line))


def _objects(value: Any) -> tuple[dict[str, Any], ...]:
    """Messages or tools of a record, which Parquet files hold as JSON texts."""
    return tuple(json.loads(item) if isinstance(item, str) else dict(item) for item in value or ())


def _described(found: Mapping[str, str], values: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    words = {"text": "question", "worked": "solution", "answer": "answer"}
    answer = values.get("answer")
    parts = ", all parts of a list" if isinstance(answer, list) and len(distinct_answers(answer)) > 1 else ""
    told = ", ".join(f"{words[key]} from {found[key]!r}" for key in words if key in found) + parts
    others = [name for name in row if name not in found.values() and name != "id"]
    if others and not {"worked", "answer"} & found.keys():
        told += f", no reference among {_listed(others, 5)}"
    return told


def _value_at(row: Mapping[str, Any], column: str, key: str) -> Any:
    """The value of a column, or at a path such as `a.b[0].c` inside one.

    >>> _value_at({"a": {"b": [{"c": 7}]}}, "a.b[0].c", "answer")
    7
    """
    if column in row:
        return row[column]
    value: Any = row
    for name, index in re.findall(r"([^.\[\]]+)|\[(-?\d+)\]", column):
        if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
            try:
                value = json.loads(value)
            except ValueError:
                value = None
        try:
            value = value[name] if name else value[int(index)]
        except (KeyError, IndexError, TypeError):
            raise InputError(
                f"there is no column {column!r}; the columns are {', '.join(map(str, row))}",
                where=f"columns.{key}",
                fix="Name one of them, or a place inside one such as messages[0].content.",
            ) from None
    return value


def _where_the_question_may_be(row: Mapping[str, Any]) -> str:
    """What to do where no column has a known name, as far as the row tells what kind of file it is."""
    lists = [name for name, value in row.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
    texts = [name for name, value in row.items() if isinstance(value, str)]
    prose = [name for name in texts if _is_prose(row[name])]
    inside = next(iter(_prose_inside(row)), "")
    if len(lists) == 1 and len(row) == 1 and inside:
        return f'Name the place inside it in the source, for example columns = {{ text = "{inside}" }}.'
    if lists and not any(len(row[name]) > 20 for name in texts):
        named = ", ".join(map(repr, lists))
        return f"It holds whole lists of objects ({named}): save the one with the questions as a file of its own."
    if not prose and inside:
        rows = inside.partition("[0]")[0]
        if rows != inside:
            return f"If each object in {rows!r} is a row, save that list as a file of its own."
        return f'Name the place in the source, for example columns = {{ text = "{inside}" }}.'
    if not texts:
        return "None of them is a text, so that this is no file of questions: token ids and settings cannot be asked."
    likely = sorted(prose or texts, key=lambda name: -len(row[name]))
    named = f'Name it in the source, for example columns = {{ text = "{likely[0]}" }}'
    asked = [name for name in prose if name in likely[:3] and not _is_reference(name)][:2]
    if len(asked) > 1:
        both = "\\n\\n".join(f"{{{name}}}" for name in asked)
        named += f', or make it of those columns that are asked, such as template = "{both}"'
    if any(re.search(r"\?\s*$|^-?\d[\d.,]*$", str(name)) for name in row):
        return f"If the first line is a row already, put a line of names above it: question,answer. {named}."
    return f"{named}."


def _is_prose(text: str) -> bool:
    """Whether a text is of several words, or asks something: ids and names are neither."""
    return re.search(r"\w\s+\w|[?\uff1f]\s*$", text) is not None


def _prose_inside(value: Any, place: str = "", depth: int = 6) -> Iterator[str]:
    """The places of texts of several words in the objects and lists of a row, each as `columns` takes it."""
    if isinstance(value, str) and _is_prose(value):
        yield place
    elif isinstance(value, dict) and depth:
        for name, inner in value.items():
            yield from _prose_inside(
                inner, f"{place}.{name}" if place else str(name), depth - (not isinstance(inner, str))
            )
    elif isinstance(value, list) and value and depth:
        yield from _prose_inside(value[0], f"{place}[0]", depth - 1)


def _is_reference(column: Any) -> bool:
    return bool(columns_for("worked", [column]) or columns_for("answer", [column]))


def _listed(columns: Iterable[Any], most: int = 20) -> str:
    """Columns for a message: some of them, where there are very many."""
    names = list(map(str, columns))
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "") if names else "none"


_NO_ANSWERS = ("proof", "notfound")
"""What NuminaMath-1.5 has for the answer of a question that has none."""


_SAY_LITTLE = ("answers", "output", "reference", "expected", "targets", "inputs", "solutions")
_REPLIES = ("response", "completion", "output")


def _is_there(value: Any, column: str) -> bool:
    """Whether a column has a value; a model's reply with its thinking is a trace, and no reference.

    A name that says little, such as `output`, is one of a reference only where it holds a text or a number.
    """
    if column in _SAY_LITTLE and isinstance(value, list | dict):
        return False
    if column == "solutions" and str(value).lstrip().startswith("["):  # APPS: several programs in one text
        return False
    text = value.lstrip() if isinstance(value, str) else ""
    is_reply = column in _REPLIES or "</think>" in text or text.startswith(("<", "[", "◁"))
    return not _is_missing(value) and not (is_reply and split_thinking(str(value)).thinking)


_IMPORTS = re.compile(r"(?:\s*(?:from [\w.]+ )?import [^\n]+)+\s*")


def _may_be_asked(value: Any, column: str) -> bool:
    """Whether a column may hold the question: a program's imports ask nothing, nor do the values that it is given.

    >>> _may_be_asked("[4, 1], 'a'", "input"), _may_be_asked("Add 4 and 1.", "input")
    (False, True)
    """
    if isinstance(value, str) and _IMPORTS.fullmatch(value):
        return False
    return _is_there(value, column) and not (plain_name(column) in ("input", "inputs") and _is_values(value))


def _is_values(value: Any) -> bool:
    """Whether a text is nothing but numbers, lists or several quoted texts, as a program is called with."""
    try:
        values = ast.literal_eval(f"[{value.strip()}]") if isinstance(value, str) else [""]
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    return len(values) != 1 or not isinstance(values[0], str)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _as_text(value: Any, column: str = "") -> str | None:
    """Solutions come as numbers and lists, too. InputError for an object, whose right part nobody can know.

    >>> _as_text(7), _as_text(7.0), _as_text(["1", "2"]), _as_text(["4", "4\\n"]), _as_text(" ")
    ('7', '7', '1, 2', '4', None)
    """
    if _is_missing(value):
        return None
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(v, dict | list) for v in value)):
        part = f"{column}.{next(iter(value), 'value')}" if isinstance(value, dict) else f"{column}[0]"
        raise InputError(
            f"{column!r} is no text but {str(value)!r:.60}",
            where=column,
            fix=f'Name the part that is meant, for example columns = {{ answer = "{part}" }}.',
        )
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)  # a column of integers in which a cell is empty
    if isinstance(value, str) and value.startswith('["') and isinstance(one := parse_cell(value, column), list):
        value = one[0] if len(one) == 1 and isinstance(one[0], str) else value
    if isinstance(value, list):
        return ", ".join(distinct_answers([_as_text(v) or "" for v in value])) or None
    text = value if isinstance(value, str) else str(value)
    return text if text.strip() else None
