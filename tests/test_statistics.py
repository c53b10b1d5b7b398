"""Intervals and tests against tables, other methods and simulation."""

from __future__ import annotations

import numpy as np
import pytest

from s1kit.analysis.statistics import (
    accuracy,
    bootstrap,
    clopper_pearson,
    decoding_noise,
    flips,
    holm,
    paired_difference,
    sign_test,
    t_quantile,
    tango,
    wilson,
)


def test_wilson_gives_published_values() -> None:
    # Newcombe 1998, Table I: 81 of 263 and 15 of 148, method 3.
    assert [round(x, 4) for x in wilson(81, 263)[1:]] == [0.2553, 0.3662]
    assert [round(x, 4) for x in wilson(15, 148)[1:]] == [0.0624, 0.1605]


def test_an_interval_holds_its_value_at_the_ends() -> None:
    for successes in (0, 50):
        share, low, high = wilson(successes, 50)
        assert 0 <= low <= share <= high <= 1


def test_the_sign_test_is_the_binomial_tail() -> None:
    assert sign_test(5, 0) == 2 / 32
    assert sign_test(3, 3) == 1.0
    assert sign_test(0, 0) == 1.0


def test_clopper_pearson_gives_the_values_of_tables() -> None:
    assert [round(x, 4) for x in clopper_pearson(2, 10)] == [0.0252, 0.5561]
    assert clopper_pearson(0, 0) == (0.0, 1.0)


def test_holm_adjusts_in_order_and_never_above_one() -> None:
    assert holm([0.5, 0.001, 0.6]) == [1.0, 0.003, 1.0]
    # Bonferroni would give 0.06 and 0.06 for the last two.
    assert holm([0.01, 0.02, 0.02]) == pytest.approx([0.03, 0.04, 0.04])


def test_t_quantiles_match_the_table() -> None:
    for df, value in [(1, 12.706), (4, 2.776), (9, 2.262), (29, 2.045), (99, 1.984)]:
        assert t_quantile(df) == pytest.approx(value, abs=0.001)


def test_flips_are_counted_from_the_same_questions() -> None:
    table = flips([True, True, False, False], [True, False, True, False])
    assert (table.fixed, table.broken, table.kept_right, table.kept_wrong) == (1, 1, 1, 1)
    assert table.p_value == 1.0


def test_no_change_at_all_still_leaves_room_for_one() -> None:
    same = np.zeros((8, 1))
    value, low, high = paired_difference(same, same)
    assert value == 0
    # z^2 / (n + z^2), on both sides.
    assert (low, high) == pytest.approx((-0.324, 0.324), abs=0.001)


def test_the_interval_may_exceed_the_share_of_changed_questions() -> None:
    before = np.zeros((100, 1))
    after = before.copy()
    after[:5] = 1
    assert paired_difference(before, after).high > 0.1
    after[:60] = 1
    assert paired_difference(before, after).excludes_zero


def test_all_right_and_all_wrong_have_intervals_that_end_at_the_bounds() -> None:
    zeros, ones = np.zeros((12, 1)), np.ones((12, 1))
    assert paired_difference(zeros, ones).high == 1
    assert paired_difference(ones, zeros).low == -1
    assert paired_difference(zeros[:1], ones[:1]).value == 1


