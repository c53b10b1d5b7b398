"""What the generations of a run say, as numbers with intervals and plain sentences. Pure; it draws and writes nothing.

One setting beats another only where the paired interval excludes zero and the paired test agrees, over all draws;
both are adjusted for the number of comparisons made, also where the best of several settings was picked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import log

from s1kit.analysis import methods
from s1kit.analysis.intervals import Estimate
from s1kit.analysis.methods import plain
from s1kit.analysis.paired import Comparison, compare, holm, shared_ids
from s1kit.analysis.paper_metrics import Method, method_of
from s1kit.analysis.results import Draws, Point, PublishedNumber, Results
from s1kit.analysis.settings import DIRECT, FORCING, waits_name
from s1kit.analysis.statistics import accuracy


@dataclass
class Findings:
    """All results that a report shows of a run, computed on first access.

    `by_...` are series of points on the curve; `steps`, `best_waits` and `matched_votes` compare them in pairs;
    `methods` has the paper's metrics of each series.
    """

    results: Results
    votes: Sequence[int] = field(default_factory=tuple)
    numbers: Sequence[PublishedNumber] = field(default_factory=tuple)
    """What others printed for the same benchmarks."""

    @cached_property
    def _by_wait(self) -> dict[str | None, list[Draws]]:
        """Budget forcing at the temperature of the curve, by what a Wait says, the first one evaluated first."""
        t = self.results.temperature
        found = [d for s, d in self.results.draws.items() if s.method == FORCING and s.temperature == t]
        by_wait: dict[str | None, list[Draws]] = {d.setting.wait: [] for d in found}
        for d in sorted(found, key=lambda d: (_budget(d), d.setting.num_waits, d.setting.min_tokens)):
            by_wait[d.setting.wait].append(d)
        return by_wait

    @cached_property
    def _greedy(self) -> list[Draws]:
        """Draws with the wait that was evaluated first; other waits are methods of their own."""
        return next(iter(self._by_wait.values()), [])

    @cached_property
    def _sequential(self) -> list[Draws]:
        return [d for d in self._greedy if not d.setting.min_tokens]

    @cached_property
    def by_budget(self) -> list[Point]:
        """Thinking budgets, the model stopping when it wants."""
        return [plain(d, self.results.limit_name(d.setting)) for d in self._sequential if d.setting.num_waits == 0]

    @cached_property
    def by_budget_with_waits(self) -> list[Point]:
        """Thinking budgets, with the most Waits; empty when no Waits were asked for.

        A single one is shown by the numbers of Waits, or without these by itself: logs may hold nothing else.
        """
        most = max((d.setting.num_waits for d in self._sequential), default=0)
        found = [d for d in self._sequential if d.setting.num_waits == most > 0]
        is_shown = len(found) > 1 or not (self.by_waits or self.by_budget)
        return (
            [plain(d, f"{self.results.limit_name(d.setting)}, up to {waits_name(most)}") for d in found]
            if is_shown
            else []
        )

    @cached_property
    def main_line(self) -> list[Point]:
        """The series shown question by question: the numbers of Waits, or the budgets where there are no Waits."""
        return self.by_waits or self.by_budget or self.by_budget_with_waits

    @cached_property
    def by_waits(self) -> list[Point]:
        """Numbers of Waits under the largest budget; the first is none. Empty when only one number was asked for."""
        largest = max((_budget(d) for d in self._sequential), default=0)
        found = [d for d in self._sequential if _budget(d) == largest]
        return [plain(d, waits_name(d.setting.num_waits)) for d in found] if len(found) > 1 else []

    @cached_property
    def by_votes(self) -> list[Point]:
        """Majority votes over sampled generations, each at the price of all its draws."""
        return methods.votes(self.results, self.votes)

    @cached_property
    def by_minimum(self) -> list[Point]:
        """A point for each minimum of thinking tokens, under the largest budget."""
        found = [d for d in self._greedy if d.setting.min_tokens]
        return [plain(d, f"at least {d.setting.min_tokens:,} tokens") for d in found]

    @cached_property
    def by_other_wait(self) -> dict[str, list[Point]]:
        """Numbers of Waits under the largest budget, for every further text that was tried in place of a stop."""
        out = {}
        for text, draws in self._by_wait.items():
            most = max(_budget(d) for d in draws)
            found = [d for d in draws if _budget(d) == most and not d.setting.min_tokens]
            if draws is not self._greedy and found:
                name = "the format's own Wait" if text is None else f'waiting with "{text}"'
                out[name] = [plain(d, waits_name(d.setting.num_waits)) for d in found]
        return out

    @cached_property
    def others(self) -> dict[str, list[Point]]:
        """Every other method that was run or can be computed from recorded draws, by name."""
        found = {
            **self.by_other_wait,
            "least thinking demanded": self.by_minimum,
            **methods.controlled(self.results),
            "rejection sampling": methods.rejected(self.results),
            "left when settled": methods.automatic(self.results),
            "shortest of several": methods.shortest(self.results, self.votes),
            "likeliest of several": methods.likeliest(self.results, self.votes),
            "adaptive vote": methods.adaptive(self.results),
        }
        return {name: points for name, points in found.items() if points}

    @cached_property
    def undrawn(self) -> list[Point]:
        """Settings of which no series has a point: of another temperature, or Waits between none and the most."""
        series = [self.by_budget, self.by_budget_with_waits, self.by_waits, self.by_votes, *self.others.values()]
        shown = {p.draws.setting for points in series for p in points}
        left = [d for s, d in self.results.draws.items() if s not in shown and s.method == FORCING]
        bare = ", temperature 0 or not stated" if self.results.temperature else ""
        return [plain(d, self.results.said(d.setting) + ("" if d.setting.temperature else bare)) for d in left]

    @cached_property
    def comparators(self) -> list[Point]:
        """Other models on the same questions, a point each."""
        return methods.comparators(self.results)

    @cached_property
    def passes(self) -> list[Point]:
        """pass@k for each number of votes: an upper bound, since it takes an oracle to choose."""
        return methods.passes(self.results, self.votes)

    @cached_property
    def early_exits(self) -> list[methods.Calibration]:
        """How far an early exit can be trusted, a row for each number of agreeing probes."""
        return methods.calibration(self.results)

    @cached_property
    def baseline(self) -> Point | None:
        """The base model answering directly."""
        for setting, draws in self.results.draws.items():
            if setting.method == DIRECT:
                return Point(f"{setting.model}, answering directly", 0.0, accuracy(draws.correct), draws)
        return None

    @cached_property
    def steps(self) -> list[Comparison]:
        """Each number of Waits against the next; intervals hold all at once, p-values are adjusted by Holm."""
        pairs = list(zip(self.by_waits, self.by_waits[1:], strict=False))
        adjusted = holm([compare(a, b).p_value for a, b in pairs])
        return [
            replace(compare(a, b, comparisons=len(pairs)), p_value=p) for (a, b), p in zip(pairs, adjusted, strict=True)
        ]

    @cached_property
    def best_waits(self) -> Comparison | None:
        """The number of Waits with the best accuracy against none; its interval is widened for the picking."""
        if len(self.by_waits) < 2:
            return None
        none, *some = self.by_waits
        return compare(none, max(some, key=lambda p: p.estimate.value), comparisons=len(some))

    @cached_property
    def matched_votes(self) -> list[Comparison]:
        """Each number of Waits (`after`) beside the vote nearest in cost; the intervals hold all at once."""
        if not self.by_votes:
            return []
        return [compare(self._nearest_vote(w), w, comparisons=len(self.by_waits)) for w in self.by_waits]

    def _nearest_vote(self, point: Point) -> Point:
        cost = log(max(point.tokens, 1))
        return min(self.by_votes, key=lambda p: abs(log(max(p.tokens, 1)) - cost))

    @cached_property
    def matched_vote(self) -> Comparison | None:
        """The best Waits (`after`) beside the vote that costs the nearest number of thinking tokens.

        Which Waits are the best was picked on these questions, so it is widened like all of `matched_votes`.
        """
        best = self.best_waits
        return next((c for c in self.matched_votes if best and c.after is best.after), None)

    @cached_property
    def methods(self) -> list[Method]:
        """All methods that were run, with the paper's metrics."""
        named = [
            ("thinking budget, no Waits", self.by_budget),
            ("thinking budget, most Waits", self.by_budget_with_waits),
            ("Waits, largest budget", self.by_waits),
            ("majority vote", self.by_votes),
            *self.others.items(),
        ]
        kept = [(name, points) for name, points in named if len(points) > 1 or name in self.others]
        free = self.by_budget[-1].draws if self.by_budget else None
        return [method_of(name, points, free) for name, points in kept]

    @cached_property
    def oscillating(self) -> list[str]:
        """Questions whose verdict changed more than once along the numbers of Waits."""
        if len(self.by_waits) < 3:
            return []
        ids = shared_ids([p.draws for p in self.by_waits])
        rows = [p.draws.on(ids).correct[:, 0] for p in self.by_waits]  # one path through the Waits, so one draw
        return [
            question
            for i, question in enumerate(ids)
            if sum(rows[j][i] != rows[j + 1][i] for j in range(len(rows) - 1)) > 1
        ]

    @cached_property
    def benchmarks(self) -> list[str]:
        """Names of the benchmarks that were asked, in the order of the questions."""
        return list(dict.fromkeys(str(q.metadata.get("benchmark") or q.source) for q in self.results.questions))

    @cached_property
    def source_of(self) -> dict[str, str]:
        """For each question its kind in tables and panels: its benchmark where there are several, else its source."""
        several = len(self.benchmarks) > 1
        return {
            q.id: str((several and q.metadata.get("benchmark")) or q.source or "unnamed")
            for q in self.results.questions
        }

    @cached_property
    def sources(self) -> list[str]:
        """The kinds of `source_of`, in the order of the questions."""
        return list(dict.fromkeys(self.source_of.values()))

    def numbers_of(self, source: str | None) -> list[PublishedNumber]:
        """The published numbers that belong on the curve of a source, or of all questions together (None)."""
        wanted = source if source is not None else self.benchmarks[0] if len(self.benchmarks) == 1 else None
        return [n for n in self.numbers if n.benchmark == wanted]

    def by_source(self, point: Point) -> dict[str, Estimate]:
        """A point's accuracy for each source of questions."""
        source = self.source_of
        out = {}
        for name in self.sources:
            rows = [i for i, q in enumerate(point.draws.question_ids) if source[q] == name]
            if rows:
                outcomes = point.outcomes[rows]
                whole = point.per_question is None
                out[name] = accuracy(outcomes, worth=None if whole else point.worth)
        return out


def _budget(draws: Draws) -> float:
    return float("inf") if draws.setting.max_tokens is None else draws.setting.max_tokens
