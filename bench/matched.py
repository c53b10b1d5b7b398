"""Every method of a run beside plain thinking budgets that spend the same number of tokens. Pure.

Budgets lie on a grid, and a method hardly spends what one of them does. So the two budgets around it are mixed: with
some probability a question gets the smaller one, otherwise the larger one, so that the average spent is equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from s1kit.analysis.findings import Findings
from s1kit.analysis.paired import Comparison, compare, outcomes_on, shared_ids
from s1kit.analysis.results import Point
from s1kit.analysis.statistics import accuracy, question_means


@dataclass(frozen=True)
class AtEqualTokens:
    """One point of a method (`after`) against thinking budgets (`before`)."""

    method: str
    comparison: Comparison
    is_equal: bool
    """Whether the budgets reach what the method spends; otherwise it is compared with the nearest one."""


def at_equal_tokens(findings: Findings) -> list[AtEqualTokens]:
    """Every method's points; the intervals hold all at once. Empty with fewer than two thinking budgets."""
    budgets = sorted(findings.by_budget, key=lambda point: point.tokens)
    if len(budgets) < 2:
        return []
    named = {
        # Without a budget there is nothing to wait in; the largest one is the last of the next series.
        "thinking budget, most Waits": [p for p in findings.by_budget_with_waits[:-1] if p.draws.setting.max_tokens],
        "Waits, largest budget": findings.by_waits[1:],
        "majority vote": [point for point in findings.by_votes if point.votes > 1],
        **findings.others,
    }
    several = sum(len(points) for points in named.values())
    found = []
    for name, points in named.items():
        for point in points:
            before, is_equal = mixed(budgets, point)
            found.append(AtEqualTokens(name, compare(before, point, comparisons=several), is_equal))
    return found


def mixed(budgets: Sequence[Point], point: Point) -> tuple[Point, bool]:
    """Budgets in order of their tokens, mixed to spend what the point does, and whether they could."""
    ids = shared_ids([point.draws, *(budget.draws for budget in budgets)])
    below = max((b for b in budgets if b.tokens <= point.tokens), key=lambda b: b.tokens, default=budgets[0])
    above = min((b for b in budgets if b.tokens >= point.tokens), key=lambda b: b.tokens, default=budgets[-1])
    is_equal = below.tokens <= point.tokens <= above.tokens
    if above.tokens <= below.tokens or not is_equal:
        return (below if is_equal or point.tokens > below.tokens else above), is_equal
    share = (point.tokens - below.tokens) / (above.tokens - below.tokens)
    parts = [question_means(outcomes_on(budget, ids)) for budget in (below, above)]
    chance = ((1 - share) * parts[0] + share * parts[1])[:, None]
    name = f"{below.name} and {above.name}"
    return Point(name, point.tokens, accuracy(chance), below.draws.on(ids), per_question=chance), True
