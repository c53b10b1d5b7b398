"""Multiple choice: the letter of an answer, whether it is given as a letter or as the option's text.

>>> options("Which is even?\\n(A) 3\\n(B) 4")
{'A': '3', 'B': '4'}
>>> letter("The answer is (B).", {})
'B'
"""

from __future__ import annotations

import re

from s1kit.grade.extract import final_answer, find_boxes
from s1kit.grade.normalise import normalise

MAX_LETTER = 40
"""Characters around a letter that is given as the whole solution."""

MAX_OPTION = 1000
"""Characters of an option's text."""

MAX_READ = 20000
"""Characters at an answer's end in which a letter is looked for."""

_OPTION = re.compile(
    r"(?:^|\n|\s{2,}|(?<=\s)|\\q?quad)\s*(?:\\(?:textbf|mathrm|text)\s*\{\s*)?\(?([A-J])\s*(?:\)\s*\}|\)|[.:](?=\s)|\}\s*\))"
)
_SPACE = re.compile(r"\s{3,}")
_LETTER_ALONE = re.compile(r"^\W*(?:\\(?:text|textbf|mathrm|mathbf)\s*\{)?\W*([A-Ja-j])\W*$")
_LETTER_FIRST = re.compile(r"^\W*(?:option|choice)?\W*([A-J])\s*(?:[).:,]|\}|$|\s[-–—])", re.IGNORECASE)
_BOLD = re.compile(r"\*\*\s*(\(?[A-J]\)?)\s*\*\*")
_LETTER_ANYWHERE = re.compile(
    r"(?<![A-Za-z])\(?([A-J])\)(?![A-Za-z])|(?:option|choice|answer)\s*(?:is\s*)?:?\s*\**\(?([A-J])\b"
)


def options(question: str) -> dict[str, str]:
    """The options of a question by letter; empty when there are not at least two in order."""
    # Long white space would make the pattern try each of its places against every other.
    question = _SPACE.sub(lambda match: "\n" if "\n" in match[0] else "  ", question)
    found: dict[str, str] = {}
    marks = list(_OPTION.finditer(question))
    expected = 0
    chosen = []
    for mark in marks:
        if ord(mark[1]) - ord("A") == expected:
            chosen.append(mark)
            expected += 1
    ends = [mark.start() for mark in chosen[1:]] + [len(question)]
    for mark, end in zip(chosen, ends, strict=False):
        found[mark[1]] = question[mark.end() : end].strip(" \n$\\")
    return found if len(found) >= 2 else {}


def is_letter(text: str) -> bool:
    """Whether a solution is the letter of an option and nothing else."""
    match = _LETTER_ALONE.match(text) if len(text) <= MAX_LETTER else None
    return bool(match) and match[1].isupper() if match else False


def letter(text: str, choices: dict[str, str]) -> str:
    """The letter that an answer chooses, or an empty string."""
    for candidate in _candidates(text):
        if len(candidate) > MAX_OPTION:
            continue
        if match := _LETTER_ALONE.match(candidate):
            return match[1].upper()
        if match := _LETTER_FIRST.match(candidate):
            return match[1].upper()
        spelled = normalise(candidate).casefold()
        same = [key for key, option in choices.items() if normalise(option).casefold() == spelled]
        if len(same) == 1:
            return same[0]
    named = {a or b for a, b in _LETTER_ANYWHERE.findall(text[-MAX_READ:])}
    return named.pop() if len(named) == 1 else ""


def _candidates(text: str) -> list[str]:
    """Where a letter is looked for, the most explicit place first."""
    boxes = [box for box in find_boxes(text) if box.strip()]
    stated = final_answer(text)
    bold = _BOLD.findall(text[-MAX_READ:])[-1:]
    return [*reversed(boxes), *([stated.text] if stated else []), text.strip(), *bold]
