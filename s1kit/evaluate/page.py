"""The report as one HTML file: text, tables, figures, traces. It lays out what `findings` and `provenance` hold.

Nothing is fetched when the page is opened: style and figures are inside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from typing import Any

from s1kit.evaluate.findings import Findings, Step, rates, thinking_by_correctness
from s1kit.evaluate.points import Point
from s1kit.evaluate.provenance import Drop, Provenance
from s1kit.evaluate.statistics import Estimate
from s1kit.evaluate.words import WITHIN_NOISE, headline, p_value, percent, points
from s1kit.records import Generation, Question

EARLY_STOPS = (
    "The built-in teacher's traces stop too early on purpose: a model trained on them stops early as well, and a Wait "
    "makes it walk on. What this run shows is that the machinery works and what it measures, not that Waits help a "
    "model whose teacher was thorough."
)


def page(title: str, sections: Iterable[str]) -> str:
    """The whole document around its sections."""
    css = (resources.files("s1kit.evaluate") / "page.css").read_text(encoding="utf-8")
    body = "\n".join(section for section in sections if section)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>\n{css}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


def head(name: str, description: str, caveat: str, findings: Findings, is_tiny: bool) -> str:
    sentences = "".join(
        f"<li><strong>{mark_noise(escape(s.claim))}</strong> {escape(s.detail)}</li>" for s in headline(findings)
    )
    notes = [escape(text) for text in ([EARLY_STOPS] if is_tiny else []) + ([caveat] if caveat else [])]
    boxes = "".join(f'<p class="note">{text}</p>' for text in notes)
    num = len(findings.results.questions)
    return (
        f'<header><p class="kicker">s1kit report</p><h1>{escape(name)}</h1>'
        f'<p class="lead">{escape(description)} Measured on {num:,} held-out questions.</p></header>'
        f'<ol class="headline">{sentences}</ol>{boxes}'
        '<p class="small">Square brackets hold 95 % intervals: of a share, Wilson\'s; of a difference, over the same '
        "questions, paired. A difference whose interval includes zero is called "
        f'<em class="noise">{WITHIN_NOISE}</em>, whichever way it points.</p>'
    )


def warning(ids: Sequence[str]) -> str:
    """Benchmark questions that the model was trained on."""
    if not ids:
        return ""
    return (
        f'<p class="note warn"><strong>Contamination.</strong> {len(ids)} of the questions asked here are, word for '
        f"word, among the training samples: <code>{', '.join(ids[:20])}{' ...' if len(ids) > 20 else ''}</code></p>"
    )


def figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{caption}</figcaption></figure>"


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
            rows.append(f'<tr><td class="group" colspan="7">{swatch}{name}</td></tr>')
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
            cells = "".join(f"<td>{_share(x)}</td>" for x in odd)
            rows.append(f"<tr><td>{escape(p.draws.setting.label)}</td>{cells}</tr>")
    if not rows:
        return '<p class="small">Every generation has an answer; none was truncated, looped or left ungraded.</p>'
    columns = ["setting", "no answer", "answer truncated", "thinking looped", "not graded", "failed"]
    return f"<details><summary>What went wrong, and how often</summary>{table(columns, rows[::-1])}</details>"


def _point_row(p: Point) -> str:
    paid = "" if p.tokens == 0 else _tokens(p.cost_per_correct) if p.estimate.value else "none right"
    right, wrong = (_tokens(p.votes * x) for x in thinking_by_correctness(p.draws))
    return (
        f"<tr><td>{escape(p.name)}</td><td>{with_interval(p.estimate)}</td><td>{_tokens(p.tokens)}</td>"
        f"<td>{paid}</td><td>{right}</td><td>{wrong}</td><td>{_share(rates(p.draws).cut_off)}</td></tr>"
    )


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
    height = 14
    cells = "".join(
        f"M{x} {y * height}h1v{height - 2}h-1z" for x, column in enumerate(columns) for y, ok in enumerate(column) if ok
    )
    labels = "".join(
        f'<text x="-6" y="{y * height + 9}" text-anchor="end" font-size="9" fill="var(--muted)">'
        f"{p.draws.setting.num_waits}</text>"
        for y, p in enumerate(findings.by_waits)
    )
    width = len(columns)
    return (
        f'<svg class="flips" role="img" aria-label="right and wrong by question and number of Waits" '
        f'viewBox="-18 0 {width + 18} {len(rows) * height}" preserveAspectRatio="none" '
        f'style="font-family:var(--sans)" shape-rendering="crispEdges"><rect width="{width}" '
        f'height="{len(rows) * height}" fill="var(--card)"/><path d="{cells}" fill="var(--waits)"/>{labels}</svg>'
    )


def methods_section(findings: Findings) -> str:
    if not findings.methods:
        return ""
    rows = [
        f"<tr><td>{escape(m.name)}</td><td>{'' if m.control is None else _share(m.control)}</td>"
        f"<td>{'' if m.scaling is None else f'{m.scaling:+.1f}'}</td><td>{100 * m.performance:.1f}</td>"
        f"<td>{len(m.points)}</td></tr>"
        for m in findings.methods
    ]
    matched = ""
    if findings.matched_vote:
        waits, vote, difference = findings.matched_vote
        noise = f' <em class="noise">{WITHIN_NOISE}</em>' if not difference.excludes_zero else ""
        matched = (
            f"<p>At matched cost: {escape(waits.name)} ({waits.tokens:,.0f} tokens) {percent(waits.estimate)}, "
            f"{escape(vote.name)} ({vote.tokens:,.0f} tokens) {percent(vote.estimate)}; difference "
            f"{points(difference)}{noise}.</p>"
        )
    return section(
        "Methods compared",
        "<p>The paper's three metrics. <em>Control</em>: the share of runs within their budget. "
        "<em>Scaling</em>: the mean slope, in percentage points per doubling of thinking tokens. "
        "<em>Performance</em>: the best accuracy.</p>"
        + table(["method", "control", "scaling", "performance, %", "points"], rows)
        + matched,
    )


def early_exit_section(findings: Findings) -> str:
    """What leaving when the answer is stable would have saved, and how far it can be trusted."""
    if not findings.early_exits:
        return ""
    rows = [
        f"<tr><td>{c.stable} in a row</td><td>{_share(c.left_early)}</td><td>{_maybe(c.right_when_left)}</td>"
        f"<td>{_maybe(c.agrees_with_full)}</td><td>{with_interval(c.accuracy)}</td><td>{_tokens(c.tokens)}</td>"
        f"<td>{_tokens(c.probe_tokens)}</td></tr>"
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


def _maybe(estimate: Estimate | None) -> str:
    return "" if estimate is None else with_interval(estimate)


def sources_section(findings: Findings, svg: str) -> str:
    if len(findings.sources) < 2:
        return ""
    columns = [p for p in (findings.baseline, *_ends(findings.by_budget)) if p]
    if findings.best_waits:
        columns.append(findings.best_waits.after)
    cells = {p.name: findings.by_source(p) for p in columns}
    counts = {s: sum(q.source == s for q in findings.results.questions) for s in findings.sources}
    rows = [
        f"<tr><td>{escape(source)}</td><td>{counts[source]}</td>"
        + "".join(f"<td>{with_interval(cells[p.name][source])}</td>" for p in columns)
        + "</tr>"
        for source in findings.sources
    ]
    return section(
        "By kind of question",
        figure(svg, "Each kind of question by itself: thinking budget and Waits.")
        + table(["", "questions", *(escape(p.name) for p in columns)], rows),
    )


def _ends(found: Sequence[Point]) -> list[Point]:
    return [found[0], found[-1]] if len(found) > 1 else list(found)


def funnel_section(found: Provenance) -> str:
    stages = [(s, r) for s, r in found.receipts.items() if s in ("collect", "distill", "curate")]
    if not stages:
        return ""
    most = max((r["counts"].get("in", 0) for _, r in stages), default=0) or 1
    rows: list[str] = []
    for stage, receipt in stages:
        counts = receipt["counts"]
        rows.append(_bar(stage, counts.get("in", 0), most, ""))
        rows += [_bar("", d.count, most, d.reason) for d in found.drops if d.stage == stage]
    last = stages[-1][1]["counts"].get("out", 0)
    rows.append(_bar("kept", last, most, ""))
    links = "".join(f' <a href="../{p}">{p}</a>' for p in found.pages)
    more = f'<p class="small">More:{links}</p>' if links else ""
    return section(
        "From the pool to the samples",
        f'<div class="funnel">{"".join(rows)}</div>' + more + _drop_examples(found.drops),
    )


def _bar(name: str, count: int, most: int, reason: str) -> str:
    width = 100 * count / most
    kind = "row drop" if reason else "row"
    label = f'<span title="{escape(reason)}">{escape(reason)}</span>' if reason else ""
    inside = f'<div class="track"><div class="bar" style="width:{width:.2f}%"></div>{label}</div>'
    sign = "−" if reason else ""
    return f'<div class="{kind}"><div>{escape(name)}</div>{inside}<div class="num">{sign}{count:,}</div></div>'


def _drop_examples(drops: Sequence[Drop]) -> str:
    rows = [
        f'<tr><td class="text">{escape(d.reason)}</td><td class="text">{escape(_short(d.example))}</td>'
        f'<td class="text">{escape(_short(d.evidence))}</td></tr>'
        for d in drops
        if d.example
    ]
    if not rows:
        return ""
    examples = table(["reason", "for example", "evidence"], rows, text=True)
    return f"<details><summary>An example of each reason to drop</summary>{examples}</details>"


def training_section(found: Provenance, svg: str) -> str:
    if not found.losses:
        return ""
    (first, a), (last, b) = found.losses[0], found.losses[-1]
    return section(
        "Training", figure(svg, f"Training loss, from {a:.2f} at step {first:,} to {b:.3f} at step {last:,}.")
    )


def traces_section(chosen: Sequence[tuple[str, Generation]], questions: dict[str, Question]) -> str:
    """Whole transcripts; what the machine put there is marked."""
    if not chosen:
        return ""
    return section(
        "Traces, whole",
        "<p>What the model sampled is plain. <span class='trace'><mark>Marked</mark></span> text was forced: a Wait in "
        "place of a stop, or the end of thinking when the budget was spent.</p>"
        + "".join(_trace(why, g, questions[g.question_id]) for why, g in chosen),
    )


def _trace(why: str, g: Generation, question: Question) -> str:
    kind = {"correct": "good", "wrong": "bad"}.get(g.verdict or "", "")
    spans = "".join(_span(s.origin, s.kind, s.text) for s in g.segments)
    setting = g.setting.label if g.setting else ""
    return (
        f'<article class="trace"><h3>{escape(why)}<span class="tag {kind}">{g.verdict}</span></h3>'
        f'<p class="question">{escape(question.text)}</p><pre>{spans}</pre>'
        f'<p class="small">{g.thinking_tokens} thinking tokens, {g.num_waits} Waits, thinking '
        f"{g.ending.replace('_', ' ')}; setting {escape(setting)}; the answer is "
        f"{escape(_reference(question))}; {escape(question.source)}, <code>{question.id}</code></p></article>"
    )


def _span(origin: str, kind: str, text: str) -> str:
    body = escape(text)
    if origin == "forced":
        body = f'<mark title="forced: {kind.replace("_", " ")}">{body}</mark>'
    elif kind == "close":
        body = f'<span class="delimiter">{body}</span>'
    return f"<strong>{body}</strong>" if kind == "answer" else body


def _reference(question: Question) -> str:
    return str(question.metadata.get("final_answer") or question.solution or "")[:80]


def questions_section(findings: Findings, thinking: dict[str, Generation], num_left_out: int) -> str:
    """Every question with its verdicts and one whole transcript."""
    shown = findings.by_waits or findings.by_budget
    if not shown:
        return ""
    verdicts = {p.name: dict(zip(p.draws.question_ids, p.outcomes[:, 0].tolist(), strict=True)) for p in shown}
    rows = []
    for q in findings.results.questions:
        marks = "".join(_mark(verdicts[p.name].get(q.id)) for p in shown)
        whole = f"<details><summary>{escape(_short(q.text)[:70])}</summary>{_whole(thinking.get(q.id), q)}</details>"
        rows.append(f'<tr><td class="text">{whole}</td><td class="text">{escape(q.source)}</td>{marks}</tr>')
    columns = ["question", "", *(str(p.draws.setting.num_waits) if findings.by_waits else p.name for p in shown)]
    left = (
        f" The transcripts of {num_left_out} questions are left out for their size: see evaluate/."
        if num_left_out
        else ""
    )
    what = "numbers of Waits" if findings.by_waits else "budgets"
    return section(
        "Question by question",
        f"<p>Verdicts for the {what}; a question opens to its longest transcript.{left}</p>"
        f"<details><summary>All {len(rows):,} questions</summary>{table(columns, rows)}</details>",
    )


def _mark(value: float | None) -> str:
    if value is None:
        return "<td></td>"
    return (
        '<td class="good">✓</td>' if value == 1 else '<td class="bad">✗</td>' if value == 0 else f"<td>{value:.2f}</td>"
    )


def _whole(g: Generation | None, question: Question) -> str:
    return "" if g is None else _trace(g.setting.label if g.setting else "", g, question)


def receipts_section(found: Provenance, identity: dict[str, Any]) -> str:
    rows = [
        f"<tr><td>{stage}</td><td>{receipt['seconds']:,.1f}</td><td>{receipt['seed']}</td>"
        f"<td class='text'>{escape(_counts(receipt['counts']))}</td><td>{escape(receipt['finished'])}</td></tr>"
        for stage, receipt in found.receipts.items()
    ]
    recipes = f"<pre>{escape(json.dumps(identity, indent=2, ensure_ascii=False))}</pre>"
    inputs = {f"{s}: {path}": h for s, r in found.receipts.items() for path, h in r["inputs"].items()}
    hashes = "".join(f"{h[:16]}  {escape(path)}\n" for path, h in inputs.items())
    return section(
        "Receipts",
        table(["stage", "seconds", "seed", "counts", "finished"], rows)
        + f"<details><summary>The recipe as resolved</summary>{recipes}</details>"
        + (f"<details><summary>SHA-256 of the inputs</summary><pre>{hashes}</pre></details>" if hashes else ""),
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n:,} {what}" for what, n in counts.items() if not what.startswith("dropped:"))


def section(title: str, body: str) -> str:
    """A titled part of the page."""
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def table(columns: Sequence[str], rows: Iterable[str], text: bool = False) -> str:
    """Rows of cells under their columns, scrolling by itself where the screen is narrow."""
    kind = ' class="text"' if text else ""
    head_ = "".join(f"<th{kind}>{c}</th>" for c in columns)
    return f'<div class="scroll"><table><thead><tr>{head_}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def with_interval(estimate: Estimate) -> str:
    """A share in percent, its interval paler."""
    value, interval = percent(estimate).split(" ", 1)
    return f'{value} <span class="ci">{interval}</span>'


def _tokens(value: float) -> str:
    return "" if value != value else f"{value:,.0f}"


def _share(value: float) -> str:
    return "0" if value == 0 else f"{100 * value:.1f} %"


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 180 else flat[:177] + "..."


def mark_noise(text: str) -> str:
    """The words `within noise` made visible."""
    return text.replace(WITHIN_NOISE, f'<em class="noise">{WITHIN_NOISE}</em>')
