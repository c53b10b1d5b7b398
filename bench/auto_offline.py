"""Leaving thinking early against the best fixed budget at equal tokens, on published thinking.

    python bench/auto_offline.py gens.jsonl.gz          rows with question, model, thinking, thinking_tokens, answer

Nothing is decoded. The answer at a point of the thinking is the last number that the text has named until there: a
stand-in for a probe, read off in the same way for both sides. Half of the questions choose the fixed budget, the
smallest whose average tokens are no fewer than those of leaving early; the other half measures, then the halves change
places. Each question counts once; intervals are paired bootstraps over questions, not adjusted for their number.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import sys
from collections import defaultdict
from pathlib import Path

from s1kit.adaptive.calibration import STABLE
from s1kit.analysis.parallel import early_exit

EVERY = 64
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def number(text: str) -> float | None:
    try:
        return float(text.replace(",", "").rstrip("."))
    except ValueError:
        return None


class Row:
    """The answers at every point of one thinking."""

    def __init__(self, raw: dict[str, object]) -> None:
        thinking, self.length = str(raw["thinking"]), int(str(raw["thinking_tokens"]))
        self.qid, gold = str(raw["qid"]), number(str(raw["answer"]))
        found = [(m.end(), number(m.group())) for m in NUMBER.finditer(thinking)]
        self.points = [*range(EVERY, self.length, EVERY), self.length]
        self.answers: list[str | None] = []
        at = 0
        for point in self.points:
            # Tokens are spread evenly over the text.
            end = len(thinking) * point / max(1, self.length)
            while at < len(found) and found[at][0] <= end:
                at += 1
            self.answers.append(str(found[at - 1][1]) if at else None)
        self.right = [answer == str(gold) for answer in self.answers]

    def fixed(self, budget: int) -> tuple[float, bool]:
        place = max((i for i, point in enumerate(self.points) if point <= budget), default=0)
        return min(budget, self.length), self.right[place]

    def auto(self, stable: int) -> tuple[float, bool]:
        at = early_exit(self.answers, self.points, [0.0] * len(self.points), stable)
        return at.tokens, self.right[at.probe]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def compared(rows: list[Row], stable: int) -> tuple[list[tuple[str, float, float]], float, float]:
    """Question, auto right, fixed right of every row, the budget chosen on the other half; and both averages."""
    out, spent = [], [[], []]
    order = sorted({row.qid for row in rows})
    half = {qid: i % 2 for i, qid in enumerate(order)}
    for measured in (0, 1):
        choosing = [row for row in rows if half[row.qid] != measured]
        tokens = mean([row.auto(stable)[0] for row in choosing])
        budgets = range(EVERY, 8192, EVERY)
        budget = next((b for b in budgets if mean([row.fixed(b)[0] for row in choosing]) >= tokens), 8192)
        for row in rows:
            if half[row.qid] == measured:
                (a, auto), (f, fixed) = row.auto(stable), row.fixed(budget)
                out.append((row.qid, float(auto), float(fixed)))
                spent[0].append(a)
                spent[1].append(f)
    return out, mean(spent[0]), mean(spent[1])


def interval(pairs: list[tuple[str, float, float]]) -> tuple[float, float, float]:
    """The average over questions of the difference, and its interval."""
    of: dict[str, list[float]] = defaultdict(list)
    for qid, auto, fixed in pairs:
        of[qid].append(auto - fixed)
    means, draw = [mean(v) for v in of.values()], random.Random(0)
    found = sorted(mean(draw.choices(means, k=len(means))) for _ in range(2000))
    return mean(means), found[50], found[1949]


def main() -> None:
    rows_of: dict[str, list[Row]] = defaultdict(list)
    with gzip.open(Path(sys.argv[1]), "rt", encoding="utf-8") as file:
        for line in file:
            raw = json.loads(line)
            if raw["thinking"] and number(str(raw["answer"])) is not None and int(raw["thinking_tokens"]) > 0:
                rows_of[str(raw["model"])].append(Row({"qid": raw["question"]} | raw))
    print("model, rows: equal answers; auto's tokens and accuracy; fixed's; difference [95 %]; all thinking")
    for model, rows in sorted(rows_of.items()):
        if len(rows) < 100:
            continue
        full = f"{mean([float(r.length) for r in rows]):6.0f} {mean([float(r.right[-1]) for r in rows]):6.1%}"
        for stable in STABLE:
            pairs, tokens, other = compared(rows, stable)
            auto, fixed = mean([p[1] for p in pairs]), mean([p[2] for p in pairs])
            difference, low, high = interval(pairs)
            print(
                f"{model:45} {len(rows):5} {stable:2}  {tokens:6.0f} {auto:6.1%}  {other:6.0f} {fixed:6.1%}  "
                f"{100 * difference:+5.1f} [{100 * low:+5.1f}, {100 * high:+5.1f}]  {full}"
            )


if __name__ == "__main__":
    main()
