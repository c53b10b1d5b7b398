"""The report's tables of settings: each with its accuracy, its price and what went wrong, also by kind of question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

from s1kit.analysis.findings import Findings, rates, thinking_by_correctness
from s1kit.analysis.results import Point
from s1kit.report.page import figure, section, share, table, tokens, with_interval


def settings_table(findings: Findings) -> str:
    groups = [
        ("Thinking budget, stopping when it wants", "budget", findings.by_budget),
        ("Waits under the largest budget", "waits", findings.by_waits),
        ("Thinking budget with the most Waits", "both", findings.by_budget_with_waits),
        ("Majority vote over samples", "votes", findings.by_votes),
        *((name[0].upper() + name[1:], "", points_) for name, points_ in findings.others.items()),
        ("Any of several samples (nobody tells which: a bound, not a method)", "", findings.passes[1:]),
        ("Other models", "", findings.comparators),
        ("Baseline", "baseline", [findings.baseline] if findings.baseline else []),
    ]
    rows = []
    for name, colour, group in groups:
        if group:
            swatch = f'<span class="swatch" style="background:var(--{colour})"></span>' if colour else ""
            rows.append(f'<tr><td class="group" colspan="7">{swatch}{escape(name)}</td></tr>')
            rows += [_point_row(p) for p in group]
    return section(
        "All settings",
        "<p>Each number can be recomputed from the rows in <code>evaluate/</code>. A budget that cuts thinking "
        "off forces an answer from what was thought so far.</p>"
        + table(["", "accuracy, %", "thinking tokens", "per right answer", "when right", "when wrong", "cut off"], rows)
        + _rates_table([p for _, _, group in groups for p in group]),
    )


def _rates_table(shown: Sequence[Point]) -> str:
    """What went other than planned, for the settings where anything did."""
    rows = []
    for p in {p.draws.setting: p for p in reversed(shown)}.values():
        r = rates(p.draws)
        odd = (r.no_answer, r.truncated, r.loop, r.abstain, r.failed)
        if any(odd):
            cells = "".join(f"<td>{share(x)}</td>" for x in odd)
            rows.append(f"<tr><td>{escape(p.draws.setting.label)}</td>{cells}</tr>")
    if not rows:
        return '<p class="small">Every generation has an answer; none was truncated, looped or left ungraded.</p>'
    columns = ["setting", "no answer", "answer truncated", "thinking looped", "not graded", "failed"]
    return f"<details><summary>What went wrong, and how often</summary>{table(columns, rows[::-1])}</details>"


def _point_row(p: Point) -> str:
    paid = "" if p.tokens == 0 else tokens(p.cost_per_correct) if p.estimate.value else "none right"
    right, wrong = (tokens(p.votes * x) for x in thinking_by_correctness(p.draws))
    return (
        f"<tr><td>{escape(p.name)}</td><td>{with_interval(p.estimate)}</td><td>{tokens(p.tokens)}</td>"
        f"<td>{paid}</td><td>{right}</td><td>{wrong}</td><td>{share(rates(p.draws).cut_off)}</td></tr>"
    )


def sources_section(findings: Findings, svg: str) -> str:
    if len(findings.sources) < 2:
        return ""
    columns = [p for p in (findings.baseline, *_ends(findings.by_budget)) if p]
    if findings.best_waits:
        columns.append(findings.best_waits.after)
    cells = {p.name: findings.by_source(p) for p in columns}
    counts = Counter(findings.source_of.values())
    rows = [
        f"<tr><td>{escape(source)}</td><td>{counts[source]}</td>"
        + "".join(f"<td>{with_interval(cells[p.name][source])}</td>" for p in columns)
        + "</tr>"
        for source in findings.sources
    ]
    return section(
        "By kind of question",
        figure(
            svg, "Each kind of question by itself: thinking budget, Waits, and votes at the price of all their samples."
        )
        + table(["", "questions", *(escape(p.name) for p in columns)], rows),
    )


def _ends(found: Sequence[Point]) -> list[Point]:
    return [found[0], found[-1]] if len(found) > 1 else list(found)
