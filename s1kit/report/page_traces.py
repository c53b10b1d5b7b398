"""The report's transcripts: some whole, and every question with its verdicts. What the machine put there is marked."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from s1kit.analysis.findings import Findings
from s1kit.analysis.settings import said, waits_name
from s1kit.records import Generation, Question
from s1kit.report.page import is_public, section, short, table

WITHHELD = "its authors ask that it is not republished; text and thinking are in the rows of evaluate/."


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
    if not is_public(question):
        return f'<p class="small">Question <code>{question.id}</code>: {WITHHELD}</p>'
    kind = {"correct": "good", "wrong": "bad"}.get(g.verdict or "", "")
    spans = "".join(_span(s.origin, s.kind, s.text) for s in g.segments)
    setting = said(g.setting) if g.setting else ""
    return (
        f'<article class="trace"><h3>{escape(why)}<span class="tag {kind}">{g.verdict}</span></h3>'
        f'<p class="question">{escape(question.text)}</p><pre>{spans}</pre>'
        f'<p class="small">{g.thinking_tokens} thinking tokens, {waits_name(g.num_waits)}, thinking '
        f"{g.ending.replace('_', ' ')}; asked for {escape(setting)}; the answer is "
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
        name = escape(short(q.text)[:70]) if is_public(q) else f"<code>{q.id}</code>"
        whole = f"<details><summary>{name}</summary>{_whole(thinking.get(q.id), q)}</details>"
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
    return "" if g is None else _trace(said(g.setting) if g.setting else "", g, question)
