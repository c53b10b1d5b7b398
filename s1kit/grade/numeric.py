r"""The second opinion: read two LaTeX expressions with a small parser of our own, put numbers in, compare.

It shares no code with math-verify, so that the two err in different places. What it does not know for certain
(a word, a set, an unknown command) it does not read; then it has no opinion.

    >>> compare_numbers(r"\sqrt{2}/2", r"\frac{1}{\sqrt 2}"), compare_numbers("1/2004!", "1/2006!")
    ('same', 'different')
    >>> compare_numbers("2x - y = 1", "4x = 2 + 2y"), compare_numbers("[1, 2]", "(1, 2)")
    ('same', 'different')
"""

from __future__ import annotations

import re
from random import Random
from typing import Any, Literal

import mpmath

Numeric = Literal["same", "different", "unknown"]

NUM_POINTS = 4
"""Random points at which expressions with symbols are compared."""

DIGITS = 30
MAX_EXPONENT = 10**7
"""A power beyond it, and the factorial of a number beyond it, is not computed."""

_TOKEN = re.compile(r"\\[a-zA-Z]+|\d+(?:\.\d*)?|\.\d+|[a-zA-Z]|\S")
_FUNCTIONS = {
    **{
        f"\\{name}": getattr(mpmath, name)
        for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh")
    },
    "\\ln": mpmath.log,
    "\\exp": mpmath.exp,
    "\\log": mpmath.log,
    "\\arcsin": mpmath.asin,
    "\\arccos": mpmath.acos,
    "\\arctan": mpmath.atan,
}
_CONSTANTS = {"\\pi": mpmath.pi, "\\infty": mpmath.inf, "e": mpmath.e, "i": mpmath.mpc(0, 1)}
_DROPPED = re.compile(
    r"\\(?:left|right|displaystyle|limits|quad|qquad)(?![a-zA-Z])|\\[,;:! ]|"
    r"\\(?:mathrm|text|operatorname)(?=\{[a-zA-Z]\})"
)
_RELATION = re.compile(r"(?<![<>!:])=(?!=)")


class Unreadable(ValueError):
    """Raised on LaTeX that this parser does not support."""


def compare_numbers(one: str, other: str) -> Numeric:
    """Whether two expressions, equations, or tuples of expressions have the same values."""
    mpmath.mp.dps = DIGITS
    try:
        return _compare(_DROPPED.sub("", one), _DROPPED.sub("", other))
    except (Unreadable, ArithmeticError, ValueError, TypeError, RecursionError):
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
        trees = [_read(_DROPPED.sub("", text)) for text in (one, other)]
        if any(_names(tree) for tree in trees):
            return False
        worst = _closeness(*(_value(tree, {}) for tree in trees))
    except (Unreadable, ArithmeticError, ValueError, TypeError, RecursionError):
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
        tree = _read(_DROPPED.sub("", expression))
        value = mpmath.mpf("nan") if _names(tree) else _value(tree, {})
        scaled, stated = value * 10 ** len(match[1]), mpmath.mpf(decimal) * 10 ** len(match[1])
        return bool(mpmath.im(value) == 0 and round(stated) in (mpmath.nint(scaled), mpmath.floor(abs(scaled))))
    except (Unreadable, ArithmeticError, ValueError, TypeError, RecursionError):
        return False


_PROGRAMMED = re.compile(r"\d[eE][-+]?\d")


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
    return _compare_expressions(_read(one), _read(other), "." in one + other)


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
    if "different" in verdicts:
        return "different"
    return "same" if all(v == "same" for v in verdicts) else "unknown"


def _compare_equations(one: list[str], other: list[str]) -> Numeric:
    """Equations are the same when the differences of their sides are proportional."""
    trees = [("-", _read(sides[0]), _read(sides[1])) for sides in (one, other)]
    names = sorted(_names(trees[0]) | _names(trees[1]))
    if len(names) < 2:
        # "x = 3" and "x = 4" have one symbol: the differences x - 3 and x - 4 are no multiples of each other.
        names = names or ["x"]
    ratios = []
    for point in _points(names):
        top, bottom = (_value(tree, point) for tree in trees)
        if bottom == 0:
            raise Unreadable("zero")
        ratios.append(top / bottom)
    return "same" if all(_closeness(ratio, ratios[0]) < 1e-12 for ratio in ratios) else "different"


def _compare_expressions(one: Any, other: Any, has_decimals: bool) -> Numeric:
    names = sorted(_names(one) | _names(other))
    worst = max(_closeness(_value(one, point), _value(other, point)) for point in _points(names))
    if worst < 1e-12:
        return "same"
    # A decimal may be rounded; only a clear difference counts then.
    return "unknown" if has_decimals and worst < 1e-3 else "different"


def _closeness(one: Any, other: Any) -> Any:
    largest = max(abs(one), abs(other))
    if not mpmath.isfinite(one) or not mpmath.isfinite(other):
        return mpmath.mpf(0) if one == other else mpmath.inf
    return abs(one - other) / largest if largest else mpmath.mpf(0)


