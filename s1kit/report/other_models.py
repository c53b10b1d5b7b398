"""The table of other models, whose outputs were graded here."""

from __future__ import annotations

from collections import Counter
from typing import Any

from s1kit.analysis.comparisons import Comparison, compare
from s1kit.analysis.findings import Findings
from s1kit.analysis.rates import rates
from s1kit.analysis.results import HIDDEN, UNCOUNTED, WORDS_NOTE, Draws, Point
from s1kit.analysis.settings import CHAT
from s1kit.analysis.statistics import ratio
from s1kit.report.sentences import with_interval

COUNTED = {
    HIDDEN: "hidden; from the reported usage",
    UNCOUNTED: "estimated: output less the answer's words",
    WORDS_NOTE: "counted as words",
}
"""How a note of a generation reads in the table."""


def comparators(findings: Findings) -> dict[str, Any]:
    """Other models whose outputs were graded here, compared with the best setting of this run."""
    ours, tried = findings.main_line[-1] if findings.main_line else None, 1
    if findings.best_waits:
        ours, tried = findings.best_waits.after, max(1, len(findings.by_waits) - 1)
    tried *= len(findings.comparators)
    asked = len(findings.results.questions)
    return {
        "ours": ours.name if ours else "",
        "rows": [
            _comparator(p, asked, compare(ours, p, comparisons=tried) if ours else None) for p in findings.comparators
        ],
    }


def _comparator(p: Point, asked: int, difference: Comparison | None) -> dict[str, Any]:
    import numpy as np

    draws = p.draws
    num, dollars = len(draws.question_ids), float(np.nansum(draws.cost_usd))
    failed = rates(draws).failed.value
    price = ratio(np.nansum(draws.cost_usd, axis=1), np.nansum(draws.correct, axis=1))
    return {
        "point": p,
        "how": "asked now" if draws.setting.method == CHAT else "published outputs",
        "lost": f"{100 * failed:.1f} % failed, counted as wrong" if failed else "",
        "questions": str(num) if num == asked else f"{num} of {asked}",
        "counted": counted(draws),
        "dollars": f"{dollars:.4f}" if dollars else "",
        "dollars_per_right": with_interval(price, ".4f") if price.value else "",
        "difference": difference,
    }


def counted(draws: Draws) -> str:
    """Where the thinking tokens of a model's rows are from; several ways, where rows differ."""
    import numpy as np

    ways: Counter[str] = Counter()
    for note in draws.note[~np.isnan(draws.correct)].tolist():
        ways[next((text for key, text in COUNTED.items() if key in str(note)), "as reported")] += 1
    if len(ways) == 1:
        return next(iter(ways))
    return "; ".join(f"{num}: {way}" for way, num in ways.most_common())
