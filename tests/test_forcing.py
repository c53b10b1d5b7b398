"""The laws of the forcing machine, as properties."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1kit.forcing import Insert, Move, Sampled, StopAttempt, Thinking, ThinkingBudget, advance, begin


@st.composite
def budgets(draw: st.DrawFn) -> ThinkingBudget:
    most = draw(st.integers(0, 40))
    return ThinkingBudget(most, draw(st.integers(0, most)), draw(st.integers(0, 6)))


@st.composite
def runs(draw: st.DrawFn) -> tuple[ThinkingBudget, int, list[tuple[Thinking, Move]]]:
    """A budget, the length of a wait, and every state from the start to the close."""
    budget, wait = draw(budgets()), draw(st.integers(1, 5))
    steps = [begin(budget)]
    while not steps[-1][0].closed:
        state, move = steps[-1]
        event = draw(st.one_of(st.just(StopAttempt()), st.integers(1, move.room).map(Sampled)))
        steps.append(advance(budget, wait, state, event))
    return budget, wait, steps


@given(runs())
def test_spent_never_exceeds_the_maximum_and_room_is_what_is_left(run: tuple) -> None:
    budget, _, steps = run
    for state, move in steps:
        assert 0 <= state.spent <= budget.max_tokens
        assert move.room == (0 if state.closed else budget.max_tokens - state.spent)


@given(runs())
def test_thinking_closes_exactly_once_and_then_accepts_nothing(run: tuple) -> None:
    budget, wait, steps = run
    assert [s.closed for s, _ in steps] == [False] * (len(steps) - 1) + [True]
    assert sum(m.insert in (Insert.CLOSE, Insert.CUTOFF) for _, m in steps) == 1
    for event in (Sampled(0), Sampled(1), StopAttempt()):
        with pytest.raises(ValueError, match="closed"):
            advance(budget, wait, steps[-1][0], event)


@given(runs())
def test_waits_stay_within_their_number_unless_the_minimum_asks_for_more(run: tuple) -> None:
    budget, wait, steps = run
    for (before, _), (after, move) in pairwise(steps):
        if move.wait_tokens:
            assert before.waits < budget.num_waits or before.spent < budget.min_tokens
            assert (after.waits, after.spent) == (before.waits + 1, before.spent + move.wait_tokens)
            assert move.wait_tokens == wait if move.insert is Insert.WAIT else before.spent < budget.min_tokens
        else:
            assert move.insert is not Insert.WAIT
            assert after.waits == before.waits


@given(runs())
def test_a_wait_always_leaves_room_to_think(run: tuple) -> None:
    assert all(m.room >= 1 for _, m in run[2] if m.insert is Insert.WAIT)


@given(runs())
def test_a_stop_is_closed_only_where_no_wait_was_due_or_none_fitted(run: tuple) -> None:
    budget, wait, steps = run
    for (before, _), (_, move) in pairwise(steps):
        if move.insert is Insert.CLOSE:
            assert before.spent >= budget.min_tokens
            assert before.waits >= budget.num_waits or before.spent + wait >= budget.max_tokens


@given(runs())
def test_both_bounds_always_hold(run: tuple) -> None:
    budget, _, steps = run
    assert budget.min_tokens <= steps[-1][0].spent <= budget.max_tokens


@given(st.integers(0, 60), st.integers(1, 80), st.data())
def test_a_minimum_equal_to_the_maximum_means_exactly_so_many(num: int, wait: int, data: st.DataObject) -> None:
    budget = ThinkingBudget(num, num)
    state, move = begin(budget)
    while not state.closed:
        event = data.draw(st.one_of(st.just(StopAttempt()), st.integers(1, move.room).map(Sampled)))
        state, move = advance(budget, wait, state, event)
    assert (state.spent, move.insert) == (num, Insert.CUTOFF)


def test_a_wait_that_would_pass_the_room_below_the_minimum_is_cut_to_it_and_the_cutoff_follows() -> None:
    budget = ThinkingBudget(10, 10)
    state, _ = advance(budget, 4, begin(budget)[0], Sampled(8))
    assert advance(budget, 4, state, StopAttempt()) == (Thinking(10, 1, True), Move(Insert.CUTOFF, 0, 2))


@given(runs())
def test_a_cutoff_comes_exactly_when_the_budget_is_spent(run: tuple) -> None:
    budget, _, steps = run
    last, move = steps[-1]
    assert (move.insert is Insert.CUTOFF) == (last.spent == budget.max_tokens and move.insert is not Insert.CLOSE)


@given(budgets(), st.integers(1, 5), st.data())
def test_sampled_a_then_b_equals_sampled_a_plus_b(budget: ThinkingBudget, wait: int, data: st.DataObject) -> None:
    state, move = begin(budget)
    if state.closed:
        return
    a = data.draw(st.integers(0, move.room - 1))
    b = data.draw(st.integers(0, move.room - a))
    middle, _ = advance(budget, wait, state, Sampled(a))
    assert advance(budget, wait, middle, Sampled(b)) == advance(budget, wait, state, Sampled(a + b))


@given(budgets())
def test_a_zero_budget_is_cut_off_before_anything_is_sampled(budget: ThinkingBudget) -> None:
    state, move = begin(budget)
    assert state.closed == (budget.max_tokens == 0)
    assert move.insert is (Insert.CUTOFF if budget.max_tokens == 0 else Insert.NOTHING)


@given(runs())
def test_a_larger_maximum_only_adds_to_what_was_done_before_the_cutoff(run: tuple) -> None:
    budget, wait, steps = run
    larger = ThinkingBudget(budget.max_tokens + 17, budget.min_tokens, budget.num_waits)
    state, _ = begin(larger)
    for (before, _), (after, move) in pairwise(steps):
        if move.insert is Insert.CLOSE:
            break
        if move.wait_tokens and move.insert is Insert.CUTOFF:
            break  # the larger budget has room for more of the wait
        event = StopAttempt() if move.wait_tokens else Sampled(after.spent - before.spent)
        state, _ = advance(larger, wait, state, event)
        assert (state.spent, state.waits, state.closed) == (after.spent, after.waits, False)


@pytest.mark.parametrize("value", [-1, 1.0, True, "8", None])
@pytest.mark.parametrize("field", ["max_tokens", "min_tokens", "num_waits"])
def test_a_budget_of_what_is_not_a_natural_number_is_refused_by_name(field: str, value: object) -> None:
    values: dict = {"max_tokens": 9, "min_tokens": 0, "num_waits": 0, field: value}
    with pytest.raises(ValueError, match=rf"budget\.{field} is {value!r}"):
        ThinkingBudget(**values)


def test_a_minimum_above_the_maximum_is_refused_and_both_are_named() -> None:
    with pytest.raises(ValueError, match=r"min_tokens is 9, above budget.max_tokens, which is 8"):
        ThinkingBudget(8, 9)


def test_more_tokens_than_there_is_room_for_are_refused() -> None:
    state, _ = begin(ThinkingBudget(3))
    with pytest.raises(ValueError, match="room for 0 to 3"):
        advance(ThinkingBudget(3), 1, state, Sampled(4))


def test_a_wait_of_no_tokens_is_refused() -> None:
    state, _ = begin(ThinkingBudget(3))
    with pytest.raises(ValueError, match="at least one token"):
        advance(ThinkingBudget(3), 0, state, StopAttempt())
