"""The options of a multiple-choice row in whatever layout they stand, and the letter of the right one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from s1kit.errors import InputError
from s1kit.questions.cells import parse_cell

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_LABEL_NAMES = ("label", "key", "letter", "id", "option", "identifier", "index", "aid")
_TEXT_NAMES = ("text", "value", "content", "answer", "option_text", "description", "atext")
_RIGHT_FLAGS = ("is_correct", "correct", "isCorrect", "is_answer", "iscorrect")
_MARK = re.compile(r"^\s*(?:\(\s*([A-Za-z])\s*\)|([A-Za-z])\s?[).:])\s*")
_MARKS_IN_TEXT = re.compile(r"(?:^|[\n,;]|(?<=\s))\s*(?:\(\s*([A-Za-z])\s*\)|([A-Za-z])\s?[).:])\s*")


class ChoiceOptions(NamedTuple):
    """The texts of the options, and what the row calls each: letters, numbers, or its own labels."""

    texts: list[str]
    labels: list[str]
    given: list[Any]
    """As they stand in the row."""
    right: list[int]
    """Places of the right ones, where the options themselves say so."""


def read_options(value: Any, column: str) -> ChoiceOptions | None:
    """Options from a list of texts or objects, an object of texts by label, or one text; None where it holds none.

    >>> read_options("a ) 38 , b ) 27.5 , c ) 30", "options").texts
    ['38', '27.5', '30']
    >>> read_options([{"key": "x", "value": "4"}, {"key": "y", "value": "7"}], "options").labels
    ['x', 'y']
    """
    value = parse_cell(value, column)
    if isinstance(value, list) and value and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
        value = dict(value)  # Parquet's maps
    if isinstance(value, list) and all(isinstance(one, list) and len(one) == 1 for one in value):
        value = [one[0] if isinstance(one[0], Mapping) else one for one in value]  # TAL-SCQ5K
    labels: list[str] = []
    right: list[int] = []
    if isinstance(value, str):
        value = _split(value)
    elif isinstance(value, Mapping):
        value, labels, right = _of_an_object(value)
    elif isinstance(value, list) and value and all(isinstance(option, Mapping) for option in value):
        value, labels, right = _of_objects(value)
    while isinstance(value, list) and value and value[-1] is None:  # rows of a table that have fewer options
        value = value[:-1]
    if not isinstance(value, list) or not 2 <= len(value) <= len(LETTERS):
        return None
    if any(isinstance(option, list | Mapping) for option in value):
        return None
    labels = (labels or list(LETTERS))[: len(value)]
    return ChoiceOptions([_bare(str(option)) for option in value], labels, value, right)


_Listed = tuple[list[Any] | None, list[str], list[int]]
"""Options as they stand in a row, or None; their labels, where they have any; the places of those marked as right."""


def _of_an_object(value: Mapping[Any, Any]) -> _Listed:
    """Options of an object: lists of texts and labels or marks, texts by their letters, or scores by their texts."""
    if value and all(type(score) in (int, float) for score in value.values()):  # BIG-bench
        best = max(value.values())
        return list(value), [], [place for place, score in enumerate(value.values()) if score == best]
    lists = {name: given for name, given in value.items() if isinstance(given, list)}
    texts = next((lists[name] for name in ("text", "choices", "texts", "options", "answer_str") if name in lists), None)
    if texts is not None:
        names = ("label", "labels", "answer_id")
        marks = next((lists[name] for name in names if name in lists and len(lists[name]) == len(texts)), [])
        if marks and set(marks) <= {0, 1} and 1 in marks:
            return texts, [], [place for place, mark in enumerate(marks) if mark == 1]
        return texts, [str(mark) for mark in marks], []
    if value and all(re.fullmatch(r"[A-Za-z]|\d", str(name)) for name in value):
        kept = {str(name): text for name, text in value.items() if text is not None}
        return list(kept.values()), list(kept), []
    return None, [], []


def _of_objects(value: list[Mapping[str, Any]]) -> _Listed:
    """Options that are objects with a text each, and perhaps a label or a flag for the right one."""
    text = next((name for name in _TEXT_NAMES if all(name in option for option in value)), None)
    if text is None:
        return None, [], []
    label = next((name for name in _LABEL_NAMES if name != text and all(name in o for o in value)), None)
    right = [n for n, option in enumerate(value) if any(option.get(flag) is True for flag in _RIGHT_FLAGS)]
    return [option[text] for option in value], [str(option[label]) for option in value] if label else [], right


def _split(text: str) -> list[str] | None:
    """The options of one text, marked by letters in order: "A. x\nB. y", "(A) x (B) y", or lines "A x" and "B y"."""
    lines = text.strip().splitlines()
    if len(lines) > 1 and all(line.startswith(f"{letter} ") for line, letter in zip(lines, LETTERS, strict=False)):
        return [line[2:].strip() for line in lines]
    found: list[re.Match[str]] = []
    for mark in _MARKS_IN_TEXT.finditer(text):
        if (mark[1] or mark[2]).upper() == LETTERS[len(found)] and (found or not text[: mark.start()].strip()):
            found.append(mark)
        if len(found) == len(LETTERS):
            break
    if len(found) < 2:
        return None
    ends = [mark.start() for mark in found[1:]] + [len(text)]
    options = [text[mark.end() : end].strip(" \t\r\n,;") for mark, end in zip(found, ends, strict=True)]
    return options if all(options) else None


def _bare(option: str) -> str:
    """An option without the letter in front of it, as AQuA and CMMLU write them."""
    mark = _MARK.match(option)
    return option[mark.end() :].strip() if mark and (mark[1] or mark[2]).isupper() else option.strip()


def letter_of(answer: Any, options: ChoiceOptions, column: str) -> str:
    """The letter of the right option, or of several: "A, C". An index counts from 0, as in the published sets that have
    one. Raises InputError for an answer that is none of the options, or that may be two of them.
    """
    answer = parse_cell(answer, column)
    if isinstance(answer, list):
        places = sorted({_place(each, options, column) for each in answer})
    else:
        places = [_place(answer, options, column)]
    return ", ".join(LETTERS[place] for place in places)


def _place(answer: Any, options: ChoiceOptions, column: str) -> int:
    texts, labels = options.texts, options.labels
    if isinstance(answer, float) and answer.is_integer():  # a column of integers in which a cell is empty
        answer = int(answer)
    text = str(answer).strip()
    if isinstance(answer, int) and any(isinstance(option, int) for option in options.given):
        raise InputError(
            f"{column!r} is {answer}, which may be an index or one of the options",
            where=column,
            fix="Give the options as text, or the answer as a letter.",
        )
    by_text = [n for n, option in enumerate(texts) if text in (option, str(options.given[n]).strip())]
    by_index = [int(text)] if re.fullmatch(r"\d{1,2}", text) and int(text) < len(texts) else []
    by_label = [n for n, label in enumerate(labels) if text.strip("(). ").upper() == label.upper()]
    numbered = any(label.isdigit() for label in labels)
    if isinstance(answer, str) and (by_text or by_label):
        by_index = []
    elif numbered and by_label:  # the options have numbers of their own, which need not count from 0
        by_text, by_index = [], []
    elif isinstance(answer, int) and by_index:
        by_text, by_label = [], []
    by_letter = [LETTERS.index(text)] if numbered and len(text) == 1 and text in LETTERS[: len(texts)] else []
    found = by_label or by_text or by_index or by_letter or _by_letter_and_text(text, texts)
    if len(set(found)) != 1:
        raise InputError(
            f"{column!r} is {answer!r:.60}, which is none of the {len(texts)} options",
            where=column,
            fix="Give the right option's index from 0, its letter or its text.",
        )
    return found[0]


def _by_letter_and_text(answer: str, texts: Sequence[str]) -> list[int]:
    """The place of "(B) y" where the second option is y."""
    mark = _MARK.match(answer)
    place = LETTERS.find((mark[1] or mark[2]).upper()) if mark else -1
    return [place] if mark and place < len(texts) and answer[mark.end() :].strip() == texts[place] else []
