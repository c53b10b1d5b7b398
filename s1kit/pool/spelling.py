"""One spelling for LaTeX that is typeset alike, so that copies of a question from two places compare equal."""

from __future__ import annotations

import re

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
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|,|\\!)(?=\d{3}(?!\d))")


def respell(text: str) -> str:
    """One spelling for LaTeX that is typeset alike: `\\dfrac` is `\\frac`, `\\left` and spaces vanish."""
    if "\\" in text:
        for pattern, spelling in _LATEX_SPELLING:
            text = pattern.sub(spelling, text)
    return _THOUSANDS.sub("", text)
