"""Other models in the report: asked now, read from published outputs, or printed elsewhere, each marked as such."""

from __future__ import annotations

from collections import Counter
from html import escape

from s1kit.analysis.findings import Findings, compare, rates
from s1kit.analysis.published_number import PublishedNumber
from s1kit.analysis.results import HIDDEN, UNCOUNTED, WORDS_NOTE, Draws, Point
from s1kit.analysis.settings import CHAT
from s1kit.report.page import mark_noise, section, share, table, tokens, with_interval
from s1kit.report.sentences import WITHIN_NOISE, points

COUNTED = {
    HIDDEN: "hidden; from the reported usage",
    UNCOUNTED: "estimated: output less the answer's words",
    WORDS_NOTE: "counted as words",
}
"""How a note of a generation reads in the table."""


def others_section(findings: Findings) -> str:
    if not findings.comparators and not findings.numbers:
        return ""
    return section("Other models", _measured(findings) + _printed(findings))


def _measured(findings: Findings) -> str:
    """Models whose outputs were graded here."""
    if not findings.comparators:
        return ""
    ours, tried = _best(findings)
    rows = [_row(findings, p, ours, tried * len(findings.comparators)) for p in findings.comparators]
    against = f"The last column is the difference to {escape(ours.name)} of this run" if ours else ""
    widened = ", on the questions that both answered, its interval widened for all comparisons made" if ours else ""
    columns = ["model", "accuracy, %", "questions", "thinking tokens", "dollars", "a right answer", "difference"]
    return (
        "<p>The same questions, grader and statistics as above. Asked now through a provider, or read from outputs "
        f"that somebody published and graded again. {against}{widened}.</p>" + table(columns, rows, wide=True)
    )


def _best(findings: Findings) -> tuple[Point | None, int]:
    """The setting of this run to compare with, and from how many it was picked."""
    if findings.best_waits:
        return findings.best_waits.after, max(1, len(findings.by_waits) - 1)
    return (findings.by_budget[-1], 1) if findings.by_budget else (None, 1)


def _row(findings: Findings, p: Point, ours: Point | None, comparisons: int) -> str:
    draws = p.draws
    how = "asked now" if draws.setting.method == CHAT else "published outputs"
    num, asked = len(draws.question_ids), len(findings.results.questions)
    dollars = float(draws.cost_usd.sum())
    right = float(draws.correct.sum())
    cost = (f"{dollars:.4f}", f"{dollars / right:.4f}" if right else "none right") if dollars else ("", "")
    failed = rates(draws).failed
    lost = f"{share(failed)} failed, counted as wrong" if failed else ""
    difference = ""
    if ours is not None:
        estimate = compare(ours, p, comparisons=comparisons)
        noise = "" if estimate.excludes_zero else f" {WITHIN_NOISE}"
        difference = mark_noise(points(estimate).replace(" points", "") + noise)
    return (
        f"<tr><td>{escape(p.name)}{below(how)}</td><td>{with_interval(p.estimate)}{below(lost)}</td>"
        f"<td>{num if num == asked else f'{num} of {asked}'}</td><td>{tokens(p.tokens)}{below(counted(draws))}</td>"
        f"<td>{cost[0]}</td><td>{cost[1]}</td><td>{difference}</td></tr>"
    )


def below(text: str) -> str:
    """A paler second line of a cell."""
    return f'<br><span class="ci below">{escape(text)}</span>' if text else ""


def counted(draws: Draws) -> str:
    """Where the thinking tokens of a model's rows are from; several ways, where rows differ."""
    ways: Counter[str] = Counter()
    for note in draws.note.ravel().tolist():
        ways[next((text for key, text in COUNTED.items() if key in str(note)), "as reported")] += 1
    if len(ways) == 1:
        return next(iter(ways))
    return "; ".join(f"{num}: {way}" for way, num in ways.most_common())


def _printed(findings: Findings) -> str:
    """Numbers printed elsewhere, with an interval only where it is known."""
    if not findings.numbers:
        return ""
    rows = [_number_row(n) for n in sorted(findings.numbers, key=lambda n: (n.benchmark, -n.accuracy))]
    columns = ["published elsewhere", "benchmark", "accuracy, %", "questions", "thinking tokens", "printed in"]
    return (
        "<p><strong>Not measured here.</strong> Printed numbers rest on another prompt, grader and harness, and often "
        "on the full benchmark where this run asked part of it. An interval is the exact one of that many right "
        "answers; where the number is no whole count of its questions, there is none.</p>"
        + table(columns, rows, wide=True)
    )


def _number_row(n: PublishedNumber) -> str:
    value = with_interval(n.estimate) if n.estimate else f"{100 * n.accuracy:.1f}{below(n.why_no_interval)}"
    return (
        f"<tr><td>{escape(n.name)}</td><td>{escape(n.benchmark)}</td><td>{value}</td>"
        f"<td>{'' if n.num_questions is None else f'{n.num_questions:,}'}</td>"
        f"<td>{'' if n.thinking_tokens is None else tokens(n.thinking_tokens)}</td>"
        f'<td class="text">{escape(n.source)}{below(n.date)}</td></tr>'
    )
