"""Question by question: the map of right and wrong, the table of verdicts, and which transcripts are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from s1kit.analysis.findings import Findings
from s1kit.analysis.results import Draws
from s1kit.analysis.statistics import question_means
from s1kit.records import Generation, Question, Setting

FLIP_HEIGHT, FLIP_WIDTH, MAX_FLIPS = 14, 720, 1000
"""The map of right and wrong: height of a row and width in SVG units, and the most questions it shows."""

MAX_TRANSCRIPTS = 500
MAX_TRANSCRIPT_TOKENS = 400_000
"""About two megabytes of page."""


def flip_map(findings: Findings) -> dict[str, Any]:
    """Right and wrong, question by question, along the numbers of Waits, as one SVG path."""
    if not findings.by_waits:
        return {}
    ids = findings.by_waits[0].draws.question_ids
    rows = [[bool(c) for c in p.draws.on(ids).correct[:, 0]] for p in findings.by_waits]
    # Right from the first, then what each Wait fixes, then what stays wrong: broken ones stand out as gaps.
    columns = sorted(zip(*rows, strict=True), reverse=True)[:: max(1, len(ids) // MAX_FLIPS)]
    each = FLIP_WIDTH / len(columns)
    cells = (
        f"M{x * each:.2f} {y * FLIP_HEIGHT}h{each:.2f}v{FLIP_HEIGHT - 2}h-{each:.2f}z"
        for x, column in enumerate(columns)
        for y, is_right in enumerate(column)
        if is_right
    )
    labels = [(y * FLIP_HEIGHT + 9, p.draws.setting.num_waits) for y, p in enumerate(findings.by_waits)]
    return {"path": "".join(cells), "labels": labels, "width": FLIP_WIDTH, "height": len(rows) * FLIP_HEIGHT}


def verdicts(findings: Findings) -> tuple[list[str], list[tuple[Question, list[float | None], str]]]:
    """Names of the budgets or numbers of Waits; each question with its share of right draws under each, and its kind.

    The kind is `right`, `wrong`, `fixed` or `broken` from the first column to the last, or empty.
    """
    shown = findings.main_line
    columns = [str(p.draws.setting.num_waits) if findings.by_waits else p.name for p in shown]
    found = [dict(zip(p.draws.question_ids, question_means(p.outcomes).tolist(), strict=True)) for p in shown]
    rows = [(q, [one.get(q.id) for one in found]) for q in findings.results.questions]
    return columns, [(q, outcomes, kind_of(outcomes)) for q, outcomes in rows]


def kind_of(outcomes: Sequence[float | None]) -> str:
    """How a question fared from the first to the last setting that asked it: right, wrong, fixed, broken, or empty.

    >>> kind_of([1.0, 1.0]), kind_of([0.0, 0.0, 1.0]), kind_of([1.0, None, 0.25]), kind_of([0.0, 1.0, 0.0])
    ('right', 'fixed', 'broken', '')
    """
    known = [o for o in outcomes if o is not None]
    if not known or known[0] == known[-1]:
        return "right" if known and set(known) == {1.0} else "wrong" if set(known) == {0.0} else ""
    return "fixed" if known[-1] > known[0] else "broken"


def longest(findings: Findings) -> tuple[dict[str, Generation], int]:
    """Transcripts under the largest setting by question id, as many as a page can carry, and how many are left out."""
    shown = findings.main_line
    if not shown:
        return {}, 0
    draws = shown[-1].draws
    mean = float(question_means(draws.thinking_tokens + draws.answer_tokens).mean())
    fitting = max(0, min(MAX_TRANSCRIPTS, int(MAX_TRANSCRIPT_TOKENS / max(mean, 1.0))))
    ids = draws.question_ids[:fitting]
    found = {g.question_id: g for g in findings.results.texts(ids, [draws.setting]) if g.repeat == 0}
    return found, len(draws.question_ids) - len(ids)


def examples(findings: Findings) -> list[tuple[str, Generation]]:
    """Up to three transcripts that show what Waits and cutoffs do, the shortest of their kind, with the reason."""
    wanted: list[tuple[str, str, Setting]] = []
    if findings.best_waits:
        none, best, most = findings.best_waits.before, findings.best_waits.after, findings.by_waits[-1]
        if fixed := _first_change(none.draws, best.draws, 0.0, 1.0):
            wanted.append(("Fixed by waiting: wrong without a Wait, right with", fixed, best.draws.setting))
        if broken := _first_change(none.draws, most.draws, 1.0, 0.0):
            wanted.append(("Broken by waiting: right without a Wait, wrong with", broken, most.draws.setting))
    if cut := _cut_off(findings):
        wanted.append(("Cut off: the budget was spent, an answer was forced", *cut))
    read = findings.results.texts([q for _, q, _ in wanted], [s for _, _, s in wanted])
    texts = {(g.question_id, g.setting): g for g in read if g.repeat == 0}
    chosen = [(why, texts[q, s]) for why, q, s in wanted if (q, s) in texts]
    if not chosen and findings.by_budget:
        draws = findings.by_budget[-1].draws
        some = findings.results.texts(draws.question_ids[:2], [draws.setting])
        chosen = [("An answer", g) for g in some][:2]
    return chosen


def _first_change(before: Draws, after: Draws, was: float, now: float) -> str | None:
    """The question with the fewest Waits, then the shortest thinking, whose first draw went from `was` to `now`."""
    there = set(after.question_ids)
    ids = [q for q in before.question_ids if q in there]
    a, b = before.on(ids), after.on(ids)
    hits = [i for i in range(len(ids)) if a.correct[i, 0] == was and b.correct[i, 0] == now and b.waits[i, 0] > 0]
    return ids[min(hits, key=lambda i: (b.waits[i, 0], b.thinking_tokens[i, 0]))] if hits else None


def _cut_off(findings: Findings) -> tuple[str, Setting] | None:
    for point in findings.by_budget[len(findings.by_budget) // 2 :]:
        draws = point.draws
        for i, question in enumerate(draws.question_ids):
            if draws.ending[i, 0] == "cut_off" and draws.thinking_tokens[i, 0] > 0:
                return question, draws.setting
    return None
