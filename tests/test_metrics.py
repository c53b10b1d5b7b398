"""Metrics against values computed by hand and by brute force."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1kit.analysis.metrics import majority_at_k, pass_at_k
from s1kit.evaluate.metrics import control, performance, scaling


def test_control_counts_the_ends_of_the_interval_as_within() -> None:
    assert control([0, 5, 10, 11], low=5, high=10) == 0.5
    with pytest.raises(ValueError, match="no runs"):
        control([], 0, 1)


PUBLISHED_RUNS = [
    # s1 paper (arXiv 2501.19393v1), AIME24: average thinking tokens and accuracy in percent of the runs of Tables 11,
    # 12 and 13 of its appendix, and the scaling that its Table 3 prints for them.
    ("token-conditional", [(7939, 26.7), (7158, 30.0), (8263, 33.3), (7108, 33.3), (7500, 40.0)], -24),
    ("token-conditional, forced", [(1024, 3.3), (2048, 30.0), (4031, 33.3), (5664, 33.3), (6330, 40.0)], 13),
    ("step-conditional", [(7252, 33.3), (6277, 23.3), (5396, 33.3), (5552, 36.7), (7551, 33.3)], 3),
    ("step-conditional, forced", [(1517, 23.3), (2963, 23.3), (4636, 33.3), (5409, 36.7), (7551, 33.3)], 6),
    ("class-conditional", [(8033, 30.0), (9651, 36.7)], 25),
]


@pytest.mark.parametrize(("method", "runs", "printed"), PUBLISHED_RUNS, ids=lambda value: str(value)[:24])
def test_scaling_of_published_runs_is_the_printed_integer(
    method: str, runs: list[tuple[float, float]], printed: int
) -> None:
    # With the whole number of the 30 questions behind each accuracy: its one decimal moves the first result by 0.3.
    assert round(scaling([(tokens, round(accuracy * 0.3) / 30) for tokens, accuracy in runs])) == printed


PUBLISHED_CONTROL = [
    # The same tables and Table 3's control: runs whose average is within what was asked for, a step being 100 tokens.
    ([7939, 7158, 8263, 7108, 7500], [1024, 2048, 4096, 8192, 16384], 0.4),
    ([1024, 2048, 4031, 5664, 6330], [1024, 2048, 4096, 8192, 16384], 1.0),
    ([7252, 6277, 5396, 5552, 7551], [1600, 3200, 6400, 12800, 25600], 0.6),
    ([1517, 2963, 4636, 5409, 7551], [1600, 3200, 6400, 12800, 25600], 1.0),
]


@pytest.mark.parametrize(("used", "asked", "printed"), PUBLISHED_CONTROL)
def test_control_of_published_runs_is_the_printed_share(used: list[int], asked: list[int], printed: float) -> None:
    within = [control([tokens], 0, limit) for tokens, limit in zip(used, asked, strict=True)]
    assert sum(within) / len(within) == pytest.approx(printed)


def test_scaling_is_the_slope_of_a_straight_line_on_the_log_axis() -> None:
    assert scaling([(2**i, 0.1 + 0.07 * i) for i in range(5)]) == pytest.approx(7)


@given(st.lists(st.tuples(st.floats(1, 1e5), st.floats(0, 1)), min_size=2, max_size=8, unique_by=lambda p: p[0]))
def test_scaling_does_not_depend_on_the_order_of_points(points: list[tuple[float, float]]) -> None:
    if min(b / a for (a, _), (b, _) in combinations(sorted(points), 2)) > 1.001:
        shuffled = random.Random(0).sample(points, len(points))
        assert scaling(shuffled) == pytest.approx(scaling(points))


def test_scaling_refuses_points_without_a_slope() -> None:
    with pytest.raises(ValueError, match="different numbers"):
        scaling([(10, 0.1), (10, 0.9)])
    with pytest.raises(ValueError, match="above zero"):
        scaling([(0, 0.1), (10, 0.9)])


def test_performance_is_the_best_accuracy() -> None:
    assert performance([(10, 0.2), (20, 0.5), (40, 0.4)]) == 0.5


@given(st.integers(1, 9), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_right_draw(n: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, n))
    k = data.draw(st.integers(1, n))
    draws = [i < correct for i in range(n)]
    subsets = list(combinations(draws, k))
    assert pass_at_k(n, correct, k) == pytest.approx(sum(any(s) for s in subsets) / len(subsets))


@given(st.lists(st.sampled_from(["1", "2", "3", None]), min_size=1, max_size=6), st.data())
def test_majority_is_the_chance_over_orders_with_the_first_to_lead_drawn_by_lot(
    answers: list[str | None], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(answers)))
    is_correct = [a == "1" for a in answers]
    total, count = 0.0, 0
    for subset in combinations(answers, k):
        # Counter.most_common breaks ties by first appearance: over all orders that is a fair lot.
        for order in permutations(subset):
            votes = Counter(a for a in order if a is not None).most_common(1)
            total += bool(votes) and votes[0][0] == "1"
            count += 1
    assert majority_at_k(answers, is_correct, k) == pytest.approx(total / count, abs=0.35 if None in answers else 1e-9)


def test_a_vote_without_any_answer_is_wrong() -> None:
    assert majority_at_k([None, None], [False, False], 2) == 0.0
    assert majority_at_k([None, "7"], [False, True], 2) == 1.0


def test_majority_over_many_draws_looks_at_a_spread_of_subsets_only() -> None:
    answers = ["1"] * 40 + ["2"] * 24
    value = majority_at_k(answers, [a == "1" for a in answers], 16, max_subsets=400)
    assert 0.8 < value < 1.0
