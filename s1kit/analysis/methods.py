"""Every other way to spend test-time compute, as series of points on the same axes as budget forcing. Pure.

What can be worked out from draws that exist is: votes, the shortest and the likeliest of several, adaptive voting,
early exit. Each point costs the thinking tokens of all draws it needed, probes included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from s1kit.analysis.intervals import Estimate, wilson
from s1kit.analysis.metrics import majority_at_k, pass_at_k
from s1kit.analysis.parallel import Outcome, adaptive_vote, early_exit, fewest_to_stop, first_of, shortest_of
from s1kit.analysis.results import Draws, Point, Results
from s1kit.analysis.settings import (
    AUTO,
    CHAT,
    CONTROLS,
    FILE,
    FORCING,
    PROBE,
    REJECTION,
    said,
)
from s1kit.analysis.statistics import accuracy, average, question_means, repeats_worth
from s1kit.grade.equality import group_equal

if TYPE_CHECKING:
    from s1kit.analysis.statistics import Matrix

STABLE = (2, 3, 4)
"""Probes in a row that must agree before thinking is left."""

NEARLY_ALL = 0.95
"""Share of questions that must have enough draws for a vote; the others are left out of all votes."""

AND_FORCED = " and forced"
"""Ends the name of a method that asks for a length and forces it, too."""

RIGHT = "right"
"""What all right answers of a question vote for: equal to its solution, they are equal to each other."""


@dataclass(frozen=True)
class Calibration:
    """How far an early exit can be trusted: one row for each number of agreeing probes."""

    stable: int
    left_early: Estimate
    """Share of questions that were left before thinking ended."""
    right_when_left: Estimate | None
    """Accuracy of the answers left with."""
    agrees_with_full: Estimate | None
    """How often the answer left with is the one that full thinking gives."""
    tokens: Estimate
    """Thinking tokens, average over all questions."""
    probe_tokens: Estimate
    full_tokens: Estimate
    accuracy: Estimate
    full_accuracy: Estimate


def vote_draws(results: Results, sizes: Sequence[int] = ()) -> Draws | None:
    """The sampled draws that votes are counted on: of the largest budget, and enough of them for the largest vote.

    At the temperature of the other settings where there are such draws, so that votes and Waits are compared like
    with like; at their own otherwise. Questions with fewer draws than the largest vote that nearly all questions have
    draws for are left out, so that all votes are counted on the same questions.
    """
    import numpy as np

    forced = [s for s in results.draws if s.method == FORCING]
    # Several draws were sampled, also where nobody recorded the temperature.
    sampled = [s for s in forced if s.temperature > 0 or results.draws[s].repeats > 1]
    found = [results.draws[s] for s in sampled if s.num_waits == 0 and not s.min_tokens]
    alike = [d for d in found if d.setting.temperature == results.temperature and d.repeats >= max(sizes, default=2)]
    draws = max(alike or found, key=lambda d: (_budget(d), d.repeats), default=None)
    if draws is None:
        return None
    enough = int(np.quantile(draws.counts, 1 - NEARLY_ALL, method="lower"))
    largest = max((k for k in sizes if k <= enough), default=min(enough, 2))
    return draws.on([q for q, num in zip(draws.question_ids, draws.counts, strict=True) if num >= largest])


def _budget(draws: Draws) -> float:
    """The thinking budget, infinite where there is none; a budget of zero is the smallest."""
    return inf if draws.setting.max_tokens is None else draws.setting.max_tokens


def votes(results: Results, sizes: Sequence[int]) -> list[Point]:
    """Majority votes, each at the price of all its draws.

    A vote of two is left out: where its answers differ it is a toss, so it is one draw at twice the price.
    """
    return _parallel(results, [k for k in sizes if k != 2], lambda k: "1 sample" if k == 1 else f"vote of {k}", _vote)


def shortest(results: Results, sizes: Sequence[int]) -> list[Point]:
    """The answer with the shortest thinking among several draws."""
    return _parallel(results, [k for k in sizes if k > 1], lambda k: f"shortest of {k}", _shortest)


def likeliest(results: Results, sizes: Sequence[int]) -> list[Point]:
    """The answer with the highest mean log-probability among several draws; none where that is not recorded."""
    return _parallel(results, [k for k in sizes if k > 1], lambda k: f"likeliest of {k}", _likeliest)


def passes(results: Results, sizes: Sequence[int]) -> list[Point]:
    """pass@k: whether any of k draws is right. Not a method, since it takes an oracle to choose: an upper bound."""
    return _parallel(results, sizes, lambda k: f"any of {k}", _any)


def adaptive(results: Results) -> list[Point]:
    """Voting that stops once the leader is very likely to stay ahead; none where there are too few draws."""
    draws = vote_draws(results)
    if draws is None or draws.counts.min() <= fewest_to_stop():
        return []
    return [_chosen(f"adaptive vote, up to {draws.repeats}", draws, [_adaptive(r) for r in _rows(draws)])]


def _vote(row: _Row, k: int) -> Outcome:
    return Outcome(majority_at_k(row.answers, row.correct, k), k * sum(row.tokens) / len(row.tokens))


def _shortest(row: _Row, k: int) -> Outcome:
    return shortest_of(row.tokens, row.correct, k)


def _likeliest(row: _Row, k: int) -> Outcome | None:
    if any(value != value for value in row.logprobs):
        return None
    return first_of([-value for value in row.logprobs], row.tokens, row.correct, k)


def _any(row: _Row, k: int) -> Outcome:
    return Outcome(pass_at_k(len(row.correct), sum(row.correct), k), k * sum(row.tokens) / len(row.tokens))


def _adaptive(row: _Row) -> Outcome:
    return adaptive_vote(row.answers, row.correct, row.tokens)


@dataclass(frozen=True)
class _Row:
    """One question's draws."""

    answers: list[str | None]
    correct: list[bool]
    tokens: list[float]
    logprobs: list[float]
    """Mean log-probability of each draw; nan where it is not known."""


