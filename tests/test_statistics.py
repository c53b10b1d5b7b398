"""Intervals and tests against tables, other methods and simulation."""

from __future__ import annotations

import sys
from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest

from s1kit.analysis.intervals import clopper_pearson, normal_quantile, t_quantile, tango, wilson
from s1kit.analysis.paired import Flips, flips, holm, paired_difference, paired_test
from s1kit.analysis.statistics import accuracy, average, bootstrap, question_means, ratio, repeats_worth
from s1kit.errors import MissingExtra


def test_wilson_gives_published_values() -> None:
    # Newcombe 1998, Table I: 81 of 263 and 15 of 148, method 3.
    assert [round(x, 4) for x in wilson(81, 263)[1:]] == [0.2553, 0.3662]
    assert [round(x, 4) for x in wilson(15, 148)[1:]] == [0.0624, 0.1605]


def test_an_interval_holds_its_value_at_the_ends() -> None:
    for successes in (0, 50):
        share, low, high = wilson(successes, 50)
        assert 0 <= low <= share <= high <= 1


def test_the_paired_test_of_one_draw_is_mcnemars_exact_test() -> None:
    assert paired_test([1] * 5 + [0] * 9) == pytest.approx(2 / 32)
    assert paired_test([1, 1, 1, -1, -1, -1]) == pytest.approx(1.0)
    assert paired_test([0, 0]) == 1.0
    for ups, downs in [(9, 1), (114, 3), (40, 60), (1, 0)]:
        assert paired_test([1] * ups + [-1] * downs) == pytest.approx(binomtest(ups, ups + downs).pvalue, abs=1e-12)


def test_the_paired_test_of_shares_is_the_permutation_test() -> None:
    shares = [0.25, -0.5, 0.75, 1.0, 0.125, 0.25, -0.0625, 0.5, 0.3125]
    signs = np.array(list(product((-1, 1), repeat=len(shares))))
    sums = np.abs(signs @ np.array(shares))
    assert paired_test(shares) == pytest.approx(float((sums >= abs(sum(shares)) - 1e-9).mean()))
    # A value between the steps of the grid is rounded to one of them, and hardly moves the result.
    assert paired_test([s + 1e-4 for s in shares]) == pytest.approx(paired_test(shares), abs=0.02)


def test_four_fixed_of_twelve_exclude_zero_and_are_no_finding() -> None:
    before, after = np.zeros((12, 1)), np.zeros((12, 1))
    after[:4] = 1
    assert paired_difference(before, after).excludes_zero
    assert paired_test(after[:, 0].tolist()) == pytest.approx(0.125)


def test_one_right_of_480_against_none_is_no_finding() -> None:
    before, after = np.zeros((480, 1)), np.zeros((480, 1))
    after[0] = 1
    value, low, high = paired_difference(before, after)
    assert low < 0 < value < high < 0.02
    assert paired_test(after[:, 0].tolist()) == 1.0


def test_one_question_has_intervals_that_say_next_to_nothing() -> None:
    right = np.ones((1, 16))
    assert tuple(accuracy(right)) == tuple(wilson(1, 1))
    assert paired_difference(np.zeros((1, 1)), np.ones((1, 1))).low < 0
    assert bootstrap(lambda means: means[:, 0], right) == (1.0, -np.inf, np.inf)


def test_two_questions_have_the_quantiles_of_one_degree_of_freedom() -> None:
    assert t_quantile(1) == pytest.approx(12.706, abs=0.001)
    _, low, high = accuracy(np.array([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0]]))
    assert low < 0.05
    assert high > 0.95


def test_the_best_of_several_has_a_wider_interval() -> None:
    outcomes = np.array([[1.0]] * 30 + [[0.0]] * 30)
    one, ten = accuracy(outcomes), accuracy(outcomes, comparisons=10)
    assert ten.low < one.low < one.high < ten.high


