r"""The same answer spelled in the same way, and the numbers it states, exactly.

>>> normalise(r"$\dfrac{1}{2}\text{ cm}$"), normalise("\\frac12")
('\\frac{1}{2}', '\\frac{1}{2}')
"""

from __future__ import annotations

import re
from fractions import Fraction

MAX_DIGITS = 400
"""Digits of a number that is read as one; more are compared as text."""

_UNITS = (
    r"(?:degrees?|cm|mm|km|m|meters?|metres?|inch(?:es)?|feet|foot|ft|miles?|mph|units?|dollars?|cents?|seconds?|"
    r"minutes?|hours?|days?|weeks?|years?|kg|g|grams?|pounds?|percent|points?|square\s+\w+|cubic\s+\w+)"
)
_REPLACED = [
    (re.compile(r"\\[dt]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\frac\s*(\d)\s*(\d)(?!\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\frac\s*(\d)\s*\{"), r"\\frac{\1}{"),
    (re.compile(r"\\frac\s*\{([^{}]*)\}\s*(\d)(?!\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\sqrt\s*(\d)"), r"\\sqrt{\1}"),
    (re.compile(r"\\(?:left|right|displaystyle|limits)(?![a-zA-Z])"), ""),
    (re.compile(r"\\(?:mathrm|text|textbf|mathbf|mbox|textrm|operatorname)\s*\{\s*([^{}]*?)\s*\}"), r" \1 "),
    (re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\degree\b|°"), ""),
    (re.compile(r"\\(?:ge|geq|geqslant)(?![a-zA-Z])"), r"\\ge "),
    (re.compile(r"\\(?:le|leq|leqslant)(?![a-zA-Z])"), r"\\le "),
    (re.compile(r"\\neq(?![a-zA-Z])"), r"\\ne "),
    (re.compile(r"\\(?:cdot|times)(?![a-zA-Z])\s*(?=10\s*\^)"), "*"),
    (re.compile(r"\\[ ,;:!]|\\q?quad(?![a-zA-Z])|~"), " "),
    (re.compile(r"\\?\$|\\[()\[\]]"), ""),
    (re.compile(r"\\?%"), ""),
    (re.compile(r"(?<=\d)(?:\{,\}|,)\s?(?=\d{3}(?!\d))"), ""),
]
_SPACED = re.compile(r"(?<=\d)\s+(?=\d)")
NUMBER_WORDS = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
    )
}
_UNIT_AT_END = re.compile(rf"(?<=[\d}})])\s+{_UNITS}(?:\s*\^\s*\{{?\d\}}?)?\s*$", re.IGNORECASE)
_NAMED = re.compile(r"^\s*[a-zA-Z](?:\s*\([a-zA-Z]\))?\s*(?:=|\\in\b)\s*(?=[^=<>]+$)")
_INTEGER = re.compile(r"[-+]?\d+")
_DECIMAL = re.compile(r"[-+]?(?:\d+\.\d*|\.\d+|\d+)")
_FRACTION = re.compile(r"([-+]?)\\frac\{([-+]?\d+)\}\{([-+]?\d+)\}|([-+]?\d+)/(\d+)")


def normalise(text: str) -> str:
    """The answer's spelling without markup, units, thousands separators, white space and the name before `=`."""
    text = text.strip().strip("*").strip()
    if text.isdecimal() or text.isalpha():
        return NUMBER_WORDS.get(text.casefold(), text)
    if len(text) < 20000:
        for pattern, spelling in _REPLACED:
            text = pattern.sub(spelling, text)
        text = _UNIT_AT_END.sub("", text.strip())
        text = _NAMED.sub("", text)
    text = text.replace("−", "-").replace("–", "-").replace("->", " ")
    text = _SPACED.sub("_", text)
    text = re.sub(r"\s+", "", text).rstrip(".,;:").removeprefix("+")
    return NUMBER_WORDS.get(text.casefold(), text)


def as_number(normalised: str) -> Fraction | None:
    """The number that a normalised answer states, exactly; None when it is not one number.

    >>> as_number("007"), as_number("-.50"), as_number(r"-\\frac{2}{4}"), as_number("3/6"), as_number("x")
    (Fraction(7, 1), Fraction(-1, 2), Fraction(-1, 2), Fraction(1, 2), None)
    """
    if len(normalised) > MAX_DIGITS:
        return None
    if _DECIMAL.fullmatch(normalised):
        return Fraction(normalised.rstrip(".") if normalised.endswith(".") else normalised)
    if match := _FRACTION.fullmatch(normalised):
        sign, top, bottom, plain_top, plain_bottom = match.groups()
        numerator, denominator = int(top or plain_top), int(bottom or plain_bottom)
        if denominator:
            return Fraction(numerator, denominator) * (-1 if sign == "-" else 1)
    return None


def is_integer(normalised: str) -> bool:
    return _INTEGER.fullmatch(normalised) is not None


def is_decimal(normalised: str) -> bool:
    return "." in normalised and _DECIMAL.fullmatch(normalised) is not None
