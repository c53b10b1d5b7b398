"""Multiple-choice rows: options in a list, in columns of their own, or as right and wrong answers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from random import Random
from typing import Any, NamedTuple

from s1kit.errors import InputError
from s1kit.questions.cells import parse_cell
from s1kit.questions.names import plain_name, question_text

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Shaped(NamedTuple):
    """The question and reference found in a multiple-choice row."""

    name: str
    """What the row was taken for; empty when it is plain columns."""
    row: dict[str, Any]


_STEMS = ("question", "questionstem", "problem")
"""Plain names of the question where another column may be a text, too, such as a passage."""

_OPTION = re.compile(r"(?:option|choice|answer|ans|opt|op)?([a-j])|(?:option|choice|answer|ans|opt)(\d)")
"""The plain name of a column that holds one option."""


def _stem_column(row: dict[str, Any]) -> str:
    columns = {plain_name(column): column for column in row if isinstance(row[column], str)}
    return next((columns[name] for name in _STEMS if name in columns), question_text(row))


def options_list(row: dict[str, Any]) -> Shaped | None:
    """Rows with a list of options, and the right one as an index, a letter or a text."""
    stem_column = _stem_column(row)
    column = next((c for c in ("choices", "options", "endings") if row.get(c)), None)
    if not stem_column or column is None:
        return None
    given, labels = parse_cell(row[column], column), list(LETTERS)
    if isinstance(given, dict) and {"text", "label"} <= given.keys():
        given, labels = given["text"], [str(label) for label in given["label"]]
    elif isinstance(given, list) and all(isinstance(o, dict) and {"text", "label"} <= o.keys() for o in given):
        given, labels = [o["text"] for o in given], [str(o["label"]) for o in given]
    elif isinstance(given, dict) and given.keys() <= set(LETTERS):
        given, labels = list(given.values()), list(given)
    if not isinstance(given, list) or not 2 <= len(given) <= len(LETTERS):
        return None
    answer = _answer_column(row)
    options = [re.sub(r"^\(?[A-Z][).:]\s*", "", str(option)).strip() for option in given]
    letter = None if answer is None else _letter(row[answer], given, options, labels, answer)
    gone = {stem_column, column, answer, "answer", "answer_index", "answer_idx"}
    name = f"multiple choice ({column}{f', {answer}' if answer else ''})"
    stem = _without_choices(row[stem_column]) if stem_column == "query" else row[stem_column]
    return Shaped(name, _with_options(row, gone, stem, options, letter))


def _without_choices(query: str) -> str:
    """The passage and question of a prompt as AGIEval writes it (hails/agieval-sat-en), whose options stand in a list.

    >>> _without_choices("A passage. Q: Which? Answer Choices: (A)1 (B)2\\nA: Among A through B, the answer is")
    'A passage.\\n\\nWhich?'
    """
    stem = re.split(r"\s*Answer Choices:", query)[0]
    passage, asked, question = stem.rpartition("Q: ")
    return "\n\n".join(part.strip() for part in (passage, question) if part.strip()) if asked else stem


def _letter(answer: Any, given: Sequence[Any], options: Sequence[str], labels: Sequence[str], column: str) -> str:
    """The letter of the right option. An index counts from 0, as in all published sets that have one."""
    answer = parse_cell(answer, column)
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    text = str(answer).strip()
    by_text = [i for i, o in enumerate(options) if text == o]
    if isinstance(answer, int) and any(isinstance(option, int) for option in given):
        raise InputError(
            f"{column!r} is {answer}, which may be an index or one of the options",
            where=column,
            fix="Give the options as text, or the answer as a letter.",
        )
    by_index = [int(text)] if re.fullmatch(r"\d{1,2}", text) and int(text) < len(options) else []
    by_label = [i for i, label in enumerate(labels[: len(options)]) if text.strip("().").upper() == label.upper()]
    if isinstance(answer, str) and (by_text or by_label):
        by_index = []
    elif isinstance(answer, int) and by_index:
        by_text, by_label = [], []
    found = by_label or by_text or by_index
    if len(set(found)) != 1:
        raise InputError(
            f"{column!r} is {answer!r:.60}, which is none of the {len(options)} options",
            where=column,
            fix="Give the right option's index from 0, its letter or its text.",
        )
    return LETTERS[found[0]]


def _answer_column(row: dict[str, Any]) -> str | None:
    names = (
        *("answerindex", "answeridx", "answerkey", "answer", "correct", "correctanswer", "correctoption", "goldindex"),
        *("gold", "target", "label", "cop", "correctchoice", "answerletter", "key", "rightanswer", "solution"),
    )
    plain = {plain_name(column): column for column in row if row[column] is not None}
    return next((plain[name] for name in names if name in plain), None)


def lettered_columns(row: dict[str, Any]) -> Shaped | None:
    """Options in columns of their own (`A` to `D`, `Option 1`, `opa`); the right one as its letter, number or text.

    An integer counts from 0 where the columns have letters, and is the column's number where they have numbers.
    """
    columns: dict[str, str] = {}
    for column in row:
        if (found := _OPTION.fullmatch(plain_name(column))) and row[column] is not None:
            columns.setdefault((found[1] or found[2]).upper(), column)
    labels = sorted(columns)
    first = labels[0] if labels else ""
    if len(labels) < 2 or first not in ("A", "0", "1") or labels != [chr(ord(first) + i) for i in range(len(labels))]:
        return None
    rest = {key: value for key, value in row.items() if key not in columns.values()}
    stem_column, answer = _stem_column(rest), _answer_column(rest)
    if not stem_column or (first != "A" and answer is None):
        return None  # several answers to one question, and no options
    given = [str(row[columns[label]]).strip() for label in labels]
    letter = None
    if answer is not None:
        value = str(row[answer]) if first != "A" else row[answer]
        letter = _letter(value, given, given, labels, answer)
    said = f"{columns[labels[0]]} to {columns[labels[-1]]}{f', {answer}' if answer else ''}"
    return Shaped(
        f"multiple choice ({said})",
        _with_options(row, {*columns.values(), answer, stem_column}, row[stem_column], given, letter),
    )


def correct_and_incorrect(row: dict[str, Any]) -> Shaped | None:
    """A right answer and wrong ones, put in an order drawn from their texts: the same on every machine."""
    stem_column = _stem_column(row)
    right = next((c for c in ("Correct Answer", "correct_answer", "best_answer") if isinstance(row.get(c), str)), None)
    wrong = [c for c in row if re.fullmatch(r"Incorrect Answer \d|distractor_?\d|incorrect_answer_?\d", c)]
    if not stem_column or right is None:
        return None
    if isinstance(row.get("incorrect_answers"), list):
        gone, others = {"incorrect_answers", "correct_answers"}, row["incorrect_answers"]
    else:
        gone, others = set(wrong), [row[c] for c in wrong if row[c]]
    options = [str(row[right]).strip(), *(str(o).strip() for o in others)]
    if not 2 <= len(options) <= len(LETTERS):
        return None
    key = "\n".join([row[stem_column], *options])
    drawn = Random(hashlib.sha256(key.encode("utf-8")).hexdigest()[:16])
    order = sorted(range(len(options)), key=lambda _: drawn.random())
    letter = LETTERS[order.index(0)]
    gone |= {stem_column, right}
    name = f"multiple choice ({right} among wrong ones, shuffled)"
    return Shaped(name, _with_options(row, gone, row[stem_column], [options[i] for i in order], letter))


def _with_options(
    row: dict[str, Any], gone: Collection[str | None], stem: str, options: Sequence[str], letter: str | None
) -> dict[str, Any]:
    rest = {key: value for key, value in row.items() if key not in gone}
    lines = [f"({LETTERS[i]}) {option}" for i, option in enumerate(options)]
    context = take_context(rest, stem)
    rest["text"] = "\n".join([f"{context}{stem.strip()}", *lines])
    return rest | ({"final_answer": letter} if letter else {}) | {"kind": "choice"}


def take_context(rest: dict[str, Any], stem: str) -> str:
    """The passage that a question is about, taken out of the other columns; empty where there is none."""
    for column in ("context", "passage", "article", "support"):
        passage = rest.get(column)
        if isinstance(passage, str) and passage.strip() and column != "support":
            del rest[column]
            return "" if passage.strip() in stem else f"{passage.strip()}\n\n"
    return ""
