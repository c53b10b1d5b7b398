"""Methods worked out from draws, rejection sampling, lengths asked for, and early exit, on answers known in advance."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1kit.analysis.findings import Findings
from s1kit.analysis.parallel import adaptive_vote, chance_to_stay_ahead, early_exit, shortest_of
from s1kit.analysis.results import spent_in_all
from s1kit.analysis.settings import grid, target_range
from s1kit.evaluate.decode import Decoding, fill, instructed
from s1kit.evaluate.rejection import sample_until_short
from s1kit.files import write_rows
from s1kit.recipe import Evaluate
from s1kit.records import Generation, Setting
from s1kit.report.rows import read_results
from tests.fake_walker import Walker, walks


@given(st.lists(st.tuples(st.integers(1, 99), st.booleans()), min_size=1, max_size=7), st.data())
def test_the_shortest_of_k_is_that_of_every_subset(draws: list[tuple[int, bool]], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(draws)))
    tokens, correct = [t for t, _ in draws], [c for _, c in draws]
    subsets = list(combinations(range(len(draws)), k))
    expected = sum(correct[min(s, key=lambda i: (tokens[i], i))] for s in subsets) / len(subsets)
    found = shortest_of(tokens, correct, k)
    assert found.chance == pytest.approx(expected)
    assert found.tokens == pytest.approx(k * sum(tokens) / len(tokens))


def test_an_adaptive_vote_stops_once_the_leader_is_safe_and_goes_on_while_it_is_not() -> None:
    assert chance_to_stay_ahead(Counter({"a": 1, "b": 1})) == 0.5
    unanimous = adaptive_vote(["7"] * 16, [True] * 16, [10.0] * 16)
    assert unanimous == (1.0, 40.0)  # four equal answers are 97 % sure
    split = adaptive_vote(["7", "3"] * 8, [True, False] * 8, [10.0] * 16)
    assert split.tokens == 160.0
    assert split.chance == 0.5


def test_early_exit_needs_equal_answers_in_a_row() -> None:
    assert early_exit(["1", "2", "2", "2"], [8, 16, 24, 32], [2, 2, 2, 2], 2) == (2, 24, 6)
    assert early_exit([None, None, "2", "3"], [8, 16, 24, 32], [2, 2, 2, 2], 2) == (3, 32, 8)


def test_lengths_are_asked_for_in_the_question_and_measured_against_what_was_asked() -> None:
    config = Evaluate(max_tokens=[640], token_control=[64], step_control=[4], class_control=["short"])
    asked = {s.label: s for s, _ in grid(config) if s.target}
    assert len(asked) == 6
    alone = Setting(method="step_control", target="4")
    assert alone in asked.values()
    assert target_range(alone) == (0, 400)
    assert Setting(method="step_control", target="4", max_tokens=400) in asked.values()
    assert instructed("Q?", alone) == "Q?\nThink for up to 4 steps."
    walker = Walker()
    (question,) = walks(1)
    fill(walker, [(question, s, 0) for s in asked.values()], Decoding(0, 4), lambda _: None)
    texts = {r.question for r in walker.requests}
    assert any("short amount of thinking" in t for t in texts)
    assert {r.question_id for r in walker.requests} == {question.id}


class Rambler(Walker):
    """Thinks 10 tokens more with every other seed: some draws are short enough and some are not."""

    def _generate(self, request):  # type: ignore[no-untyped-def]
        self.stride = 10 + 10 * (request.seed % 3)
        return super()._generate(request)


def test_rejection_sampling_takes_the_first_draw_within_the_limit_and_pays_for_all() -> None:
    questions = walks(3)
    limits = [Setting(method="rejection_sampling", max_tokens=m, temperature=1.0) for m in (5, 12, 40)]
    engine = Rambler()
    out = sample_until_short(
        engine, [(q, s) for q in questions for s in limits], tries=4, answer_tokens=4, seed_of=lambda _, i: 2 - i % 3
    )
    by = {(g.question_id, g.setting.max_tokens if g.setting else 0): g for g in out}
    assert len(by) == 9
    for question in questions:
        assert by[question.id, 40].thinking_tokens == 30  # the first draw
        assert by[question.id, 12].thinking_tokens == 10  # the third
        assert spent_in_all(by[question.id, 12].note, 0) == 30 + 12 + 10  # the second was broken off at 12
        assert by[question.id, 5].ending == "failed"
    assert len(engine.requests) == 12


def test_early_exit_is_worked_out_from_probes_that_cost_no_thinking(tmp_path) -> None:  # type: ignore[no-untyped-def]
    config = Evaluate(max_tokens=[64], num_waits=[0, 3], probe_every=4)
    questions = walks(40, longest=40)
    cells = [(q, s, r) for q in questions for s, n in grid(config) for r in range(n)]
    walker = Walker(stride=10)
    filled = fill(walker, cells, Decoding(0, 4), lambda _: None)
    answers = {q.id: q.solution for q in questions}
    rows: list[Generation] = []
    for g in filled:
        said = g.answer.split()[-1]
        verdict = "correct" if said == answers[g.question_id] else "wrong"
        rows.append(g.model_copy(update={"verdict": verdict, "final_answer": said}))
    write_rows(tmp_path / "g-00000.parquet", Generation, rows)
    findings = Findings(read_results(questions, [tmp_path / "g-00000.parquet"]))
    two, *_ = findings.early_exits
    # It walks 10 steps and stops: questions of up to 4 steps are stable at 4 and 8 tokens, none other is.
    assert two.left_early.value == 4 / 40
    assert two.right_when_left is not None
    assert two.right_when_left.value == 1.0
    assert two.accuracy.value == 10 / 40
    assert two.tokens.value == pytest.approx((4 * 8 + 36 * 10) / 40)
    assert two.tokens.low < two.tokens.value < two.tokens.high < 10
    assert two.probe_tokens.low < two.probe_tokens.value < two.probe_tokens.high
    assert sum(r.prefix is None for r in walker.requests) == len(questions)
