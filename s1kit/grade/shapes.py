r"""Whether two answers can be compared: their units, names and notation.

math-verify calls `-4 \le x < 0` and `[-4, 0)` different, and `12\text{ kg}` and `12\text{ g}` equal. Neither is known;
what is said here makes the grader abstain there.

>>> other_units(r"12\text{ kg}", r"12\text{ g}"), other_units("3 feet", "3 ft")
(True, False)
>>> unalike(r"-4 \le x < 0", "[-4, 0)"), unalike("[1, 2)", "[1, 2]")
('an inequality and brackets', '')
"""

from __future__ import annotations

import re
from typing import Literal

from s1kit.grade.lists import known_to_differ, same_value
from s1kit.grade.normalise import as_number
from s1kit.grade.units import unit_at_end
from s1kit.records import Verdict

_NAME = re.compile(r"^\s*\$?\s*([a-zA-Z])\s*(?:\(\s*([a-zA-Z])\s*\))?\s*=(?!=)[^=<>]+$")
_AND = re.compile(r"\\text\s*\{\s*,?\s*(?:and|or)\s*\}|\b(?:and|or)\b")
_WORDS = re.compile(r"\\text\s*\{[^{}]*[a-zA-Z]{3,}[^{}]*\}|(?<![\\a-zA-Z{\d])[a-zA-Z]{3,}(?![a-zA-Z\d])")
"""Words; the letters of a code such as `KLM42` are none."""


def other_units(answer: str, solution: str) -> bool:
    """Whether both state a unit, and not the same."""
    mine, right = unit_at_end(answer), unit_at_end(solution)
    return mine is not None and right is not None and mine[:2] != right[:2]


def other_names(answer: str, solution: str) -> bool:
    """Whether both name what they are the value of (`x = 3`, `y = 3`), and the names differ."""
    mine, right = _NAME.match(answer), _NAME.match(solution)
    return bool(mine and right and mine.groups() != right.groups())


def unalike(answer: str, solution: str) -> str:
    """Why two expressions that were judged different may still be equal; empty without such a reason."""
    one, other = (_AND.sub(",", text) for text in (answer, solution))
    for sort, (mine, right) in {
        "an inequality and brackets": (_is_inequality, _is_bracketed),
        "a matrix and brackets": (_is_matrix, _is_bracketed),
        r"\pm and a list": (lambda text: bool(re.search(r"\\pm(?![a-zA-Z])", text)), lambda text: "," in text),
        "radians and degrees": (lambda text: r"\pi" in text, lambda text: r"\circ" in text),
        "unit vectors and brackets": (lambda text: r"\mathbf" in text, _is_bracketed),
    }.items():
        if (mine(one) and right(other) and not mine(other)) or (mine(other) and right(one) and not mine(one)):
            return sort
    if one.count(",") == other.count(",") > 0 and _is_bracketed(one) != _is_bracketed(other):
        return "a list with and without brackets"
    if bool(_WORDS.search(one)) and not _WORDS.search(other) and not _is_bracketed(one):
        return "words and a formula"
    return ""


def num_values(normalised: str) -> int | None:
    """How many values an answer has: 1 for a number, n for one pair of brackets with n elements; None for the rest.

    >>> num_values("228.3"), num_values("(6,7)"), num_values("(1,2),(3,4)"), num_values("x+1"), num_values("(6)")
    (1, 2, None, None, None)
    """
    if as_number(normalised) is not None:
        return 1
    if len(normalised) < 5 or normalised[0] not in "([" or normalised[-1] not in ")]":
        return None
    depth, num = 0, 1
    for at, character in enumerate(normalised):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and at < len(normalised) - 1:
            return None
        num += character == "," and depth == 1
    return num if num > 1 else None


def top_level_parts(text: str) -> list[str]:
    """The elements of a list without brackets around it, split at commas, semicolons, `and` and `or`.

    >>> top_level_parts(r"1, (2, 3) \\text{ and } 4"), top_level_parts("[0, 1)")
    (['1', '(2, 3)', '4'], ['[0, 1)'])
    """
    text = re.sub(r",\s*,", ",", _AND.sub(",", text))
    parts, depth, start = [], 0, 0
    for at, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character in ",;" and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    return [part.strip() for part in [*parts, text[start:]] if part.strip()]


