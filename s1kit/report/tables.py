"""The table of settings as files for other programs and for papers: CSV, and LaTeX for `\\usepackage{booktabs}`."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from s1kit.analysis.rates import rates
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
    *(f"thinking_tokens{part}" for part in ("", "_low", "_high")),
    *(f"{name}{part}" for name in ("cut_off", "no_answer", "not_graded") for part in ("", "_low", "_high")),
)
"""Shares are from 0 to 1; intervals are the 95 % ones of the point by itself. `repeats` is the most of a question."""


def as_csv(groups: Sequence[tuple[str, str, Sequence[Point]]]) -> str:
    """CSV text with a row for every point of every group; a group is its name, colour and points."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for name, _, points in groups:
        for p in points:
            d, odd = p.draws, rates(p.draws)
            counts = (len(d.question_ids), d.repeats, d.setting.temperature)
            accuracy = (f"{value:.6f}" for value in p.estimate)
            tokens = (f"{value:.1f}" for value in p.thinking)
            shares = (f"{value:.6f}" for each in (odd.cut_off, odd.no_answer, odd.abstain) for value in each)
            writer.writerow([name, p.name, *counts, *accuracy, *tokens, *shares])
    return text.getvalue()


def as_latex(groups: Sequence[tuple[str, str, Sequence[Point]]]) -> str:
    """A LaTeX table of the accuracy in percent, with its interval, and the thinking tokens of every point."""
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
