"""What the generations of a run say, as numbers with intervals and plain sentences. Pure; it draws and writes nothing.

One setting beats another only where the paired interval excludes zero and the paired test agrees, over all draws;
both are adjusted for the number of comparisons made, also where the best of several settings was picked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import log
from typing import TYPE_CHECKING

from s1kit.analysis import methods
from s1kit.analysis.published_number import PublishedNumber
from s1kit.analysis.results import Draws, Point, Results
from s1kit.analysis.settings import CLASS_CONTROL, DIRECT, FORCING, target_range, waits_name
from s1kit.analysis.statistics import (
    Estimate,
    Flips,
    accuracy,
    bootstrap,
    flips,
    holm,
    paired_difference,
    paired_test,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """Two settings on the same questions: what changed, by how much, and whether that may be luck."""

    before: Point
    after: Point
    flips: Flips
    p_value: float
    """The exact paired test over all draws, adjusted for the number of comparisons made."""
    difference: Estimate
    """Paired, widened so that the intervals of all comparisons made hold at once."""

    @property
    def is_noise(self) -> bool:
        """Whether nothing may be claimed: interval and test must agree that the difference is not zero."""
        return not self.difference.excludes_zero or self.p_value > 0.05

    @property
    def sampling(self) -> str:
        """How the two were decoded, where that differs; empty where only the method does.

        `greedy against temperature 0.6` for `after` against `before`.
        """
        heat = [p.draws.setting.temperature for p in (self.after, self.before)]
        names = ["greedy" if t == 0 else f"temperature {t:g}" for t in heat]
        return "" if heat[0] == heat[1] else " against ".join(names)


@dataclass(frozen=True)
class Method:
    """The paper's three metrics of one way to spend test-time compute, with their intervals."""

    name: str
    points: tuple[Point, ...]
    control: Estimate | None
    """Share of generations within what was asked; None where no number was asked for."""
    scaling: Estimate | None
    """Percentage points per doubling of thinking tokens; None with fewer than two different lengths."""
    performance: Estimate
    """The best accuracy; its interval is widened for the number of points it is the best of."""


@dataclass(frozen=True)
class Rates:
    """Shares of a setting's generations that were cut off, failed, looped or could not be graded."""

    cut_off: float
    no_answer: float
    truncated: float
    loop: float
    abstain: float
    failed: float


@dataclass
class Findings:
    """Everything that a report says of a run, worked out when it is asked for.

    `by_...` are series of points on the curve; `steps`, `best_waits` and `matched_votes` compare them in pairs;
    `methods` has the paper's metrics of each series.
    """

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
    def steps(self) -> list[Comparison]:
        """From each number of Waits to the next; intervals hold all at once, p-values are adjusted by Holm."""
        pairs = list(zip(self.by_waits, self.by_waits[1:], strict=False))
        adjusted = holm([compare(a, b).p_value for a, b in pairs])
        return [
            replace(compare(a, b, comparisons=len(pairs)), p_value=p) for (a, b), p in zip(pairs, adjusted, strict=True)
        ]

    @cached_property
    def best_waits(self) -> Comparison | None:
        """From no Wait to the number of Waits with the best accuracy, widened for the picking."""
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
        return [_method(name, points, free) for name, points in kept]

    @cached_property
    def oscillating(self) -> list[str]:
        """Questions whose verdict changed more than once along the numbers of Waits."""
        if len(self.by_waits) < 3:
            return []
        ids = _shared_ids([p.draws for p in self.by_waits])
        rows = [p.draws.on(ids).correct[:, 0] for p in self.by_waits]  # one path through the Waits, so one draw
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
                out[name] = accuracy(outcomes, worth=None if whole else point.worth)
        return out


def compare(before: Point, after: Point, comparisons: int = 1) -> Comparison:
    """`after` against `before` on the questions that both answered, over all draws.

    `comparisons`: how many were made, this one being shown or picked among them.
    """
    ids = _shared_ids([before.draws, after.draws])
    a, b = _rows(before, ids), _rows(after, ids)
    means = a.mean(axis=1), b.mean(axis=1)
    return Comparison(
        before,
        after,
        flips(*(m.tolist() for m in means)),
        min(1.0, comparisons * paired_test((means[1] - means[0]).tolist())),
        paired_difference(a, b, comparisons=comparisons),
    )


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


def _method(name: str, points: Sequence[Point], free: Draws | None) -> Method:
    """The three metrics. `free` is thinking without being asked for a length, which short and long are held against."""
    best = max(points, key=lambda p: p.estimate.value)
    return Method(
        name,
        tuple(points),
        control=_control(points, free),
        scaling=_scaling([p for p in points if p.tokens > 0]),
        performance=accuracy(
            best.outcomes, comparisons=len(points), worth=None if best.per_question is None else best.worth
        ),
    )


def _control(points: Sequence[Point], free: Draws | None) -> Estimate | None:
    """Control over all points, on the questions that all of them asked."""
    import numpy as np

    ids = _shared_ids([*(p.draws for p in points), *([free] if free else [])])
    within = []
    for p in points:
        draws = p.draws.on(ids)
        if draws.setting.method != CLASS_CONTROL:
            low, high = target_range(draws.setting)
            within.append(((low <= draws.thinking_tokens) & (draws.thinking_tokens <= high)).mean(axis=1))
        elif free is not None:
            # The thinking went the way it was asked to, shorter or longer than unasked.
            change = draws.thinking_tokens.mean(axis=1) - free.on(ids).thinking_tokens.mean(axis=1)
            within.append((change < 0 if draws.setting.target == "short" else change > 0).astype(float))
    return accuracy(np.stack(within, axis=1)) if within and ids else None


def _scaling(points: Sequence[Point]) -> Estimate | None:
    """The paper's scaling with its bootstrap interval over questions, accuracy and tokens resampled together."""
    import numpy as np

    ids = _shared_ids([p.draws for p in points]) if points else []
    if len({p.tokens for p in points}) < 2 or not ids:
        return None
    place = [{question: i for i, question in enumerate(p.draws.question_ids)} for p in points]
    right = np.stack([_rows(p, ids).mean(axis=1) for p in points], axis=1)
    tokens = np.stack(
        [p.tokens_per_question[[at[q] for q in ids]] for p, at in zip(points, place, strict=True)], axis=1
    )
    average = tokens.mean(axis=0)
    pairs = [(i, j) for i in range(len(points)) for j in range(len(points)) if average[i] < average[j]]
    if not pairs:
        return None
    low, high = (list(side) for side in zip(*pairs, strict=True))

    def mean_slope(means: Matrix) -> Matrix:
        value, doublings = means[:, : len(points)], np.log2(np.maximum(means[:, len(points) :], 1e-9))
        rise, run = value[:, high] - value[:, low], doublings[:, high] - doublings[:, low]
        slopes = np.where(run == 0, np.nan, 100 * rise / np.where(run == 0, 1, run))
        return np.asarray(np.nanmean(slopes, axis=1))

    return bootstrap(mean_slope, np.concatenate([right, tokens], axis=1))
