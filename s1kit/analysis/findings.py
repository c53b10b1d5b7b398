"""What the generations of a run say, as numbers with intervals and plain sentences. Pure; it draws and writes nothing.

No sentence here claims that one setting beats another unless the paired interval excludes zero, and intervals of a
setting that was picked as the best of several are widened for the picking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from s1kit.analysis import methods
from s1kit.analysis.metrics import control, performance, scaling
from s1kit.analysis.published_number import PublishedNumber
from s1kit.analysis.results import Draws, Point, Results
from s1kit.analysis.settings import CLASS_CONTROL, DIRECT, FORCING, target_range, waits_name
from s1kit.analysis.statistics import Estimate, Flips, accuracy, flips, holm, paired_difference, wilson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Step:
    """What one more step of Waits did to the same questions."""

    before: Point
    after: Point
    flips: Flips
    p_adjusted: float
    """McNemar's exact p, adjusted (Holm) for the number of steps looked at."""
    difference: Estimate

    @property
    def is_noise(self) -> bool:
        return not self.difference.excludes_zero or self.p_adjusted > 0.05


@dataclass(frozen=True)
class Method:
    """The paper's three metrics of one way to spend test-time compute."""

    name: str
    points: tuple[Point, ...]
    control: float | None
    """Share of generations within what was asked; None where no number was asked for."""
    scaling: float | None
    """Percentage points per doubling of thinking tokens; None with fewer than two different lengths."""
    performance: float


@dataclass(frozen=True)
class Rates:
    """How often something went other than planned in one setting, as shares of its generations."""

    cut_off: float
    no_answer: float
    truncated: float
    loop: float
    abstain: float
    failed: float


