r"""The second opinion: evaluate two LaTeX expressions at random points and compare the values.

What `expressions` cannot read as a whole (a word, a set, an unknown command) gets no opinion.

    >>> compare_numbers(r"\sqrt{2}/2", r"\frac{1}{\sqrt 2}"), compare_numbers("1/2004!", "1/2006!")
    ('same', 'different')
    >>> compare_numbers("2x - y = 1", "4x = 2 + 2y"), compare_numbers("[1, 2]", "(1, 2)")
    ('same', 'different')
    >>> compare_numbers(r"\sqrt{1/n}", r"\frac{1}{\sqrt{n}}"), compare_numbers(r"\sqrt{x^2}", "x")
    ('same', 'positive')
"""

from __future__ import annotations

import re
from contextlib import suppress
from random import Random
from typing import Any, Literal

import mpmath

from s1kit.grade.expressions import LAYOUT, Tree, Unreadable, constants, names, read
from s1kit.grade.values import DIGITS, NotReal, Point, real_value, value

Numeric = Literal["same", "positive", "close", "different", "unknown"]
"""`positive`: the same values where all variables are positive, and not, or not certainly, elsewhere; `close`: two
formulas with variables that may differ by the rounding of a decimal only.
"""

NUM_POINTS = 4
"""Random points at which expressions with variables are compared; twice as many where some variables are negative."""

_RELATION = re.compile(r"(?<![<>!:])=(?!=)")
_PROGRAMMED = re.compile(r"\d[eE][-+]?\d")
_NO_VALUE = (Unreadable, ArithmeticError, ValueError, TypeError, RecursionError)


def compare_numbers(one: str, other: str) -> Numeric:
    """Whether two expressions, equations, or tuples of expressions have the same values."""
    mpmath.mp.dps = DIGITS
    try:
        return _compare(LAYOUT.sub("", one), LAYOUT.sub("", other))
    except _NO_VALUE:
        return "unknown"


def certainly_different(one: str, other: str) -> bool:
    """Whether both are expressions of numbers alone and their values differ: no second opinion is needed then.

    >>> certainly_different("4", r"4\\sqrt(2)"), certainly_different("2x", "3x")
    (True, False)
    """
    if _PROGRAMMED.search(one + " " + other):
        return False
    mpmath.mp.dps = DIGITS
    try:
        trees = [read(text) for text in (one, other)]
        if any(names(tree) for tree in trees):
            return False
        worst = _distance(*(value(tree, {}) for tree in trees))
    except _NO_VALUE:
        return False
    return bool(worst > (1e-2 if "." in one + other else 1e-12))


def is_exact_value(expression: str, decimal: str) -> bool:
    r"""Whether an exact expression of numbers has the value that a decimal of two places or more rounds or cuts off.

    >>> is_exact_value(r"\pi", "3.14159"), is_exact_value(r"\pi", "3.15"), is_exact_value("3.14159", "3.14")
    (True, False, False)
    """
    match = re.fullmatch(r"-?\d*\.(\d{2,12})", decimal.strip())
    if not match or "." in expression:
        return False
    mpmath.mp.dps = DIGITS
    try:
        tree = read(expression)
        found = mpmath.mpf("nan") if names(tree) else value(tree, {})
        scaled, stated = found * 10 ** len(match[1]), mpmath.mpf(decimal) * 10 ** len(match[1])
        return bool(mpmath.im(found) == 0 and round(stated) in (mpmath.nint(scaled), mpmath.floor(abs(scaled))))
    except _NO_VALUE:
        return False


_DECIMAL = re.compile(r"(?<![\d.])\d*\.\d{2,}")
MAX_DECIMALS = 8
"""Decimals of a formula at most that are tried for what their rounding changes."""


def is_rounded_from(rounded: str, expression: str) -> bool:
    r"""Whether a formula with variables or `i` is an exact expression whose numbers are rounded in their last places.

    Each of its decimals has two places or more and three digits or more.

    >>> is_rounded_from("0.333x + 1.414", r"\frac{x}{3} + \sqrt{2}"), is_rounded_from("0.333x", r"\frac{x}{2}")
    (True, False)
    """
    sides = [text.rpartition("=") for text in (rounded, expression)]
    if "." in expression or sides[0][0].replace(" ", "") != sides[1][0].replace(" ", ""):
        return False
    text = sides[0][2]
    decimals = list(_DECIMAL.finditer(text))
    if not 0 < len(decimals) <= MAX_DECIMALS or text.count(".") > len(decimals):
        return False
    if any(len(decimal[0].replace(".", "").lstrip("0")) < 3 for decimal in decimals):
        return False
    mpmath.mp.dps = DIGITS
    try:
        exact, tree = read(sides[1][2]), read(text)
        if not names(tree) and "i" not in constants(tree):
            return False
        moved = []
        for decimal in decimals:
            half = mpmath.mpf(10) ** -len(decimal[0].rpartition(".")[2]) / 2
            other = mpmath.nstr(mpmath.mpf(decimal[0]) + half, DIGITS - 5)
            moved.append(read(f"{text[: decimal.start()]}{other}{text[decimal.end() :]}"))
        for point in _points(sorted(names(exact) | names(tree))):
            here = value(tree, point)
            if abs(here - value(exact, point)) > sum(abs(value(one, point) - here) for one in moved):
                return False
    except _NO_VALUE:
        return False
    return True


