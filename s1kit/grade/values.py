r"""The value of a parsed expression at a point.

>>> from s1kit.grade.expressions import read
>>> float(value(read(r"\sqrt{x}"), {"x": mpmath.mpf(4)})), float(real_value(read(r"\sqrt[3]{-8}"), {}))
(2.0, -2.0)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath

from s1kit.grade.expressions import Tree, Unreadable

DIGITS = 30
"""Decimal digits of a value."""

MAX_EXPONENT = 10**7
"""A power beyond it, and the factorial of a number beyond it, is not computed."""

Point = dict[str, Any]
"""The value of each variable."""

_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    **{
        f"\\{name}": getattr(mpmath, name)
        for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "exp")
    },
    "\\ln": mpmath.log,
    "\\log": mpmath.log,
    "\\arcsin": mpmath.asin,
    "\\arccos": mpmath.acos,
    "\\arctan": mpmath.atan,
}
_CONSTANTS = {"\\pi": mpmath.pi, "\\infty": mpmath.inf, "e": mpmath.e, "i": mpmath.mpc(0, 1)}


class NotReal(ArithmeticError):
    """Raised where a part of an expression has no real value: the root or the logarithm of a negative number."""


def value(tree: Tree, point: Point) -> Any:
    """The complex value, with principal branches of roots and logarithms. Raises Unreadable on numbers too large."""
    return _value(tree, point, is_real=False)


def real_value(tree: Tree, point: Point) -> Any:
    """The real value. Raises NotReal where any part of the expression has none."""
    return _value(tree, point, is_real=True)


def _value(tree: Tree, point: Point, is_real: bool) -> Any:
    match tree:
        case ("number", text):
            return mpmath.mpf(text)
        case ("constant", name):
            return +_CONSTANTS[name]
        case ("name", name):
            return point[name]
        case ("call", name, inside):
            return _real(_FUNCTIONS[name](_value(inside, point, is_real)), is_real)
        case ("!", inside):
            found = _value(inside, point, is_real)
            if abs(found) > MAX_EXPONENT:
                raise Unreadable("!")
            return mpmath.gamma(found + 1)
        case ("abs", inside):
            return abs(_value(inside, point, is_real))
        case (sign, left, right):
            left, right = _value(left, point, is_real), _value(right, point, is_real)
            if is_real and sign == "root" and left < 0 and right % 2 == 1:
                return -mpmath.power(-left, 1 / right)
            if is_real and sign == "^" and left < 0 and (odd := _odd_fraction(tree[2])):
                return (-1) ** odd * mpmath.power(-left, right)
            return _real(_apply(sign, left, right), is_real)
    raise Unreadable(str(tree[0]))


def _odd_fraction(exponent: Tree) -> int:
    """The numerator of an exponent such as 2/3, whose denominator is odd; 0 for any other exponent."""
    match exponent:
        case ("/", ("number", top), ("number", bottom)) if top.isdigit() and bottom.isdigit() and int(bottom) % 2:
            return int(top)
    return 0


def _real(found: Any, is_real: bool) -> Any:
    if is_real and mpmath.im(found) != 0:
        raise NotReal
    return found


def _apply(sign: str, left: Any, right: Any) -> Any:
    match sign:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/":
            return left / right
        case "root":
            return mpmath.power(left, 1 / right)
        case "binom":
            return mpmath.binomial(left, right)
    if abs(right) > MAX_EXPONENT:
        raise Unreadable("^")
    return mpmath.power(left, right)