@dataclass
class Findings:
    results: Results
    votes: Sequence[int] = field(default_factory=tuple)
    numbers: Sequence[PublishedNumber] = field(default_factory=tuple)
    """What others printed for the same benchmarks."""

    @cached_property
    def _by_wait(self) -> dict[str | None, list[Draws]]:
        """Budget forcing at the evaluation's own temperature, all of it but the votes' draws, by what a Wait says."""
        found = [d for s, d in self.results.draws.items() if s.method == FORCING]
        lowest = min((d.setting.temperature for d in found), default=0.0)
        by_wait: dict[str | None, list[Draws]] = {}
        for d in sorted(found, key=lambda d: (_budget(d), d.setting.num_waits, d.setting.min_tokens)):
            if d.setting.temperature == lowest:
                by_wait.setdefault(d.setting.wait, []).append(d)
        return by_wait

    @cached_property
    def _greedy(self) -> list[Draws]:
        """Draws with the wait that was evaluated first; other waits are methods of their own."""
        first = next((s.wait for s in self.results.draws if s.wait in self._by_wait and s.method == FORCING), None)
        return self._by_wait.get(first, [])

    @cached_property
    def _sequential(self) -> list[Draws]:
        return [d for d in self._greedy if not d.setting.min_tokens]

    @cached_property
    def by_budget(self) -> list[Point]:
        """Thinking budgets, the model stopping when it wants."""
        return [_point(d, _budget_name(d)) for d in self._sequential if d.setting.num_waits == 0]

    @cached_property
    def by_budget_with_waits(self) -> list[Point]:
        """Thinking budgets, with the most Waits; empty when no Waits were asked for."""
        most = max((d.setting.num_waits for d in self._sequential), default=0)
        found = [d for d in self._sequential if d.setting.num_waits == most > 0]
        return [_point(d, f"{_budget_name(d)}, up to {waits_name(most)}") for d in found] if len(found) > 1 else []

    @cached_property
    def by_waits(self) -> list[Point]:
        """Numbers of Waits under the largest budget; the first is none. Empty when only one number was asked for."""
        largest = max((_budget(d) for d in self._sequential), default=0)
        found = [d for d in self._sequential if _budget(d) == largest]
        return [_point(d, waits_name(d.setting.num_waits)) for d in found] if len(found) > 1 else []

    @cached_property
    def by_votes(self) -> list[Point]:
        """Majority votes over sampled generations, each at the price of all its draws."""
        return methods.votes(self.results, self.votes)

    @cached_property
    def by_minimum(self) -> list[Point]:
        """Least thinking demanded, under the largest budget."""
        found = [d for d in self._greedy if d.setting.min_tokens]
        return [_point(d, f"at least {d.setting.min_tokens:,} tokens") for d in found]

    @cached_property
    def by_other_wait(self) -> dict[str, list[Point]]:
        """Numbers of Waits under the largest budget, for every further text that was tried in place of a stop."""
        out = {}
        for text, draws in self._by_wait.items():
            most = max(_budget(d) for d in draws)
            found = [d for d in draws if _budget(d) == most and not d.setting.min_tokens]
            if draws is not self._greedy and found:
                name = "the format's own Wait" if text is None else f'waiting with "{text}"'
                out[name] = [_point(d, waits_name(d.setting.num_waits)) for d in found]
        return out

    @cached_property
    def others(self) -> dict[str, list[Point]]:
        """Every other method that was run or can be worked out, by name."""
        found = {
            **self.by_other_wait,
            "least thinking demanded": self.by_minimum,
            **methods.controlled(self.results),
            "rejection sampling": methods.rejected(self.results),
            "shortest of several": methods.shortest(self.results, self.votes),
            "adaptive vote": methods.adaptive(self.results),
        }
        return {name: points for name, points in found.items() if points}

    @cached_property
    def comparators(self) -> list[Point]:
        return methods.comparators(self.results)

    @cached_property
    def passes(self) -> list[Point]:
        return methods.passes(self.results, self.votes)

    @cached_property
    def early_exits(self) -> list[methods.Calibration]:
        return methods.calibration(self.results)

    @cached_property
    def baseline(self) -> Point | None:
        """The base model answering directly."""
        for setting, draws in self.results.draws.items():
            if setting.method == DIRECT:
                return Point(f"{setting.model}, answering directly", 0.0, accuracy(draws.correct), draws)
        return None

    @cached_property
    def steps(self) -> list[Step]:
        """From each number of Waits to the next."""
        pairs = list(zip(self.by_waits, self.by_waits[1:], strict=False))
        tables = [_flips(a, b) for a, b in pairs]
        adjusted = holm([t.p_value for t in tables])
        return [Step(a, b, t, p, compare(a, b)) for (a, b), t, p in zip(pairs, tables, adjusted, strict=True)]

    @cached_property
    def best_waits(self) -> Step | None:
        """From no Wait to the number of Waits with the best accuracy, its interval widened for the picking."""
        if len(self.by_waits) < 2:
            return None
        none, *some = self.by_waits
        best = max(some, key=lambda p: p.estimate.value)
        table = _flips(none, best)
        p = min(1.0, table.p_value * len(some))
        return Step(none, best, table, p, compare(none, best, comparisons=len(some)))

    @cached_property
    def matched_votes(self) -> list[tuple[Point, Point, Estimate]]:
        """Each number of Waits beside the vote nearest in cost; the intervals hold all at once."""
        pairs = [(waits, self._nearest_vote(waits)) for waits in self.by_waits if self.by_votes]
        return [(waits, vote, compare(vote, waits, comparisons=len(pairs))) for waits, vote in pairs]

    def _nearest_vote(self, point: Point) -> Point:
        import math

        cost = math.log(max(point.tokens, 1))
        return min(self.by_votes, key=lambda p: abs(math.log(max(p.tokens, 1)) - cost))

    @cached_property
    def matched_vote(self) -> tuple[Point, Point, Estimate] | None:
        """The best Waits beside the vote that costs the nearest number of thinking tokens, and their difference."""
        if self.best_waits is None or not self.by_votes:
            return None
        waits = self.best_waits.after
        vote = self._nearest_vote(waits)
        return waits, vote, compare(vote, waits)

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
        return [_method(name, points, free) for name, points in kept]

    @cached_property
    def oscillating(self) -> list[str]:
        """Questions whose verdict changed more than once along the numbers of Waits."""
        if len(self.by_waits) < 3:
            return []
        ids = _shared_ids([p.draws for p in self.by_waits])
        rows = [p.draws.on(ids).correct[:, 0] for p in self.by_waits]
        return [
            question
            for i, question in enumerate(ids)
            if sum(rows[j][i] != rows[j + 1][i] for j in range(len(rows) - 1)) > 1
        ]

    @cached_property
    def benchmarks(self) -> list[str]:
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
                out[name] = accuracy(outcomes) if whole else wilson(float(outcomes.sum()), len(rows))
        return out