def _points(names: list[str]) -> list[dict[str, Any]]:
    random = Random(0)
    num = NUM_POINTS if names else 1
    return [{name: mpmath.mpf(random.randint(10, 10**6)) / 100003 for name in names} for _ in range(num)]


def _names(tree: Any) -> set[str]:
    if tree[0] == "name":
        return {tree[1]}
    return set().union(*(_names(part) for part in tree[1:] if isinstance(part, tuple)))


def _value(tree: Any, point: dict[str, Any]) -> Any:
    match tree:
        case ("number", text):
            return mpmath.mpf(text)
        case ("constant", name):
            return +_CONSTANTS[name]
        case ("name", name):
            return point[name]
        case ("call", name, inside):
            return _FUNCTIONS[name](_value(inside, point))
        case ("!", inside):
            value = _value(inside, point)
            if abs(value) > MAX_EXPONENT:
                raise Unreadable("!")
            return mpmath.gamma(value + 1)
        case ("abs", inside):
            return abs(_value(inside, point))
        case (sign, left, right):
            return _apply(sign, _value(left, point), _value(right, point))
    raise Unreadable(str(tree[0]))


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
    if abs(right) > MAX_EXPONENT:
        raise Unreadable("^")
    return mpmath.power(left, right)


def _read(text: str) -> Any:
    """Parse an expression into nested tuples `(operator, ...)`. Raises Unreadable."""
    reader = _Reader(_TOKEN.findall(text))
    tree = reader.sum()
    if reader.peek():
        raise Unreadable(reader.peek())
    return tree


class _Reader:
    """Recursive descent over LaTeX tokens; every method reads one kind of term."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens, self._at = tokens, 0

    def peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token != expected):
            raise Unreadable(token or "end")
        self._at += 1
        return token

    def sum(self) -> Any:
        tree: Any = ("number", "0")
        if self.peek() not in ("+", "-"):
            tree = self.product()
        while self.peek() in ("+", "-"):
            tree = (self.take(), tree, self.product())
        return tree

    def product(self) -> Any:
        tree = self.power()
        while True:
            token = self.peek()
            if token in ("*", "\\cdot", "\\times"):
                self.take()
                tree = ("*", tree, self.signed())
            elif token in ("/", "\\div"):
                self.take()
                tree = ("/", tree, self.signed())
            elif token and token not in "+-)]}|,=^_!" and not self._is_mixed(tree, token):
                tree = ("*", tree, self.power())
            else:
                return tree

    def _is_mixed(self, tree: Any, token: str) -> bool:
        # "1\frac12" may be one and a half, "2 3" is no product: neither is certain.
        if tree[0] == "number" and (token == "\\frac" or token[0].isdigit()):
            raise Unreadable("mixed number")
        return False

    def signed(self) -> Any:
        if self.peek() == "-":
            self.take()
            return ("-", ("number", "0"), self.power())
        return self.power()

    def power(self) -> Any:
        tree = self.atom()
        while self.peek() in ("!", "^"):
            tree = ("!", tree) if self.take() == "!" else ("^", tree, self.argument())
        return tree

    def argument(self) -> Any:
        """A braced expression, or the one character that LaTeX takes."""
        if self.peek() == "{":
            return self.group("{", "}")
        if self.peek() == "-":
            return self.signed()
        token = self.peek()
        if len(token) > 1 and token.isdigit():
            self._tokens[self._at : self._at + 1] = list(token)
        return self.atom()

    def group(self, opening: str, closing: str) -> Any:
        self.take(opening)
        tree = self.sum()
        self.take(closing)
        return tree

    def atom(self) -> Any:
        token = self.peek()
        if token in ("(", "{", "["):
            return self.group(token, {"(": ")", "{": "}", "[": "]"}[token])
        if token == "|":
            self.take()
            tree = self.sum()
            self.take("|")
            return ("abs", tree)
        self.take()
        if token[0].isdigit() or token[0] == ".":
            return ("number", token)
        if token in ("\\frac", "\\dfrac", "\\tfrac"):
            return ("/", self.argument(), self.argument())
        if token == "\\sqrt":
            root = self.group("[", "]") if self.peek() == "[" else ("number", "2")
            return ("root", self.argument(), root)
        if token in _CONSTANTS:
            return ("constant", token)
        if token in _FUNCTIONS:
            return self.call(token)
        if token.isalpha():
            return ("name", token)
        raise Unreadable(token)

    def call(self, name: str) -> Any:
        base, power = None, None
        if self.peek() == "_" and name == "\\log":
            self.take()
            base = self.argument()
        if self.peek() == "^":
            self.take()
            power = self.argument()
        if name == "\\log" and base is None:
            raise Unreadable("log without a base")
        is_bracketed = self.peek() in ("(", "{", "[", "|")
        tree: Any = ("call", name, self.power())
        if not is_bracketed and (self.peek()[:1].isalnum() or self.peek().startswith("\\")):
            # "\\sin 2x" is the sine of 2x, "\\sin 2 \\cos x" is a product: nothing says where it ends.
            raise Unreadable("argument without brackets")
        if base is not None:
            tree = ("/", tree, ("call", "\\ln", base))
        return tree if power is None else ("^", tree, power)