def _rows(draws: Draws) -> list[_Row]:
    return [
        _Row(_ballots(answers[:num], right[:num]), [bool(c) for c in right[:num]], tokens[:num], logprobs[:num])
        for num, answers, right, tokens, logprobs in zip(
            draws.counts.tolist(),
            draws.final_answer.tolist(),
            draws.correct.tolist(),
            draws.thinking_tokens.tolist(),
            draws.mean_logprob.tolist(),
            strict=True,
        )
    ]


def _ballots(answers: Sequence[str], correct: Sequence[float]) -> list[str | None]:
    """What each draw votes for: equal answers under one name, all right ones together, None for no answer."""
    wrong = sorted({a for a, c in zip(answers, correct, strict=True) if a and not c})
    name = dict(zip(wrong, group_equal(wrong), strict=True))
    return [RIGHT if c else name[a] if a else None for a, c in zip(answers, correct, strict=True)]


def _parallel(
    results: Results, sizes: Sequence[int], name: Callable[[int], str], choose: Callable[[_Row, int], Outcome | None]
) -> list[Point]:
    """A point for each number of draws; none where a question's draws do not say what they are chosen by."""
    draws = vote_draws(results, sizes)
    if draws is None:
        return []
    rows = _rows(draws)
    points = []
    for k in sorted({k for k in sizes if k <= draws.counts.min()}):
        outcomes = [found for row in rows if (found := choose(row, k)) is not None]
        if len(outcomes) == len(rows):
            points.append(_chosen(name(k), draws, outcomes, votes=k))
    return points


def _chosen(name: str, draws: Draws, outcomes: Sequence[Outcome], votes: int = 1) -> Point:
    import numpy as np

    chance, paid = np.array([[o.chance] for o in outcomes]), np.array([o.tokens for o in outcomes])
    return Point(
        name, float(paid.mean()), accuracy(chance, worth=repeats_worth(draws.correct)), draws, votes, chance, paid
    )


def controlled(results: Results) -> dict[str, list[Point]]:
    """Lengths asked for in the question, alone and with budget forcing."""
    series: dict[str, list[Point]] = {}
    for setting, draws in results.draws.items():
        if setting.method in CONTROLS:
            unit = CONTROLS[setting.method]
            name = f"asked for {'so many ' if unit != 'thinking' else 'short or long '}{unit}"
            name += AND_FORCED if setting.max_tokens is not None else ""
            target = f"{setting.target} {unit}" + (", forced" if setting.max_tokens is not None else "")
            series.setdefault(name, []).append(plain(draws, target))
    return series


