r"""A small parser of LaTeX expressions, which knows all of an expression or refuses it.

It shares no code with math-verify, so that the two err in different places.
"""

from __future__ import annotations

import re
from typing import Any

Tree = tuple[Any, ...]
"""Nested tuples: `("number", "2")`, `("name", "x")`, `("constant", "e")`, `("call", "\\sin", tree)`, `("!", tree)`,
`("abs", tree)`, or an operator (`+ - * / ^ root binom`) with its two operands."""

FUNCTIONS = frozenset(
    f"\\{name}"
    for name in "sin cos tan cot sec csc sinh cosh tanh ln exp log arcsin arccos arctan".split()  # noqa: SIM905
)
CONSTANTS = frozenset(("\\pi", "\\infty", "e", "i"))
_LETTERS = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega hbar ell"
)
_SHAPES = {"\\varepsilon": "\\epsilon", "\\varphi": "\\phi", "\\vartheta": "\\theta", "\\varrho": "\\rho"}
_GREEK = {f"\\{name}": f"\\{name}" for name in _LETTERS.split()} | _SHAPES
"""Commands that are names of variables; the two shapes of a letter are one name."""

_FONTS = frozenset(("\\mathrm", "\\text", "\\textrm", "\\rm", "\\mathit", "\\operatorname"))
"""What an index may be set in: `v_{\\mathrm{max}}` is `v_{max}`, and so is `v_{\\max}`."""

_TOKEN = re.compile(r"\\[a-zA-Z]+|\d+(?:\.\d*)?|\.\d+|[a-zA-Z]|\S")
LAYOUT = re.compile(
    r"\\(?:left|right|displaystyle|limits|quad|qquad)(?![a-zA-Z])|\\[,;:! ]|"
    r"\\(?:mathrm|text|operatorname)(?=\{[a-zA-Z]\})"
)
"""What has no value of its own."""


class Unreadable(ValueError):
    """Raised on LaTeX that this parser does not support."""


def read(text: str) -> Tree:
    """Parse an expression of LaTeX. Raises Unreadable.

    >>> read("2x^3")
    ('*', ('number', '2'), ('^', ('name', 'x'), ('number', '3')))
    """
    reader = _Reader(_TOKEN.findall(LAYOUT.sub("", text)))
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

    def sum(self) -> Tree:
        tree: Tree = ("number", "0")
        if self.peek() not in ("+", "-"):
            tree = self.product()
        while self.peek() in ("+", "-"):
            tree = (self.take(), tree, self.product())
        return tree

    def product(self) -> Tree:
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

    def _is_mixed(self, tree: Tree, token: str) -> bool:
        # "1\frac12" may be one and a half, "2 3" is no product: neither is certain.
        if tree[0] == "number" and (token == "\\frac" or token[0].isdigit()):
            raise Unreadable("mixed number")
        return False

    def signed(self) -> Tree:
        if self.peek() == "-":
            self.take()
            return ("-", ("number", "0"), self.power())
        return self.power()

    def power(self) -> Tree:
        tree = self.atom()
        while self.peek() in ("!", "^"):
            tree = ("!", tree) if self.take() == "!" else ("^", tree, self.argument())
        return tree

    def argument(self) -> Tree:
        """A braced expression, or the one character that LaTeX takes."""
        if self.peek() == "{":
            return self.group("{", "}")
        if self.peek() == "-":
            return self.signed()
        token = self.peek()
        if len(token) > 1 and token.isdigit():
            self._tokens[self._at : self._at + 1] = list(token)
        return self.atom()

    def group(self, opening: str, closing: str) -> Tree:
        self.take(opening)
        tree = self.sum()
        self.take(closing)
        return tree

    def atom(self) -> Tree:
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
        if token in ("\\binom", "\\dbinom", "\\tbinom"):
            return ("binom", self.argument(), self.argument())
        if token == "\\sqrt":
            root = self.group("[", "]") if self.peek() == "[" else ("number", "2")
            return ("root", self.argument(), root)
        if token in CONSTANTS:
            return ("constant", token)
        if token in FUNCTIONS:
            return self.call(token)
        if token.isalpha() or token in _GREEK:
            return ("name", _GREEK.get(token, token) + self.index())
        raise Unreadable(token)

    def index(self) -> str:
        """The index of a name such as `C_{1}`; empty where it has none."""
        if self.peek() != "_":
            return ""
        self.take()
        if self.peek() != "{":
            return "_" + self.take()
        self.take()
        parts, depth = [], 1
        while depth:
            token = self.take()
            depth += (token == "{") - (token == "}")
            parts += [] if token in "{}" or token in _FONTS else [token.removeprefix("\\")]
        return "_" + "".join(parts)

    def call(self, name: str) -> Tree:
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
        tree: Tree = ("call", name, self.power())
        # "\\sin x \\cos x" is a product; what a number stands before may be part of the argument or not.
        is_bracketed = is_bracketed or (tree[2][0] == "name" and self.peek() in FUNCTIONS)
        if not is_bracketed and (self.peek()[:1].isalnum() or self.peek().startswith("\\")):
            # "\\sin 2x" is the sine of 2x, "\\sin 2 \\cos x" is a product: nothing says where it ends.
            raise Unreadable("argument without brackets")
        if base is not None:
            tree = ("/", tree, ("call", "\\ln", base))
        return tree if power is None else ("^", tree, power)


def names(tree: Tree) -> set[str]:
    """The variables of an expression."""
    return _leaves(tree, "name")


def constants(tree: Tree) -> set[str]:
    """The constants of an expression."""
    return _leaves(tree, "constant")


def _leaves(tree: Tree, kind: str) -> set[str]:
    if tree[0] == kind:
        return {tree[1]}
    return set().union(*(_leaves(part, kind) for part in tree[1:] if isinstance(part, tuple)))
