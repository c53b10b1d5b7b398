"""Which transcripts a report shows: what a Wait fixed, what it broke, a cutoff; and one of each question."""

from __future__ import annotations

from s1kit.analysis.findings import Findings
from s1kit.analysis.results import Draws
from s1kit.analysis.statistics import question_means
from s1kit.records import Generation, Setting

MAX_TRANSCRIPTS = 500
MAX_TRANSCRIPT_TOKENS = 400_000
"""About two megabytes of page."""


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