def test_without_scipy_every_statistic_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("scipy", "scipy.stats", "scipy.optimize"):
        monkeypatch.setitem(sys.modules, name, None)
    for cached in (tango, t_quantile, normal_quantile):
        cached.cache_clear()
    zeros = np.zeros((12, 2))
    asked = [
        lambda: clopper_pearson(3, 10),
        lambda: t_quantile(3),
        lambda: normal_quantile(0.01),
        lambda: tango(1, 2, 30),
        lambda: paired_difference(zeros, zeros),
    ]
    for ask in asked:
        with pytest.raises(MissingExtra, match="scipy"):
            ask()


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
    assert flips([0.5, 0.25, 1.0], [0.75, 0.0, 1.0]) == Flips(fixed=1, broken=1, kept_right=1, kept_wrong=0)


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


def test_every_question_counts_the_same_however_many_repeats_it_has() -> None:
    outcomes = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, np.nan, np.nan, np.nan]])
    assert question_means(outcomes).tolist() == [1.0, 0.0]
    assert accuracy(outcomes).value == 0.5
    assert repeats_worth(outcomes) == pytest.approx(1.6)  # 2 / (1/4 + 1/1)
    assert paired_difference(outcomes, np.ones((2, 3))).value == 0.5


def test_the_interval_over_unequal_repeats_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    hits, hits_of_difference, runs = 0, 0, 800
    for _ in range(runs):
        counts = rng.integers(1, 17, 60)
        is_missing = np.arange(16)[None, :] >= counts[:, None]
        chance = rng.beta(1.0, 1.0, 60) * 0.9
        before = np.where(is_missing, np.nan, rng.random((60, 16)) < chance[:, None])
        after = np.where(is_missing[::-1], np.nan, rng.random((60, 16)) < chance[:, None] + 0.1)
        _, low, high = accuracy(before)
        hits += low <= 0.45 <= high
        _, low, high = paired_difference(before, after)
        hits_of_difference += low <= 0.1 <= high
    assert 0.93 <= hits / runs <= 0.98
    assert 0.93 <= hits_of_difference / runs <= 0.98


def test_a_few_questions_that_are_nearly_all_right_in_many_draws_say_little_of_others() -> None:
    """The interval does not jump where the last wrong draw of few questions becomes right."""
    outcomes = np.ones((4, 64))
    _, low_of_all, _ = accuracy(outcomes)
    outcomes[0, 0] = 0
    _, low, high = accuracy(outcomes)
    assert low_of_all == pytest.approx(wilson(4, 4).low)
    assert low < 0.65
    assert high > 0.99


def test_the_interval_of_an_average_and_of_a_ratio_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(6)
    hits, hits_of_ratio, runs = 0, 0, 800
    for _ in range(runs):
        tokens = rng.gamma(2.0, 100.0, 60)
        right = (rng.random(60) < 0.3).astype(float)
        _, low, high = average(tokens[:, None])
        hits += low <= 200 <= high
        _, low, high = ratio(tokens, right)
        hits_of_ratio += low <= 200 / 0.3 <= high
    assert 0.93 <= hits / runs <= 0.97
    assert 0.93 <= hits_of_ratio / runs <= 0.975
    assert average(np.array([[5.0]])) == (5.0, 0.0, np.inf)
    assert ratio(np.ones(3), np.zeros(3)) == (np.inf, 0.0, np.inf)


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
        *product((12, 30, 60), (0.02, 0.05, 0.1, 0.2, 0.3), (0.0, 0.02, 0.1)),
        *((120, *rest) for rest in [(0.02, 0.0), (0.05, 0.0), (0.1, 0.02), (0.2, 0.05), (0.3, 0.05)]),
        *((500, *rest) for rest in [(0.005, 0.0), (0.02, 0.0), (0.02, 0.02), (0.05, 0.01)]),
    ],
)
def test_the_paired_interval_of_one_draw_covers_the_truth_as_often_as_it_says(
    n: int, fixed: float, broken: float
) -> None:
    coverage, changed = _coverage_of_one_draw(n, fixed, broken), n * (fixed + broken)
    assert coverage >= 0.925
    # With few changes only few tables are possible: the next narrower interval would leave out one that comes up too
    # often. The bands are those of docs/evaluation.md.
    assert coverage <= (0.97 if changed >= 12 else 0.98 if changed >= 6 else 0.993 if changed >= 3 else 1)


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