def _compare(one: str, other: str) -> Numeric:
    parts = [_parts(text) for text in (one, other)]
    if parts[0] and parts[1]:
        (opening, mine), (other_opening, theirs) = parts[0], parts[1]
        if opening != other_opening or len(mine) != len(theirs):
            return "different"
        return _all([_compare(a, b) for a, b in zip(mine, theirs, strict=True)])
    sides = [_RELATION.split(text) for text in (one, other)]
    if len(sides[0]) == len(sides[1]) == 2:
        return _compare_equations(sides[0], sides[1])
    if len(sides[0]) > 1 or len(sides[1]) > 1:
        raise Unreadable("=")
    return _compare_expressions(read(one), read(other), "." in one + other)


def _parts(text: str) -> tuple[str, list[str]] | None:
    """The two brackets and the elements of a tuple or an interval; None for anything else."""
    text = text.strip()
    if len(text) < 2 or text[0] not in "([" or text[-1] not in ")]":
        return None
    parts, depth, start = [], 0, 1
    for at, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and at < len(text) - 1:
            return None
        if character == "," and depth == 1:
            parts.append(text[start:at])
            start = at + 1
    return (text[0] + text[-1], [*parts, text[start:-1]]) if parts else None


def _all(verdicts: list[Numeric]) -> Numeric:
    """The verdict on all elements: the least certain one, and `different` before any other."""
    order: tuple[Numeric, ...] = ("different", "unknown", "close", "positive", "same")
    return min(verdicts, key=order.index)


def _compare_equations(one: list[str], other: list[str]) -> Numeric:
    """Equations are the same when the differences of their sides are proportional."""
    trees = [("-", read(sides[0]), read(sides[1])) for sides in (one, other)]
    # "x = 3" and "x = 4" have one symbol: the differences x - 3 and x - 4 are no multiples of each other.
    ratios = []
    for point in _points(sorted(names(trees[0]) | names(trees[1])) or ["x"]):
        top, bottom = (value(tree, point) for tree in trees)
        if bottom == 0:
            raise Unreadable("zero")
        ratios.append(top / bottom)
    return "same" if all(_distance(ratio, ratios[0]) < 1e-12 for ratio in ratios) else "different"


def _compare_expressions(one: Tree, other: Tree, has_decimals: bool) -> Numeric:
    variables = sorted(names(one) | names(other))
    worst = max(_distance(value(one, point), value(other, point)) for point in _points(variables))
    if worst >= 1e-12:
        # A decimal may be rounded; only a clear difference counts then.
        is_near = has_decimals and worst < 1e-3
        return ("close" if variables else "unknown") if is_near else "different"
    return "same" if not variables or _same_where_real(one, other, variables) else "positive"


def _same_where_real(one: Tree, other: Tree, variables: list[str]) -> bool:
    """Whether both have the same real values, and none at the same points, also where variables are negative."""
    evaluate = value if "i" in constants(one) | constants(other) else real_value
    for point in _points(variables, num=2 * NUM_POINTS, has_signs=True):
        found: list[Any] = [None, None]
        for at, tree in enumerate((one, other)):
            with suppress(NotReal):
                found[at] = evaluate(tree, point)
        if (found[0] is None) != (found[1] is None) or (found[0] is not None and _distance(*found) >= 1e-12):
            return False
    return True


def _distance(one: Any, other: Any) -> Any:
    """The relative distance of two values; 0 or infinity where one is not finite."""
    largest = max(abs(one), abs(other))
    if not mpmath.isfinite(one) or not mpmath.isfinite(other):
        return mpmath.mpf(0) if one == other else mpmath.inf
    return abs(one - other) / largest if largest else mpmath.mpf(0)


def _points(variables: list[str], num: int = NUM_POINTS, has_signs: bool = False) -> list[Point]:
    """Random points; all coordinates are positive unless `has_signs`."""
    random = Random(0)
    signs = (1, -1) if has_signs else (1,)
    return [
        {name: random.choice(signs) * mpmath.mpf(random.randint(10, 10**6)) / 100003 for name in variables}
        for _ in range(num if variables else 1)
    ]