_DOTS = re.compile(r"\\(?:[lcv]?dots[bcmio]?)(?![a-zA-Z])|\.{2,}")


def compare_dots(mine: str, right: str) -> Verdict | Literal[""]:
    """What can be said of two normalised formulas that differ, where one has dots; empty where none has, or where the
    dots only say that the digits of a decimal repeat.

    Dots stand for terms that no parser knows: formulas are equal where the same terms are written out, and different
    where a term at the same place is.

    >>> compare_dots(r"1,3,5,\\ldots,2n-1", r"1,2,\\ldots,n"), compare_dots("1+2+...+n", "1+2+3+...+n")
    ('wrong', 'abstain')
    """
    if not _DOTS.search(mine) and not _DOTS.search(right):
        return ""
    if as_number(mine) is not None and as_number(right) is not None:
        return ""
    if _DOTS.sub("...", mine) == _DOTS.sub("...", right):
        return "correct"
    parts = [_DOTS.split(text) for text in (mine, right)]
    if len(parts[0]) != len(parts[1]) or len(parts[0]) != 2:
        return "abstain"
    (start, end), (other_start, other_end) = ([_terms(part) for part in each] for each in parts)
    differ = [known_to_differ(*pair) for pair in zip(start, other_start, strict=False)]
    if min(len(start), len(other_start)) > 1 and any(differ):
        return "wrong"
    if (
        min(len(end), len(other_end)) == 1
        and min(len(start), len(other_start)) > 1
        and known_to_differ(end[-1], other_end[-1])
    ):
        return "wrong"
    is_same = len(start) == len(other_start) and len(end) == len(other_end)
    pairs = [*zip(start, other_start, strict=False), *zip(end, other_end, strict=False)]
    separators = [set(re.findall(r"[,+:<]", text)) for text in (mine, right)]
    same = is_same and len(start) > 1 and separators[0] == separators[1] and all(same_value(*pair) for pair in pairs)
    return "correct" if same else "abstain"


def _terms(text: str) -> list[str]:
    """The terms of one side of the dots: between commas where there are any, else of the sum or the chain."""
    marks = "," if "," in text.strip(",") else "+:<,"
    parts, depth, start = [], 0, 0
    for at, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character in marks and depth <= 0:
            parts.append(text[start:at])
            start = at + 1
    return [part for part in [*parts, text[start:].strip(",")] if part]


_LEFT_NAME = re.compile(
    r"^\s*\$?\s*((?:∫|\\(?:int|sum|prod|lim)(?![a-zA-Z])|\\frac\{d|d/d)[^=]*|(?:\\?[a-zA-Z]+(?![a-zA-Z])(?:_(?:\{[^{}]*\}|\w|\\[a-zA-Z]+))?\s*){1,3}(?:\([a-zA-Z,\s]*\))?)\s*(?:=|\\in(?![a-zA-Z]))\s*(?=[^=<>]+$)"
)


def without_name(text: str, other: str) -> str:
    r"""`text` without the name of its value (`f(x) =`, `\angle A =`, `x \in`), where `other` names none.

    >>> without_name("f(x) = 2x", "2x"), without_name("y = 2x", "2x = y")
    ('2x', 'y = 2x')
    """
    return text if re.search(r"=|\\in(?![a-zA-Z])", other) else _LEFT_NAME.sub("", text, count=1)


def _is_inequality(text: str) -> bool:
    return bool(re.search(r"[<>]|\\(?:le|ge|leq|geq|leqslant|geqslant|lt|gt)(?![a-zA-Z])", text))


def _is_bracketed(text: str) -> bool:
    return bool(re.match(r"\s*(?:\\left)?\s*(?:\\\{|[(\[])", text)) and "," in text


def _is_matrix(text: str) -> bool:
    return bool(re.search(r"\\begin\s*\{[pbv]?matrix\}", text))