def compare(before: Point, after: Point, comparisons: int = 1) -> Estimate:
    """How much better `after` is on the questions that both answered."""
    ids = _shared_ids([before.draws, after.draws])
    return paired_difference(_rows(before, ids), _rows(after, ids), comparisons=comparisons)


def rates(draws: Draws) -> Rates:
    ending = draws.ending
    return Rates(
        cut_off=float((ending == "cut_off").mean()),
        no_answer=float((draws.answered == 0).mean()),
        truncated=float(draws.truncated.mean()),
        loop=float((ending == "loop").mean()),
        abstain=float(draws.abstained.mean()),
        failed=float((ending == "failed").mean()),
    )


def thinking_by_correctness(draws: Draws) -> tuple[float, float]:
    """Average thinking tokens of right and of wrong generations; nan where there are none."""
    right = draws.correct == 1
    tokens = draws.thinking_tokens
    return (
        float(tokens[right].mean()) if right.any() else float("nan"),
        float(tokens[~right].mean()) if (~right).any() else float("nan"),
    )


def _point(draws: Draws, name: str) -> Point:
    return Point(name, draws.mean_thinking, accuracy(draws.correct), draws)


def _budget(draws: Draws) -> float:
    return float("inf") if draws.setting.max_tokens is None else draws.setting.max_tokens


def _budget_name(draws: Draws) -> str:
    limit = draws.setting.max_tokens
    return "no limit" if limit is None else f"{limit:,} tokens"


def _shared_ids(draws: Sequence[Draws]) -> list[str]:
    everywhere = set.intersection(*(set(d.question_ids) for d in draws))
    return [q for q in draws[0].question_ids if q in everywhere]


def _rows(point: Point, ids: Sequence[str]) -> Matrix:
    row = {question_id: i for i, question_id in enumerate(point.draws.question_ids)}
    return point.outcomes[[row[q] for q in ids]]


def _flips(before: Point, after: Point) -> Flips:
    ids = _shared_ids([before.draws, after.draws])
    a, b = _rows(before, ids)[:, 0], _rows(after, ids)[:, 0]
    return flips([bool(x) for x in a], [bool(x) for x in b])


def _moved(asked: Draws, free: Draws) -> float:
    """The share of questions whose thinking went the way it was asked to, shorter or longer than unasked."""
    ids = _shared_ids([asked, free])
    change = asked.on(ids).thinking_tokens.mean(axis=1) - free.on(ids).thinking_tokens.mean(axis=1)
    return float((change < 0).mean() if asked.setting.target == "short" else (change > 0).mean())


def _method(name: str, points: Sequence[Point], free: Draws | None) -> Method:
    """The three metrics. `free` is thinking without being asked for a length, which short and long are held against."""
    pairs = [(p.tokens, p.estimate.value) for p in points]
    thinking = [(t, a) for t, a in pairs if t > 0]
    within = []
    for p in points:
        if p.draws.setting.method != CLASS_CONTROL:
            low, high = target_range(p.draws.setting)
            within.append(control(p.draws.thinking_tokens.ravel().tolist(), low, high))
        elif free is not None:
            within.append(_moved(p.draws, free))
    return Method(
        name,
        tuple(points),
        control=sum(within) / len(within) if within else None,
        scaling=scaling(thinking) if len({t for t, _ in thinking}) > 1 else None,
        performance=performance(pairs),
    )
