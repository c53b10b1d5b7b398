"""The table of settings as files for other programs and for papers: CSV, and LaTeX for `\\usepackage{booktabs}`."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from s1kit.analysis.findings import rates
from s1kit.analysis.results import Point
from s1kit.report.sentences import percent

COLUMNS = (
    "group",
    "setting",
    "questions",
    "repeats",
    "temperature",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "thinking_tokens",
    "cut_off",
    "no_answer",
    "not_graded",
)
"""Shares are from 0 to 1; the interval is the 95 % one of the point by itself."""


def as_csv(groups: Sequence[tuple[str, str, Sequence[Point]]]) -> str:
    """Every point of every group (name, colour, points), one a row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for name, _, points in groups:
        for p in points:
            d, odd = p.draws, rates(p.draws)
            interval = (f"{value:.6f}" for value in p.estimate)
            counts = (len(d.question_ids), d.repeats, d.setting.temperature)
            shares = (f"{value:.6f}" for value in (odd.cut_off, odd.no_answer, odd.abstain))
            writer.writerow([name, p.name, *counts, *interval, f"{p.tokens:.1f}", *shares])
    return text.getvalue()


def as_latex(groups: Sequence[tuple[str, str, Sequence[Point]]]) -> str:
    """Accuracy with its interval and the thinking tokens of every point."""
    lines = [r"\begin{tabular}{lrr}", r"\toprule", r"setting & accuracy, \% & thinking tokens \\"]
    for name, _, points in groups:
        lines += [r"\midrule", rf"\multicolumn{{3}}{{l}}{{{escape(name)}}} \\"]
        lines += [rf"{escape(p.name)} & {percent(p.estimate)} & {p.tokens:,.0f} \\" for p in points]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def escape(text: str) -> str:
    """The text as LaTeX prints it.

    >>> escape("50 % of_a & b")
    '50 \\\\% of\\\\_a \\\\& b'
    """
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$"}
    return re.sub(r"[\\~^<>&%$#_{}]", lambda match: special.get(match[0], "\\" + match[0]), text)
