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
    r"minutes?|hours?|days?|weeks?|years?|kg|mg|gm|g|grams?|lbs?|sec|hrs?|pounds?|percent|points?|square\s+\w+|cubic\s+\w+)"
)
_REPLACED = [
    (re.compile(r"π|(?<![a-zA-Z\\])pi(?![a-zA-Z])"), r"\\pi "),
    (re.compile(r"(?<![\d.])(\d+)\s+out\s+of\s+(\d+)(?![\d.])"), r"\1/\2"),
    (re.compile(r"(?<![\d.])(\d+),?\s*(?:\(\s*|in\s+)?base[\s-]+(\d+)\s*\)?"), r"\1_{\2}"),
    (re.compile(r"(?<![\w.])([\da-fA-F]+)\s*\(?\s*(?:in\s+)?hex(?:adecimal)?\)?$"), r"\1_{16}"),
    (re.compile(r"(?<![\w.])([01]+)\s*\(?\s*(?:in\s+)?binary\)?$"), r"\1_{2}"),
    (re.compile(r"(?<![\w.])([0-7]+)\s*\(?\s*(?:in\s+)?octal\)?$"), r"\1_{8}"),
    (re.compile(r"(?<=\d)(?:st|nd|rd|th)(?![a-zA-Z])"), ""),
    (re.compile(r"\\[dt]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\frac\s*(\d)\s*(\d)(?!\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\frac\s*(\d)\s*\{"), r"\\frac{\1}{"),
    (re.compile(r"\\frac\s*\{([^{}]*)\}\s*(\d)(?!\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\sqrt\s*(\d)"), r"\\sqrt{\1}"),
    (re.compile(r"\\([pb])mod\s*(\d)(?!\d)"), r"\\\1mod{\2}"),
    (re.compile(r"\\(?:left|right|displaystyle|limits)(?![a-zA-Z])"), ""),
    (re.compile(r"\\(?:mathrm|text|textbf|mathbf|mbox|textrm|operatorname)\s*\{\s*([^{}]*?)\s*\}"), r" \1 "),
    (re.compile(r"(?:\^\s*\{?\s*\\circ\s*\}?|\\degree\b|°)(?:\s*[CF](?![a-zA-Z]))?"), ""),
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
_POWER = re.compile(r"([-+]?)(?:(\d+(?:\.\d*)?|\.\d+)(?:\*|\\cdot|\\times))?10\^(?:\{([-+]?\d+)\}|(\d))")
_PROGRAMMED = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+))[eE]([-+]?\d{1,3})")
_REPEATING = re.compile(r"([-+]?)(\d*)\.(\d*)\\overline\{(\d+)\}")
_DOTTED = re.compile(r"([-+]?)(\d*)\.(\d+?)(?:\\[lc]?dots|\.{3}|…)")
_RECURRENT = re.compile(r"(\d*?)(?:(\d)\2{2,}|(\d{2,}?)\3+)")
_MIXED = re.compile(r"([-+]?)(\d+)(?:\\frac\{(\d+)\}\{(\d+)\}|_(\d+)/(\d+))")
MAX_POWER = 300
"""A larger power of ten is compared as text."""
_FRACTION = re.compile(r"([-+]?)\\frac\{([-+]?\d+)\}\{([-+]?\d+)\}|([-+]?\d+)/(\d+)")


def normalise(text: str) -> str:
    """The answer's spelling without markup, units, thousands separators, white space and the name before `=`."""
    text = text.strip().strip("*").strip()
    if text.isdecimal() or (text.isalpha() and text not in ("pi", "π")):
        return NUMBER_WORDS.get(text.casefold(), text)
    if len(text) < 20000:
        for pattern, spelling in _REPLACED:
            text = pattern.sub(spelling, text)
        text = _UNIT_AT_END.sub("", text.strip())
        text = _NAMED.sub("", text)
    text = text.replace("−", "-").replace("–", "-").replace("->", " ")
    text = _SPACED.sub("_", text)
    # A command stays apart from a letter: `\\cdot s` is not `\\cdots`, `\\sin h` is not `\\sinh`.
    text = re.sub(r"(\\[a-zA-Z]+)\s+(?=[a-zA-Z])|\s+", lambda match: f"{match[1]} " if match[1] else "", text)
    text = text.removeprefix("+")
    text = text if text.endswith("..") else text.rstrip(".,;:")
    return NUMBER_WORDS.get(text.casefold(), text)


def as_number(normalised: str) -> Fraction | None:
    """The number that a normalised answer states, exactly; None when it is not one number.

    >>> as_number("007"), as_number("-.50"), as_number(r"-\\frac{2}{4}"), as_number("3/6"), as_number("x")
    (Fraction(7, 1), Fraction(-1, 2), Fraction(-1, 2), Fraction(1, 2), None)
    >>> as_number("0.1666..."), as_number("3.14159...")
    (Fraction(1, 6), None)
    >>> as_number("2_5/8"), as_number(r"-1\\frac{1}{2}"), as_number(r"0.\\overline{36}"), as_number("1.5*10^{-1}")
    (Fraction(21, 8), Fraction(-3, 2), Fraction(4, 11), Fraction(3, 20))
    """
    if len(normalised) > MAX_DIGITS:
        return None
    if _DECIMAL.fullmatch(normalised):
        return Fraction(normalised.rstrip(".") if normalised.endswith(".") else normalised)
    if match := _FRACTION.fullmatch(normalised):
        sign, top, bottom, plain_top, plain_bottom = match.groups()
        return _signed(sign, _ratio(int(top or plain_top), int(bottom or plain_bottom)))
    if match := _MIXED.fullmatch(normalised):
        part = _ratio(int(match[3] or match[5]), int(match[4] or match[6]))
        return _signed(match[1], int(match[2]) + part) if part is not None and part < 1 else None
    if (match := _DOTTED.fullmatch(normalised)) and (digits := _RECURRENT.fullmatch(match[3])):
        normalised = f"{match[1]}{match[2]}.{digits[1]}\\overline{{{digits[2] or digits[3]}}}"
    if match := _REPEATING.fullmatch(normalised):
        once, again = match[3], match[4]
        part = Fraction(int((once + again) or 0) - int(once or 0), 10 ** len(once) * (10 ** len(again) - 1))
        return _signed(match[1], int(match[2] or 0) + part)
    if match := _PROGRAMMED.fullmatch(normalised):
        return (
            Fraction(match[1].rstrip(".")) * Fraction(10) ** int(match[2]) if abs(int(match[2])) <= MAX_POWER else None
        )
    if (match := _POWER.fullmatch(normalised)) and abs(power := int(match[3] or match[4])) <= MAX_POWER:
        return _signed(match[1], Fraction((match[2] or "1").rstrip(".")) * Fraction(10) ** power)
    return None


def _ratio(top: int, bottom: int) -> Fraction | None:
    return Fraction(top, bottom) if bottom else None


def _signed(sign: str, value: Fraction | None) -> Fraction | None:
    return -value if sign == "-" and value is not None else value


def is_integer(normalised: str) -> bool:
    return _INTEGER.fullmatch(normalised) is not None


def is_decimal(normalised: str) -> bool:
    return "." in normalised and _DECIMAL.fullmatch(normalised) is not None
