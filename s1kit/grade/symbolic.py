"""Are two expressions equal? math-verify's opinion and that of `numeric`.

Imported in worker processes only: either can take for ever.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from math_verify import parse, verify

from s1kit.grade.numeric import Numeric, certainly_different, compare_numbers, is_exact_value, is_rounded_from

_QUANTIFIER = re.compile(r"\\(?:forall|exists)|\bfor (?:all|every|some)\b")
_OF_A_FUNCTION = re.compile(
    r"^(\s*[a-zA-Z]\s*\(\s*([a-zA-Z])\s*\)\s*=[^=<>]+?)[\s,]*(?:\\quad\s*)?(?:\\(?:text|mathrm)\s*\{\s*,?\s*)?"
    r"(?:for\s+(?:all|every|any|each)|\\forall)[^<>=]*$"
)
"""`f(x) = 2x for all real x`: a function's values are given for its whole domain anyway."""


def _with_constant_of(solution: str, answer: str) -> str:
    """The answer with the solution's name of a constant of integration: C in one book, c or A in the next."""
    for mine, theirs in (("C", "c"), ("c", "C"), ("A", "C"), ("A", "c"), ("K", "C"), ("k", "C")):
        named, other = (re.compile(rf"(?<![a-zA-Z\\]){name}(?=e\s*\^|[^a-zA-Z]|$)") for name in (mine, theirs))
        if named.search(answer) and other.search(solution) and not (named.search(solution) or other.search(answer)):
            return named.sub(theirs, answer)
    return answer


def _with_one_imaginary_unit(text: str, other: str) -> str:
    """`text` with `i` in place of `I`, as programs print the imaginary unit, where the other has `i` and no `I`."""
    named = {name: re.compile(rf"(?<![a-zA-Z\\_]){name}(?![a-zA-Z]{{2}})") for name in "iI"}
    is_printed = named["I"].search(text) and named["i"].search(other)
    return (
        named["I"].sub("i", text) if is_printed and not (named["i"].search(text) or named["I"].search(other)) else text
    )


def _same_right_sides(one: str, other: str) -> bool:
    """Whether two equations have the same left side, and right sides of the same value."""
    sides = [text.split("=") for text in (one, other)]
    if any(len(side) != 2 for side in sides) or not re.search("[a-zA-Z]", one.split("=")[0]):
        return False
    left = {re.sub(r"\\(?:mathrm|text|rm)(?![a-zA-Z])|[\s{}\\]", "", side[0]) for side in sides}
    return len(left) == 1 and compare_numbers(sides[0][1], sides[1][1]) == "same"


class Opinions(NamedTuple):
    """The verdicts of math-verify and of `numeric` on one pair."""

    verified: bool | None
    """math-verify's verdict; None when it could not read one of the two."""
    numeric: Numeric | Literal["certain"]
    """`certain`: the values of two expressions of numbers differ, and math-verify was not asked."""
    read_answer: str
    read_solution: str
    failure: str = ""


def compare(answer: str, solution: str) -> Opinions:
    """Both opinions on two LaTeX or plain expressions without delimiters; numbers alone need only one."""
    answer, solution = (_OF_A_FUNCTION.sub(r"\1", text) for text in (answer, solution))
    answer = _with_constant_of(solution, answer)
    answer, solution = _with_one_imaginary_unit(answer, solution), _with_one_imaginary_unit(solution, answer)
    if is_exact_value(answer, solution) or is_rounded_from(solution, answer):
        return Opinions(True, "same", answer, solution)
    if certainly_different(answer, solution):
        return Opinions(False, "certain", answer, solution)
    parsed = [parse(f"${text}$", parsing_timeout=0) for text in (answer, solution)]
    read = [str(p[0])[:200] if p else "" for p in parsed]
    if not parsed[0] or not parsed[1]:
        return Opinions(None, "unknown", *read)
    if _same_right_sides(answer, solution):
        return Opinions(True, "same", *read)
    verified = bool(verify(parsed[1], parsed[0], timeout_seconds=0))
    numeric = compare_numbers(answer, solution)
    if verified and bool(_QUANTIFIER.search(answer)) != bool(_QUANTIFIER.search(solution)):
        numeric = "different"  # math-verify drops quantifiers
    return Opinions(verified, numeric, *read)