def rejected(results: Results) -> list[Point]:
    """Draws repeated until they are short enough; the tokens are those of all draws."""
    found = [d for s, d in results.draws.items() if s.method == REJECTION]
    ordered = sorted(found, key=_budget)
    return [
        Point(
            f"until within {d.setting.max_tokens:,}",
            float(question_means(d.paid_tokens).mean()),
            accuracy(d.correct),
            d,
            paid=question_means(d.paid_tokens),
        )
        for d in ordered
    ]


def automatic(results: Results) -> list[Point]:
    """Early exit once the probed answer is settled; the cost includes the tokens of earlier probes."""
    found = [d for s, d in results.draws.items() if s.method == AUTO]
    return [
        Point(said(d.setting), float(d.paid_tokens.mean()), accuracy(d.correct), d, paid=d.paid_tokens.mean(axis=1))
        for d in sorted(found, key=lambda d: (_budget(d), d.setting.target, d.setting.num_waits))
    ]


def comparators(results: Results) -> list[Point]:
    """Other models on the same questions."""
    return [plain(draws, said(setting)) for setting, draws in results.draws.items() if setting.method in (CHAT, FILE)]


def plain(draws: Draws, name: str) -> Point:
    """A setting's own draws as a point."""
    return Point(name, draws.mean_thinking, accuracy(draws.correct), draws)


def calibration(results: Results) -> list[Calibration]:
    """Early exit by answer convergence, worked out from the probes; empty without them.

    Where nobody probed, greedy answers under growing budgets are probes: they share the thinking up to the budget.
    """
    probes = _probes(results, PROBE) or _probes(results, FORCING)
    if len(probes) < max(STABLE):
        return []
    everywhere = set.intersection(*(set(p.question_ids) for p in probes))
    ids = [q for q in probes[0].question_ids if q in everywhere]
    aligned = [p.on(ids) for p in probes]
    return [_calibrated(aligned, stable) for stable in STABLE]


def _probes(results: Results, method: str) -> list[Draws]:
    """Greedy draws without Waits under growing budgets, one draw a question."""
    found = [
        d
        for s, d in results.draws.items()
        if s.method == method and s.max_tokens and not (s.num_waits or s.min_tokens or s.temperature)
    ]
    return sorted((d for d in found if d.repeats == 1), key=_budget)


def _calibrated(probes: Sequence[Draws], stable: int) -> Calibration:
    import numpy as np

    full = probes[-1]
    n = len(full.question_ids)
    right, left, agrees, tokens, extra = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    for i in range(n):
        answers = [str(p.final_answer[i, 0]) or None for p in probes]
        # Probes after the model has stopped by itself repeat it: they cost nothing and prove nothing.
        own = next((j for j, p in enumerate(probes) if p.ending[i, 0] != "cut_off"), len(probes) - 1)
        spent = [float(p.thinking_tokens[i, 0]) for p in probes[: own + 1]]
        cost = [float(p.answer_tokens[i, 0]) for p in probes[: own + 1]]
        at = early_exit(answers[: own + 1], spent, cost, stable)
        left[i] = at.probe < own
        right[i] = probes[at.probe].correct[i, 0]
        agrees[i] = answers[at.probe] == answers[-1]
        tokens[i], extra[i] = at.tokens, at.probe_tokens
    early = left == 1

    def share(hits: Matrix) -> Estimate | None:
        return wilson(float(hits[early].sum()), int(early.sum())) if early.any() else None

    return Calibration(
        stable=stable,
        left_early=wilson(float(left.sum()), n),
        right_when_left=share(right),
        agrees_with_full=share(agrees),
        tokens=average(tokens.reshape(-1, 1)),
        probe_tokens=average(extra.reshape(-1, 1)),
        full_tokens=average(full.thinking_tokens),
        accuracy=accuracy(right.reshape(-1, 1)),
        full_accuracy=accuracy(full.correct),
    )
