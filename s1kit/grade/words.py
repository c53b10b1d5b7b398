"""Numbers written in words, English and Chinese, exactly.

>>> number_in_words("two thirds"), number_in_words("four hundred and fifty"), number_in_words("three and a half")
(Fraction(2, 3), Fraction(450, 1), Fraction(7, 2))
>>> number_in_words("一百二十"), number_in_words("二分之一"), number_in_words("one of the two")
(Fraction(120, 1), Fraction(1, 2), None)
"""

from __future__ import annotations

import re
from fractions import Fraction

from s1kit.grade.normalise import NUMBER_WORDS

_SMALL = {
    **{f"{tens}": 10 * number for number, tens in enumerate(("twenty", "thirty", "forty", "fifty"), 2)},
    **{f"{tens}": 10 * number for number, tens in enumerate(("sixty", "seventy", "eighty", "ninety"), 6)},
    **{
        f"{part}teen": 13 + number
        for number, part in enumerate(("thir", "four", "fif", "six", "seven", "eigh", "nine"))
    },
    **{word: int(number) for word, number in NUMBER_WORDS.items()},
}
_LARGE = {"dozen": 12, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_PARTS = {
    word: number
    for number, names in {
        2: "half halves",
        3: "third thirds",
        4: "quarter quarters fourth fourths",
        5: "fifth fifths",
        6: "sixth sixths",
        7: "seventh sevenths",
        8: "eighth eighths",
        9: "ninth ninths",
        10: "tenth tenths",
        12: "twelfth twelfths",
    }.items()
    for word in names.split()
}
_NUMBER_WORDS = frozenset({*_SMALL, *_LARGE, *_PARTS})
_HAN_DIGITS = {c: n for n, c in enumerate("零一二三四五六七八九")} | {"两": 2, "〇": 0}
_HAN_TENS = {"十": 10, "百": 100, "千": 1000}
_HAN = re.compile("(负?)([零〇一二两三四五六七八九十百千万]+)")
_HAN_FRACTION = re.compile("(负?)([零〇一二两三四五六七八九十百千万]+)分之([零〇一二两三四五六七八九十百千万]+)")

_HAN_SAID = re.compile(
    r"(?:[是为有得剩:：]\s*|等于)([零〇一二两三四五六七八九十百千万]+)[^零〇一二两三四五六七八九十百千万，,]{0,4}$"
)
"""A sentence that ends in a number and what it counts."""


def number_in_words(text: str) -> Fraction | None:
    """The one number that a text says in words; None where it says none, several, or digits as well."""
    if re.search(r"[\d\\]", text):
        return None
    bare = text.strip().rstrip("。.")
    if match := _HAN.fullmatch(bare):
        return Fraction(-_han(match[2]) if match[1] else _han(match[2]))
    if len(parts := _HAN_FRACTION.findall(bare)) == 1:
        sign, bottom, top = parts[0]
        return Fraction(-_han(top) if sign else _han(top), _han(bottom) or 1)
    if said := _HAN_SAID.search(bare):
        return Fraction(_han(said[1]))
    words = re.findall(r"[a-z]+", text.casefold())
    runs = _runs(words)
    number = _english(runs[0]) if len(runs) == 1 else None
    is_negative = number is not None and words[words.index(runs[0][0]) - 1] in ("negative", "minus")
    return -number if number is not None and is_negative else number


def _runs(words: list[str]) -> list[list[str]]:
    """Number words that follow each other, with the `and` and `a` between them."""
    runs: list[list[str]] = []
    joined = False
    for at, word in enumerate(words):
        is_link = word in ("and", "a") and joined and any(w in _NUMBER_WORDS for w in words[at + 1 : at + 3])
        if word in _NUMBER_WORDS:
            runs = [*runs[:-1], [*runs[-1], word]] if joined else [*runs, [word]]
            joined = True
        elif not is_link:
            joined = False
    return runs


def _english(words: list[str]) -> Fraction | None:
    total, group, has_number = 0, 0, False
    for at, word in enumerate(words):
        if word in _PARTS:
            if at != len(words) - 1:
                return None
            if word in ("half", "quarter", "third") and at and words[at - 1] != "one" and total + group:
                return Fraction(total + group) + Fraction(1, _PARTS[word])  # three and a half
            return Fraction(total + group if has_number else 1, _PARTS[word])
        if word in _SMALL:
            if has_number and group % 100 and not (group % 10 == 0 and group % 100 >= 20 and _SMALL[word] < 10):
                return None  # "one two": two numbers
            group += _SMALL[word]
        elif word == "hundred":
            group = (group or 1) * 100
        else:
            total, group = total + (group or 1) * _LARGE[word], 0
        has_number = True
    return Fraction(total + group) if has_number else None


def _han(text: str) -> int:
    total, section, digit = 0, 0, 0
    for character in text:
        if character in _HAN_DIGITS:
            digit = _HAN_DIGITS[character]
        elif character == "万":
            total, section, digit = (total + section + digit) * 10000, 0, 0
        else:
            section, digit = section + (digit or 1) * _HAN_TENS[character], 0
    return total + section + digit
