"""Are two expressions equal? math-verify's opinion, and a second one from numbers put in for the symbols.

Imported in worker processes only: both opinions can take for ever.
"""

from __future__ import annotations

import math
from random import Random
from typing import Any, Literal, NamedTuple

import sympy
from math_verify import parse, verify

NUM_POINTS = 4
"""Random points at which two expressions are compared."""

DIGITS = 30
"""Digits they are evaluated to."""

Numeric = Literal["same", "different", "unknown"]


class Opinions(NamedTuple):
    """What the two ways of comparing say."""

    verified: bool | None
    """math-verify's verdict; None when it could not read one of the two."""
    numeric: Numeric
    read_answer: str
    read_solution: str
    failure: str = ""


def compare(answer: str, solution: str) -> Opinions:
    """Both opinions on two LaTeX or plain expressions without delimiters."""
    parsed = [parse(f"${text}$", parsing_timeout=0) for text in (answer, solution)]
    read = [str(p[0])[:200] if p else "" for p in parsed]
    if not parsed[0] or not parsed[1]:
        return Opinions(None, "unknown", *read)
    verified = bool(verify(parsed[1], parsed[0], timeout_seconds=0))
    return Opinions(verified, _numeric(parsed[0][0], parsed[1][0]), *read)


def _numeric(one: Any, other: Any) -> Numeric:
    """Compare values at random points where both are plain expressions; unknown for equations, sets and tuples."""
    if not all(isinstance(e, sympy.Expr) for e in (one, other)):
        return "unknown"
    symbols = sorted(one.free_symbols | other.free_symbols, key=str)
    if one.free_symbols != other.free_symbols and len(symbols) > 4:
        return "unknown"
    random = Random(0)
    votes = []
    for _ in range(NUM_POINTS if symbols else 1):
        point = {symbol: sympy.Rational(random.randint(1, 10**6), 10**5 + 3) for symbol in symbols}
        values = [_value(e, point) for e in (one, other)]
        if values[0] is None or values[1] is None:
            return "unknown"
        votes.append(_close(values[0], values[1]))
    return "same" if all(votes) else "different"


def _value(expression: Any, point: dict[Any, Any]) -> complex | None:
    try:
        value = complex(expression.subs(point).evalf(DIGITS))
    except (TypeError, ValueError, OverflowError, ZeroDivisionError, ArithmeticError, AttributeError):
        return None
    return value if math.isfinite(value.real) and math.isfinite(value.imag) else None


def _close(one: complex, other: complex) -> bool:
    return abs(one - other) <= 1e-6 * max(abs(one), abs(other)) + 1e-300
