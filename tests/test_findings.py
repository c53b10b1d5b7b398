"""What a report concludes: over all draws, adjusted for what was picked, against rivals that are real."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from s1kit.analysis.findings import Findings, compare
from s1kit.analysis.methods import vote_draws, votes
from s1kit.analysis.metrics import scaling
from s1kit.analysis.results import Draws, Results
from s1kit.analysis.statistics import accuracy
from s1kit.grade.equality import group_equal
from s1kit.records import Setting
from s1kit.report.sentences import headline


def draws_of(
    setting: Setting,
    correct: np.ndarray,
    tokens: float = 100.0,
    answers: Sequence[object] = (),
    logprobs: np.ndarray | None = None,
) -> Draws:
    """Draws of a setting; without answers, `1` where right and `0` where wrong; nan where there is no draw."""
    n, repeats = correct.shape
    zeros = np.where(np.isnan(correct), np.nan, 0.0)
    spelled = np.where(correct == 1, "1", "0") if not len(answers) else np.array(answers, dtype=object)
    return Draws(
        setting,
        [str(i) for i in range(n)],
        correct=correct.astype(float),
        abstained=zeros,
        thinking_tokens=zeros + tokens,
        answer_tokens=zeros + 1,
        forced_tokens=zeros,
        waits=zeros + setting.num_waits,
        ending=np.full((n, repeats), "closed", dtype=object),
        answered=zeros + 1,
        truncated=zeros,
        final_answer=spelled.astype(object),
        paid_tokens=zeros + tokens,
        cost_usd=zeros,
        note=np.full((n, repeats), "", dtype=object),
        mean_logprob=zeros + np.nan if logprobs is None else logprobs,
    )


def findings_of(draws: Sequence[Draws], sizes: Sequence[int] = ()) -> Findings:
    return Findings(Results([], {d.setting: d for d in draws}), sizes)


def drawn(rng: np.random.Generator, chance: np.ndarray, repeats: int) -> np.ndarray:
    return (rng.random((len(chance), repeats)) < chance[:, None]).astype(float)


def test_the_verdict_on_a_wait_uses_every_repeat() -> None:
    """30 questions, 16 draws each, 15 points of difference: one draw of each would find it in one run of five."""
    rng = np.random.default_rng(0)
    settings = [Setting(max_tokens=256, num_waits=n, temperature=0.7) for n in (0, 1)]
    found = 0
    for _ in range(60):
        chance = 0.85 * rng.beta(1, 1, 30)
        parts = [draws_of(s, drawn(rng, chance + lift, 16)) for s, lift in zip(settings, (0, 0.15), strict=True)]
        best = findings_of(parts).best_waits
        assert best is not None
        found += not best.is_noise and best.difference.value > 0
    assert found >= 57


@pytest.mark.parametrize("repeats", [1, 4])
def test_equal_settings_are_seldom_called_different(repeats: int) -> None:
    """Six numbers of Waits and a vote, all of the same coin: the best of them is the best by luck."""
    rng = np.random.default_rng(1)
    runs, claims = 200, 0
    for _ in range(runs):
        chance = rng.beta(1, 1, 60)
        waits = [
            draws_of(Setting(max_tokens=256, num_waits=n, temperature=0.7), drawn(rng, chance, repeats), 100 + n)
            for n in range(6)
        ]
        sampled = draws_of(Setting(max_tokens=256, temperature=1.0), drawn(rng, chance, 4), 100)
        said = " ".join(s.claim for s in headline(findings_of([*waits, sampled], [1])))
        claims += "do better" in said or "Waiting helps" in said or "Waiting hurts" in said
    assert claims / runs <= 0.05  # without the adjustment 0.12 and 0.08


def test_a_claim_needs_interval_and_test() -> None:
    before, after = np.zeros((12, 1)), np.zeros((12, 1))
    after[:4] = 1
    best = findings_of(
        [draws_of(Setting(max_tokens=9, num_waits=n), c) for n, c in ((0, before), (1, after))]
    ).best_waits
    assert best is not None
    assert best.difference.excludes_zero
    assert best.p_value == pytest.approx(0.125)
    assert best.is_noise


def test_greedy_waits_against_sampled_votes_are_marked() -> None:
    right = np.ones((40, 1))
    waits = [draws_of(Setting(max_tokens=9, num_waits=n), right * min(n, 1)) for n in (0, 1)]
    sampled = draws_of(Setting(max_tokens=9, temperature=0.6), np.zeros((40, 4)))
    matched = findings_of([*waits, sampled], [1, 4]).matched_vote
    assert matched is not None
    assert matched.sampling == "greedy against temperature 0.6"
    said = " ".join(map(str, headline(findings_of([*waits, sampled], [1, 4]))))
    assert "not decoded alike: greedy against temperature 0.6" in said


def test_votes_are_counted_on_draws_sampled_as_the_waits_are_where_there_are_such() -> None:
    alike = draws_of(Setting(max_tokens=9, temperature=0.6), np.ones((4, 8)))
    other = draws_of(Setting(max_tokens=9, temperature=1.0), np.ones((4, 16)))
    results = Results([], {d.setting: d for d in (alike, other)})
    for sizes, expected in (([8], alike), ([16], other)):
        picked = vote_draws(results, sizes)
        assert picked is not None
        assert picked.setting == expected.setting


def test_votes_are_counted_on_the_largest_budget_and_zero_is_the_smallest() -> None:
    budgets = [draws_of(Setting(max_tokens=n, temperature=0.6), np.ones((4, 8))) for n in (0, 9, 5)]
    picked = vote_draws(Results([], {d.setting: d for d in budgets}), [4])
    assert picked is not None
    assert picked.setting.max_tokens == 9


def test_a_vote_of_two_and_an_adaptive_vote_that_cannot_stop_are_no_rivals() -> None:
    four = draws_of(Setting(max_tokens=9, temperature=1.0), np.ones((6, 4)))
    assert [p.votes for p in findings_of([four], [1, 2, 4]).by_votes] == [1, 4]
    assert "adaptive vote" not in findings_of([four], [1, 2, 4]).others
    (adaptive,) = findings_of([draws_of(four.setting, np.ones((6, 8)))], [1, 8]).others["adaptive vote"]
    assert adaptive.tokens == 400  # four of eight draws of 100 tokens agree, and that is enough


def test_votes_group_answers_by_value_not_by_spelling() -> None:
    assert group_equal([r"\sqrt{2}/2", "3", r"\frac{1}{\sqrt 2}", "3.0"]) == [r"\sqrt{2}/2", "3", r"\sqrt{2}/2", "3"]
    assert group_equal(["x+1", "1+x", "blue", "red", "[0,1)", "[0,1]"])[:4] == ["x+1", "x+1", "blue", "red"]
    # Two spellings of one right answer outvote three different wrong ones; two of a wrong one outvote a right one.
    correct = np.array([[1, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
    answers = [["0.5", r"\frac{1}{2}", "1", "2", "3"], ["7", r"\frac{\sqrt 8}{2}", r"\sqrt{2}", "3", "4"]]
    draws = draws_of(Setting(max_tokens=9, temperature=1.0), correct, answers=answers)
    (vote,) = votes(Results([], {draws.setting: draws}), [5])
    assert vote.outcomes[:, 0].tolist() == [1.0, 0.0]


def test_every_metric_of_a_method_has_an_interval() -> None:
    rng = np.random.default_rng(2)
    chance = rng.beta(2, 2, 80)
    parts = [
        draws_of(Setting(max_tokens=n, temperature=0.0), drawn(rng, np.minimum(1, chance * f), 1), n)
        for n, f in ((64, 0.4), (128, 0.8), (256, 1.0))
    ]
    (method,) = findings_of(parts).methods
    points = [(p.tokens, p.estimate.value) for p in method.points]
    assert method.scaling is not None
    assert method.scaling.value == pytest.approx(scaling(points))
    assert method.scaling.low < method.scaling.value < method.scaling.high
    assert method.control is not None
    assert (method.control.value, method.control.high) == (1.0, 1.0)
    assert method.control.low < 1.0
    best = max((p.estimate for p in method.points), key=lambda e: e.value)
    assert method.performance.value == best.value
    assert method.performance.low < best.low < best.high < method.performance.high


def test_the_performance_interval_holds_what_the_best_of_several_is_worth() -> None:
    """Eight settings of equal accuracy: the interval of the best by itself misses it far too often."""
    rng = np.random.default_rng(3)
    naive, corrected, runs = 0, 0, 300
    for _ in range(runs):
        best = max((drawn(rng, np.full(100, 0.5), 1) for _ in range(8)), key=np.mean)
        naive += accuracy(best).low <= 0.5
        corrected += accuracy(best, comparisons=8).low <= 0.5
    assert naive / runs < 0.9
    assert corrected / runs >= 0.95


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_one_question_and_all_alike_are_reported_without_a_claim(share: float) -> None:
    one = np.full((1, 1), share)
    parts = [draws_of(Setting(max_tokens=64, num_waits=n), one, 50.0 * (n + 1)) for n in (0, 1)]
    found = findings_of(parts)
    assert [s.claim for s in headline(found)][-1].startswith("Waiting: within noise, +0.0 points")
    assert found.methods[0].scaling is not None
    assert found.methods[0].scaling.high == np.inf
    many = [draws_of(p.setting, np.full((40, 1), share), 50.0) for p in parts]
    assert compare(*findings_of(many).by_waits).is_noise


def unequal(counts: Sequence[int], right: Sequence[int]) -> np.ndarray:
    """Outcomes of questions with unequal numbers of draws, the first so many of each right."""
    out = np.full((len(counts), max(counts)), np.nan)
    for row, num, good in zip(out, counts, right, strict=True):
        row[:num] = [1.0] * good + [0.0] * (num - good)
    return out


def test_questions_with_more_draws_than_others_use_all_of_them() -> None:
    setting = Setting(max_tokens=256, temperature=0.7)
    draws = draws_of(setting, unequal([6, 3], [3, 3]))
    assert draws.counts.tolist() == [6, 3]
    one, three = votes(Results([], {setting: draws}), [1, 3, 8])
    assert one.estimate.value == pytest.approx((0.5 + 1.0) / 2)
    # Of the 20 triples of the first question half have a right majority, not the one triple of its first three draws.
    assert three.estimate.value == pytest.approx((0.5 + 1.0) / 2)
    assert three.worth == pytest.approx(4.0)


def test_a_vote_leaves_out_the_few_questions_with_too_few_draws() -> None:
    setting = Setting(max_tokens=256, temperature=0.7)
    correct = unequal([5] * 39 + [1], [5] * 39 + [0])
    one, three = votes(Results([], {setting: draws_of(setting, correct)}), [1, 3])
    assert len(three.draws.question_ids) == len(one.draws.question_ids) == 39
    assert three.estimate.value == 1.0
    # Where many have few draws, the vote is as large as they allow.
    correct = unequal([5] * 30 + [3] * 10, [5] * 30 + [0] * 10)
    points = votes(Results([], {setting: draws_of(setting, correct)}), [1, 3, 4])
    assert [p.votes for p in points] == [1, 3]
    assert points[1].estimate.value == 0.75


def test_the_likeliest_of_several_is_chosen_by_mean_log_probability() -> None:
    setting = Setting(max_tokens=256, temperature=0.7)
    correct = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, np.nan]])
    logprobs = np.array([[-0.1, -0.5, -0.9], [-0.2, -0.7, np.nan]])
    draws = draws_of(setting, correct, logprobs=logprobs)
    found = findings_of([draws], [1, 2]).others["likeliest of several"]
    # Question 1: the right draw is likeliest in two of three pairs. Question 2: the wrong one is.
    assert [p.name for p in found] == ["likeliest of 2"]
    assert found[0].per_question is not None
    assert found[0].per_question[:, 0] == pytest.approx([2 / 3, 0.0])
    assert found[0].tokens == 200
    unknown = draws_of(setting, correct)
    assert "likeliest of several" not in findings_of([unknown], [1, 2]).others
