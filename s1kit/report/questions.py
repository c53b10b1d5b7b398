"""How each question fared along the settings: the map of right and wrong, and the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from s1kit.analysis.findings import Findings
from s1kit.analysis.statistics import question_means
from s1kit.records import Question

FLIP_HEIGHT, FLIP_WIDTH, MAX_FLIPS = 14, 720, 1000
"""The map of right and wrong: height of a row and width in SVG units, and the most questions it shows."""


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
