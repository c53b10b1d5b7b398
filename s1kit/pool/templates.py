"""The template of a question: its words in order, with numbers, letters, constants and names masked.

Two questions that differ in these alone have the same template, which is what tier `template` compares.

    >>> " ".join(template_words(r"How many positive divisors does $2^5 \\cdot 196$ have, as Anna asked?"))
    'how many positive divisors does # ^ # + # have as @ asked'
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from s1kit.questions.wording import respell

NUMBER, NAME = "#", "@"

_DRAWING = re.compile(r"\[asy\].*?(?:\[/asy\]|\Z)", re.DOTALL)
_WORD = re.compile(r"\\[A-Za-z]+|[^\W\d_]+|\d+(?:\.\d+)?|[.!?]|[+\-*/=<>^_|#%&@~'’]|[^\w\s.,;:!?$(){}\[\]\"`“”]")
_GREEK_AND_CONSTANTS = re.compile(
    "alpha|beta|gamma|delta|(?:var)?epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|pi|rho|sigma|tau|upsilon|"
    "(?:var)?phi|chi|psi|omega|infty"
)
_NUMBER_WORD = re.compile(
    "zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen|"
    "(?:twen|thir|for|fif|six|seven|eigh|nine)ty|hundred|thousand|[mb]illion|dozen|half|third|quarter|fourth|fifth|"
    "sixth|seventh|eighth|ninth|tenth|first|second|once|twice|thrice"
)
_UNARY_SIGN = re.compile(r"(?<=[(,={\[^_<>&])\s*[-+]\s*(?=[\w\\.])")
_SIGNS = frozenset(["+", "-", "*", r"\cdot", r"\times", r"\div", r"\pm"])
_MAX_ACRONYM = 5
"""Capitals in a row that name points or sides (`ABCD`), not a word written in capitals."""


def template_words(text: str) -> list[str]:
    """The template's words. Drawings (`[asy]`) are left out; a run of masked words is one.

    `#` stands for a number in digits or words, a single letter, a Greek letter and a constant; `@` for a capitalised
    word inside a sentence; `+` for any sign between terms or factors.
    """
    found = _WORD.findall(_UNARY_SIGN.sub("", respell(_DRAWING.sub(" ", text))))
    # A capitalised word that starts a sentence is a name where it has its capital inside another, too.
    names = {word for before, word in pairwise(found) if word[0].isupper() and before not in ".!?"}
    words: list[str] = []
    starts_sentence = True
    for word in found:
        if word in ".!?":
            starts_sentence = True
            continue
        masked = _mask(word, starts_sentence and word not in names)
        starts_sentence = False
        if not (masked in (NUMBER, NAME) and words and words[-1] == masked):
            words.append(masked)
    return words


def _mask(word: str, may_be_capitalised: bool) -> str:
    lowered = word.casefold()
    if word in _SIGNS:
        return "+"
    if word.startswith("\\"):
        return NUMBER if _GREEK_AND_CONSTANTS.fullmatch(lowered[1:]) else lowered
    if word[0].isdigit() or _NUMBER_WORD.fullmatch(lowered):
        return NUMBER
    if not word.isalpha() or word == "a" or (word == "A" and may_be_capitalised):
        return lowered
    if len(word) == 1 or (word.isupper() and len(word) <= _MAX_ACRONYM):
        return NUMBER
    return NAME if word[0].isupper() and not may_be_capitalised else lowered


def num_plain(words: Sequence[str]) -> int:
    """Words of a template that are neither masked nor signs: what says which question it is."""
    return sum(word[0].isalpha() or word.startswith("\\") for word in words)
