"""Rows to questions: finds the columns of question and solution, whatever they are called.

A row with both a worked solution and a short answer keeps both: `solution` is the worked one, and the short one is
`metadata["final_answer"]`, which is what grading compares with.

    >>> question_from({"problem": "1 + 1?", "solution": "It is two: 2.", "answer": 2}).metadata
    {'final_answer': '2'}
"""

from __future__ import annotations

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


class WholeFile:
    """What all rows of a file tell about one: whether the numbers of its right options count from 0 or from 1."""

    def __init__(self, rows: Callable[[], Iterable[Mapping[str, Any]]]) -> None:
        self._rows = rows
        self._firsts: dict[tuple[str, int], int | None] = {}

    def settle(self, row: Mapping[str, Any], error: CountsFromEither) -> dict[str, Any] | None:
        """The row with the letter of its right option; None where the file does not tell."""
        key = (error.column, error.num_options)
        if key not in self._firsts:
            self._firsts[key] = first_number((row.get(error.column) for row in self._rows()), error.num_options)
        first = self._firsts[key]
        if first is None or error.column not in row:
            return None
        return {**row, error.column: LETTERS[int(row[error.column]) - first]}


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
        return _read(row, columns, name, licence)
    except CountsFromEither as error:
        settled = file.settle(row, error) if file is not None else None
        if settled is None:
            raise
        question, shape = _read(settled, columns, name, licence)
        first = int(row[error.column]) - LETTERS.index(settled[error.column])
        return question, f"{shape}, which counts from {first}"


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
    shape, plain = ("", dict(row)) if "text" in named else reshape(row)
    values = {key: _value_at(row, column, key) for key, column in named.items()}
    found = dict(named)
    for key in COLUMNS.keys() - named.keys():
        free = (c for c in columns_for(key, plain) if c not in named.values())
        if (column := next((c for c in free if _is_there(plain[c], c)), None)) is not None:
            found[key], values[key] = column, plain[column]
    text = without_template(_checked_text(row, values, found))
    if "text" not in named:
        refuse_media(row, text, found["text"])
        _refuse_second_question(plain, found["text"])
    given = {key: _as_text(values.get(key), found.get(key, "")) for key in COLUMNS if key != "text"}
    worked, answer = given["worked"], given["answer"].strip() if given["answer"] else None
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
    return _Read(question, f"{shape or _described(found, values)}{'' if is_own else _said_beside(question)}")


_BESIDE = ("system", "system_prompt", "tools")


def _said_beside(question: Question) -> str:
    """What a question was asked under and is not asked with, in words: a system message, tools."""
    beside = [name for name in _BESIDE if question.metadata.get(name) not in (None, "", "[]", [])]
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


def _described(found: Mapping[str, str], values: Mapping[str, Any]) -> str:
    words = {"text": "question", "worked": "solution", "answer": "answer"}
    answer = values.get("answer")
    parts = ", all parts of a list" if isinstance(answer, list) and len(distinct_answers(answer)) > 1 else ""
    return ", ".join(f"{words[key]} from {found[key]!r}" for key in words if key in found) + parts


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
    names = [name for name, value in row.items() if isinstance(value, str)]
    texts = sorted(names, key=lambda name: -len(row[name]))
    if len(lists) == 1 and len(row) == 1 and (inside := _likeliest(row[lists[0]][0])):
        return f'Name the place inside it in the source, for example columns = {{ text = "{lists[0]}[0].{inside}" }}.'
    if lists and not any(len(row[name]) > 20 for name in texts):
        named = ", ".join(map(repr, lists))
        return f"It holds whole lists of objects ({named}): save the one with the questions as a file of its own."
    if not texts:
        return "None of them is a text, so that this is no file of questions: token ids and settings cannot be asked."
    named = f'Name it in the source, for example columns = {{ text = "{texts[0]}" }}'
    asked = [name for name in names if name in texts[:3] and not _is_reference(name)][:2]
    if len(asked) > 1:
        both = "\\n\\n".join(f"{{{name}}}" for name in asked)
        named += f', or make it of those columns that are asked, such as template = "{both}"'
    if any(re.search(r"\?\s*$|^-?\d[\d.,]*$", str(name)) for name in row):
        return f"If the first line is a row already, put a line of names above it: question,answer. {named}."
    return f"{named}."


def _is_reference(column: Any) -> bool:
    return bool(columns_for("worked", [column]) or columns_for("answer", [column]))


def _likeliest(row: Mapping[str, Any]) -> str:
    """The column with the longest text, to name in an error; empty where none is a text."""
    texts = {key: len(value) for key, value in row.items() if isinstance(value, str)}
    return max(texts, key=lambda key: texts[key], default="")


_NAMED_COLUMNS = 20


def _listed(row: Mapping[str, Any]) -> str:
    """The columns of a row for a message: some of them, where there are very many."""
    names = list(map(str, row))
    more = len(names) - _NAMED_COLUMNS
    return ", ".join(names[:_NAMED_COLUMNS]) + (f" and {more} more" if more > 0 else "") if names else "none"


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
    is_reply = column in _REPLIES or (isinstance(value, str) and "</think>" in value)
    return not _is_missing(value) and not (is_reply and split_thinking(str(value)).thinking)


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
