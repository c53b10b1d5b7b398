"""The report's account of methods: what each Wait did, all methods by the paper's metrics, leaving early."""

from __future__ import annotations

from html import escape

from s1kit.analysis.findings import Findings, Step
from s1kit.report.page import maybe, section, share, table, tokens, with_interval
from s1kit.report.sentences import WITHIN_NOISE, p_value, percent, points


def waits_section(findings: Findings) -> str:
    """What each Wait fixed and broke."""
    if not findings.steps:
        return ""
    rows = [_step_row(step) for step in findings.steps]
    swings = len(findings.oscillating)
    asked = len(findings.by_waits[0].draws.question_ids)
    return section(
        "What each Wait fixed and broke",
        "<p>A Wait may mend an answer or spoil one. Each row compares the same questions before and after the step; "
        "the p-value is McNemar's exact test, adjusted for the number of rows.</p>"
        + table(["step", "fixed", "broken", "stayed right", "stayed wrong", "difference", "p"], rows)
        + flip_map(findings)
        + f'<p class="small">Each column is a question, each row a number of Waits; dark is right. {swings} of {asked} '
        f"questions changed between right and wrong more than once.</p>",
    )


def _step_row(step: Step) -> str:
    verdict = f' <em class="noise">{WITHIN_NOISE}</em>' if step.is_noise else ""
    f = step.flips
    return (
        f"<tr><td>{escape(step.before.name)} to {escape(step.after.name)}</td>"
        f'<td class="good">{f.fixed}</td><td class="bad">{f.broken}</td><td>{f.kept_right}</td><td>{f.kept_wrong}</td>'
        f"<td>{points(step.difference).replace(' points', '')}{verdict}</td><td>{p_value(step.p_adjusted)}</td></tr>"
    )


def flip_map(findings: Findings, max_questions: int = 1000) -> str:
    """Right and wrong, question by question, along the numbers of Waits."""
    ids = findings.by_waits[0].draws.question_ids
    rows = [[bool(c) for c in p.draws.on(ids).correct[:, 0]] for p in findings.by_waits]
    # Right from the first, then what each Wait fixes, then what stays wrong: broken ones stand out as gaps.
    columns = sorted(zip(*rows, strict=True), reverse=True)[:: max(1, len(ids) // max_questions)]
    height, width = 14, 720
    each = width / len(columns)
    cells = "".join(
        f"M{x * each:.2f} {y * height}h{each:.2f}v{height - 2}h-{each:.2f}z"
        for x, column in enumerate(columns)
        for y, ok in enumerate(column)
        if ok
    )
    labels = "".join(
        f'<text x="-6" y="{y * height + 9}" text-anchor="end" font-size="9" fill="var(--muted)">'
        f"{p.draws.setting.num_waits}</text>"
        for y, p in enumerate(findings.by_waits)
    )
    return (
        f'<svg class="flips" role="img" aria-label="right and wrong by question and number of Waits" '
        f'viewBox="-18 0 {width + 18} {len(rows) * height}" '
        f'style="font-family:var(--sans)" shape-rendering="crispEdges"><rect width="{width}" '
        f'height="{len(rows) * height}" fill="var(--card)"/><path d="{cells}" fill="var(--waits)"/>{labels}</svg>'
    )


def methods_section(findings: Findings) -> str:
    if not findings.methods:
        return ""
    rows = [
        f"<tr><td>{escape(m.name)}</td><td>{'' if m.control is None else share(m.control)}</td>"
        f"<td>{'' if m.scaling is None else f'{m.scaling:+.1f}'}</td><td>{100 * m.performance:.1f}</td>"
        f"<td>{len(m.points)}</td></tr>"
        for m in findings.methods
    ]
    return section(
        "Methods compared",
        "<p>The paper's three metrics. <em>Control</em>: the share of generations within their budget; "
        "of short or long thinking, that of questions whose thinking went the way it was asked to. "
        "<em>Scaling</em>: the mean slope, in percentage points per doubling of thinking tokens. "
        "<em>Performance</em>: the best accuracy.</p>"
        + table(["method", "control", "scaling", "performance, %", "points"], rows)
        + _matched(findings),
    )


def _matched(findings: Findings) -> str:
    """Each number of Waits beside the vote that costs about as much, which is the baseline to beat."""
    if not findings.matched_votes:
        return ""
    rows = []
    for waits, vote, difference in findings.matched_votes:
        noise = f' <em class="noise">{WITHIN_NOISE}</em>' if not difference.excludes_zero else ""
        rows.append(
            f"<tr><td>{escape(waits.name)}</td><td>{tokens(waits.tokens)}</td><td>{with_interval(waits.estimate)}</td>"
            f"<td>{escape(vote.name)}</td><td>{tokens(vote.tokens)}</td><td>{with_interval(vote.estimate)}</td>"
            f"<td>{points(difference).replace(' points', '')}{noise}</td></tr>"
        )
    columns = ["Waits", "tokens", "accuracy, %", "nearest vote", "tokens", "accuracy, %", "difference"]
    return (
        "<p>At matched cost: each number of Waits beside the majority vote whose samples together cost the nearest "
        "number of thinking tokens. The intervals hold all at once.</p>" + table(columns, rows, wide=True)
    )


def early_exit_section(findings: Findings) -> str:
    """What leaving when the answer is stable would have saved, and how far it can be trusted."""
    if not findings.early_exits:
        return ""
    rows = [
        f"<tr><td>{c.stable} in a row</td><td>{share(c.left_early)}</td><td>{maybe(c.right_when_left)}</td>"
        f"<td>{maybe(c.agrees_with_full)}</td><td>{with_interval(c.accuracy)}</td><td>{tokens(c.tokens)}</td>"
        f"<td>{tokens(c.probe_tokens)}</td></tr>"
        for c in findings.early_exits
    ]
    full = findings.early_exits[0]
    columns = ["equal probes", "left early", "right when left", "agrees with full", "accuracy", "tokens", "for probes"]
    return section(
        "Leaving early",
        "<p>The answer is asked for at regular points, and thinking is left when so many answers in a row agree. Full "
        f"thinking takes {full.full_tokens:,.0f} tokens and is right on {percent(full.full_accuracy)} %. A stable "
        "answer is not a right one: the second and third columns say how far it can be trusted.</p>"
        + table(columns, rows),
    )
