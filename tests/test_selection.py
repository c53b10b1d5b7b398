"""The draw: presets, their laws, and the ids that seed 0 draws, written down."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1kit.curate.selection import SELECTORS, Candidate, draw_rank, find_selector, is_trusted, pick_s1, pick_s1_notebook
from s1kit.errors import InputError
from s1kit.records import question_id

DOMAINS = ("algebra", "geometry", "number theory", "physics")


def pool(num: int = 400) -> list[Candidate]:
    """Candidates made without chance, so that the golden ids below are of the draw alone."""
    return [
        Candidate(
            index=n,
            question_id=question_id(f"question {n}"),
            source=("MATH/train", "AIME_1983_2024", "Idavidrein/gpqa", "NuminaMath")[n % 4],
            domain=DOMAINS[n % 7 % 4],
            thinking_tokens=(n * 7919) % 9000,
            is_correct=n % 3 == 0,
            score=(n * 31 % 100) / 100,
        )
        for n in range(num)
    ]


GOLDEN = {
    "diverse": ["92498ea64e5c2273", "2f198ba4d9d06015", "cc6b7b90170275a0"],
    "full": ["6183866a41c96e64", "2f198ba4d9d06015", "a7729577b3894fc8"],
    "limo": ["0c705d1d97affd2e", "a8c1ec2362171c50", "fb5fac396eccd00e"],
    "longest": ["625ecba6de684fe6", "9f6b5e87eac8dcc5", "43efc8bceeec216b"],
    "random": ["37c67b0e1aae83d6", "33aa19f0b99a15ce", "09ca24967c4ac888"],
    "s1": ["00b5c93a14e88f8f", "b40051e9454007bf", "0c26b0ed95840cad"],
    "s1-notebook": ["00b5c93a14e88f8f", "b40051e9454007bf", "b4f4e5a4ee095b3c"],
    "shortest-correct": ["2c8f955c25988f26", "747ef6d9b4e06afd", "2661cd65823a9f72"],
}
"""The first, the 61st and the last id of 120."""


def drawn(preset: str, num: int, seed: str = "0:selection") -> list[str]:
    candidates = pool()
    return [candidates[pick.candidate].question_id for pick in SELECTORS[preset](candidates, num, Random(seed))]


@pytest.mark.parametrize("preset", sorted(SELECTORS))
def test_seed_0_draws_the_ids_written_down_here(preset: str) -> None:
    ids = drawn(preset, 120)
    assert [ids[0], ids[60], ids[-1]] == GOLDEN[preset]


@pytest.mark.parametrize("preset", sorted(set(SELECTORS) - {"full", "longest", "limo"}))
def test_another_seed_draws_other_ids(preset: str) -> None:
    assert drawn(preset, 120) != drawn(preset, 120, seed="1:selection")


@pytest.mark.parametrize("preset", sorted(SELECTORS))
def test_the_order_in_which_candidates_come_does_not_matter(preset: str) -> None:
    candidates = pool()
    backwards = [Candidate(**{**vars(c), "index": n}) for n, c in enumerate(reversed(candidates))]
    picks = SELECTORS[preset](backwards, 120, Random("0:selection"))
    ids = [backwards[pick.candidate].question_id for pick in picks]
    assert sorted(ids) == sorted(drawn(preset, 120))


@settings(deadline=None)
@given(num=st.integers(0, 500), seed=st.integers(), size=st.integers(0, 60), preset=st.sampled_from(sorted(SELECTORS)))
def test_a_draw_never_repeats_a_trace_and_never_exceeds_what_was_asked(
    num: int, seed: int, size: int, preset: str
) -> None:
    candidates = pool(size)
    picks = SELECTORS[preset](candidates, num, Random(seed))
    chosen = [pick.candidate for pick in picks]
    assert len(set(chosen)) == len(chosen) <= (size if preset == "full" else min(num, size))
    if preset in ("s1", "random", "longest", "diverse", "limo"):
        assert len(chosen) == min(num, size)


def test_s1_takes_what_it_trusts_first_and_says_so() -> None:
    candidates = pool()
    picks = pick_s1(candidates, 200, Random(0))
    trusted = {c.index for c in candidates if is_trusted(c)}
    assert {pick.candidate for pick in picks if pick.picked_by == "s1:trusted"} == trusted
    assert all(pick.picked_by.startswith("s1:domain=") for pick in picks if pick.candidate not in trusted)


def test_a_correct_math_trace_is_trusted_above_5600_tokens_only() -> None:
    def math(tokens: int, source: str = "MATH/train") -> Candidate:
        return Candidate(0, "a", source, "algebra", tokens, is_correct=True)

    assert not is_trusted(math(5600))
    assert is_trusted(math(5601))
    assert not is_trusted(math(9000, source="NuminaMath/olympiads"))


def test_a_wrong_or_ungraded_trace_is_never_trusted() -> None:
    assert not is_trusted(Candidate(0, "a", "AIME_1983_2024", "algebra", 9, is_correct=False))
    assert not is_trusted(Candidate(0, "a", "AIME_1983_2024", "algebra", 9, is_correct=None))


def test_ranks_halve_in_probability() -> None:
    random = Random(0)
    counts = Counter(draw_rank(4, random) for _ in range(15000))
    assert [round(counts[rank] / 1000) for rank in range(4)] == [8, 4, 2, 1]


@settings(deadline=None)
@given(num=st.integers(1, 3000), seed=st.integers())
def test_a_rank_is_one_of_the_ranks_there_are(num: int, seed: int) -> None:
    assert 0 <= draw_rank(num, Random(seed)) < num


def test_within_a_domain_s1_prefers_the_longest() -> None:
    candidates = [Candidate(n, f"{n:04d}", "NuminaMath", "algebra", n) for n in range(100)]
    firsts = Counter(pick_s1(candidates, 1, Random(seed))[0].candidate for seed in range(300))
    assert firsts[99] > firsts[98] > firsts[97]


def test_the_notebook_draws_from_the_benchmark_domains_once_700_are_chosen() -> None:
    domains = [f"d{n}" for n in range(10)]
    candidates = [Candidate(n, f"{n:06d}", "NuminaMath", domains[n % 10], n) for n in range(3000)]
    candidates += [Candidate(3000 + n, f"{3000 + n:06d}", "AIME_1983_2024", "d0", n) for n in range(150)]
    picks = pick_s1_notebook(candidates, 1000, Random(0))
    phases = [pick.picked_by.split(":")[1] for pick in picks]
    assert phases == ["uniform"] * 700 + ["benchmark"] * 300
    assert {candidates[pick.candidate].domain for pick in picks[700:]} == {"d0"}


def test_the_notebook_ends_when_the_benchmark_domains_are_empty() -> None:
    candidates = [Candidate(n, f"{n:06d}", "NuminaMath", f"d{n % 5}", n) for n in range(2000)]
    assert len(pick_s1_notebook(candidates, 1000, Random(0))) == 700


def test_of_one_question_the_shortest_correct_trace_is_taken() -> None:
    traces = [
        Candidate(0, "q", "s", "d", thinking_tokens=50, draw=0, is_correct=True),
        Candidate(1, "q", "s", "d", thinking_tokens=20, draw=1, is_correct=True),
        Candidate(2, "q", "s", "d", thinking_tokens=10, draw=2, is_correct=False),
    ]
    assert [p.candidate for p in SELECTORS["shortest-correct"](traces, 5, Random(0))] == [1]


def test_full_takes_every_trace_and_the_others_one_a_question() -> None:
    traces = [Candidate(n, "q", "s", "d", 5, draw=n) for n in range(3)]
    assert len(SELECTORS["full"](traces, 1, Random(0))) == 3
    assert [p.candidate for p in SELECTORS["random"](traces, 3, Random(0))] == [0]


def test_an_unknown_selection_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean longest"):
        find_selector("longst")