def test_an_accuracy_over_repeats_has_the_quantile_of_t() -> None:
    # Their variance makes 5 questions x 4 repeats worth 8 trials.
    outcomes = np.array([[1, 1, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], dtype=float)
    assert tuple(accuracy(outcomes)) == pytest.approx(tuple(wilson(4, 8, z=t_quantile(4))))


def test_several_comparisons_widen_an_interval_over_repeats_too() -> None:
    before, after = np.zeros((30, 16)), np.zeros((30, 16))
    after[:4, :8] = 1
    one, ten = paired_difference(before, after), paired_difference(before, after, comparisons=10)
    assert ten.low < one.low < one.high < ten.high


def test_few_questions_with_repeats_are_widened_as_a_t_interval_is() -> None:
    rng = np.random.default_rng(7)
    outcomes = rng.integers(0, 2, (5, 4)).astype(float)
    _, low, high = accuracy(outcomes)
    narrow = wilson(outcomes.mean() * 20, 20)
    assert high - low > 1.2 * (narrow.high - narrow.low)
    before, after = np.zeros((6, 4)), np.zeros((6, 4))
    after[0, :2] = after[1, :3] = 1
    _, low, high = paired_difference(before, after)
    delta = after.mean(axis=1)
    worth = 6 * (delta.sum() / 6 - delta.mean() ** 2) / delta.var(ddof=1)
    by_normal = tango(delta.sum() * worth / 6, 0.0, worth)
    assert high - low > 1.15 * (by_normal[1] - by_normal[0])


def test_more_comparisons_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    before = rng.integers(0, 2, (200, 1)).astype(float)
    after = rng.integers(0, 2, (200, 1)).astype(float)
    one, ten = paired_difference(before, after), paired_difference(before, after, comparisons=10)
    assert ten.low < one.low < one.high < ten.high


def test_repeats_of_one_question_are_worth_less_than_new_questions() -> None:
    same = np.repeat(np.array([[1.0], [0.0]] * 20), 8, axis=1)
    new = np.array([[1.0], [0.0]] * 160)
    width = lambda e: e.high - e.low  # noqa: E731
    assert width(accuracy(same)) > 2 * width(accuracy(new))


def test_decoding_noise_is_that_of_the_draws_alone() -> None:
    outcomes = np.array([[1.0, 0.0], [1.0, 1.0]])
    assert decoding_noise(outcomes) == pytest.approx(np.sqrt(0.25) / 2)
    assert np.isnan(decoding_noise(outcomes[:, :1]))


def _drawn(rng: np.random.Generator, questions: int, repeats: int, mean: float, spread: float) -> np.ndarray:
    chance = rng.beta(mean * spread, (1 - mean) * spread, questions)
    return (rng.random((questions, repeats)) < chance[:, None]).astype(float)


@pytest.mark.parametrize(("questions", "repeats"), [(30, 1), (30, 8), (100, 4), (300, 1)])
@pytest.mark.parametrize("mean", [0.2, 0.5, 0.8])
def test_the_interval_of_an_accuracy_covers_the_truth_as_often_as_it_says(
    questions: int, repeats: int, mean: float
) -> None:
    rng = np.random.default_rng(1)
    runs = 1000
    hits = sum(
        low <= mean <= high
        for _, low, high in (accuracy(_drawn(rng, questions, repeats, mean, 1.5)) for _ in range(runs))
    )
    assert 0.93 <= hits / runs <= 0.975


def _coverage_of_one_draw(n: int, fixed: float, broken: float) -> float:
    """Exact: the probabilities of all tables whose interval holds the true difference, summed."""
    from scipy.stats import binom

    total = 0.0
    for num in range(n + 1):
        of_changed = binom.pmf(num, n, fixed + broken)
        if of_changed < 1e-7:
            continue
        for ups in range(num + 1):
            chance = of_changed * binom.pmf(ups, num, fixed / (fixed + broken))
            if chance > 1e-8:
                low, high = tango(ups, num - ups, n)
                total += chance * (low <= fixed - broken <= high)
    return float(total)


@pytest.mark.parametrize(
    ("n", "fixed", "broken"),
    [
        (30, 0.05, 0.0),
        (30, 0.10, 0.02),
        (500, 0.02, 0.0),
        (12, 0.3, 0.1),
        (12, 0.2, 0.2),
        (60, 0.15, 0.15),
        (120, 0.3, 0.05),
    ],
)
def test_the_paired_interval_of_one_draw_covers_the_truth_as_often_as_it_says(
    n: int, fixed: float, broken: float
) -> None:
    coverage = _coverage_of_one_draw(n, fixed, broken)
    assert coverage >= 0.92
    # With few changes only few tables are possible, and no interval can be exact.
    assert coverage <= (0.975 if n * (fixed + broken) > 8 else 0.998)


@pytest.mark.parametrize(
    ("questions", "repeats", "lift"), [(12, 16, 0.1), (30, 4, 0.1), (30, 16, 0.02), (100, 2, 0.1), (300, 16, 0.05)]
)
def test_the_paired_interval_of_repeats_covers_the_truth_as_often_as_it_says(
    questions: int, repeats: int, lift: float
) -> None:
    rng = np.random.default_rng(2)
    hits, runs = 0, 600
    for _ in range(runs):
        chance = rng.beta(1.0, 1.0, questions) * (1 - lift)
        before = (rng.random((questions, repeats)) < chance[:, None]).astype(float)
        after = (rng.random((questions, repeats)) < chance[:, None] + lift).astype(float)
        _, low, high = paired_difference(before, after)
        hits += low <= lift <= high
    assert 0.925 <= hits / runs <= 0.985


def test_the_paired_interval_covers_where_few_questions_change_in_all_their_repeats() -> None:
    rng = np.random.default_rng(4)
    hits, runs, share = 0, 600, 0.05
    for _ in range(runs):
        before = np.zeros((60, 16))
        after = np.repeat((rng.random((60, 1)) < share).astype(float), 16, axis=1)
        _, low, high = paired_difference(before, after)
        hits += low <= share <= high
    assert hits / runs >= 0.92


def test_the_bootstrap_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    hits, runs = 0, 300
    for _ in range(runs):
        _, low, high = bootstrap(lambda means: means[:, 0], rng.random((60, 1)), resamples=800)
        hits += low <= 0.5 <= high
    assert 0.92 <= hits / runs <= 0.98
