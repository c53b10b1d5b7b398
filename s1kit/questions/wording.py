"""What counts as the same wording of two questions: the one definition for `collect` and for `report`.

LaTeX that is typeset alike is spelled alike, since copies come from two places in two spellings; then the text is split
into words, and n-grams of words are compared.
"""

from __future__ import annotations

import re

NGRAM = 8
"""Words of an n-gram. The s1 release's util has 13 as its default; its caller passes 8."""

COVERAGE = 0.5
"""Share of informative n-grams from which on two questions overlap; chosen by reading matches on MATH, see docs."""

BOILERPLATE_QUESTIONS = 3
"""An n-gram in more evaluation questions than this is boilerplate."""

BOILERPLATE_SHARE = 0.0005
"""An n-gram in a larger share of the pool than this (and in more than `BOILERPLATE_MIN` rows) is boilerplate."""

BOILERPLATE_MIN = 10

_LATEX_SPELLING = [
    (re.compile(r"\\[dt]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\(?:geqslant|geq)(?![a-zA-Z])"), r"\\ge"),
    (re.compile(r"\\(?:leqslant|leq)(?![a-zA-Z])"), r"\\le"),
    (re.compile(r"\\neq(?![a-zA-Z])"), r"\\ne"),
    (re.compile(r"\\(?:left|right|[bB]igg?|displaystyle|limits|q?quad|[hv]space|n?space)(?![a-zA-Z])\*?"), " "),
    (re.compile(r"\\(?:text(?:bf|it)?|math(?:rm|bf|it)|operatorname|mbox|rm|bf|emph)(?![a-zA-Z])\*?"), " "),
    (re.compile(r"\\(?:begin|end)\s*\{[a-z*]+\}"), " "),
    (re.compile(r"\\[ ,;:!|\\()\[\]]"), " "),
    (re.compile(r"\\([%$#&_{}])"), r"\1"),
    (re.compile(r"\^\s*\{?\s*\\circ\s*\}?"), r" \\degree "),
]
_STRICT_WORD = re.compile(r"\\[a-z]+|[^\W\d_]+|\d+(?:\.\d+)?|[+\-*/=<>^_|#%&@~'’]|[^\w\s.,;:!?$(){}\[\]\"`“”]")
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|,|\\!)(?=\d{3}(?!\d))")


def respell(text: str) -> str:
    """One spelling for LaTeX that is typeset alike: `\\dfrac` is `\\frac`, `\\left` and spaces vanish."""
    if "\\" in text:
        for pattern, spelling in _LATEX_SPELLING:
            text = pattern.sub(spelling, text)
    return _THOUSANDS.sub("", text)


def strict_words(text: str) -> list[str]:
    r"""The words of a text: a command, a number, a letter or a sign is one; markup and punctuation are none.

    >>> strict_words(r"Find $\dfrac{1}{2}x$, where  $x = 10$.")
    ['find', '\\frac', '1', '2', 'x', 'where', 'x', '=', '10']
    """
    return _STRICT_WORD.findall(respell(text).casefold())
