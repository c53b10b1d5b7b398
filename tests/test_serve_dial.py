"""Thinking fields become one budget, or an error that names the field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("starlette")

from s1kit.errors import InputError
from s1kit.forcing import ThinkingBudget
from s1kit.serve.dial import EFFORTS, Dial, read_dial, read_efforts
from s1kit.serve.fields import ThinkingFields
from s1kit.serve.refusals import Refusal


def dial(default: int | None = None, **fields: Any) -> Dial:
    return read_dial(ThinkingFields.model_validate_json(json.dumps(fields)), EFFORTS, default)


@pytest.mark.parametrize(
    "fields",
    [
        {"thinking_token_budget": 1024},
        {"max_thinking_tokens": 1024},
        {"thinking_budget_tokens": 1024},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"reasoning": {"max_tokens": 1024}},
        {"reasoning": {"effort": "low"}},
        {"reasoning_effort": "low"},
        {"reasoning_effort": "low", "thinking_token_budget": 1024, "reasoning": {"max_tokens": 1024}},
    ],
)
def test_every_name_for_the_budget_means_the_same(fields: dict[str, Any]) -> None:
    assert dial(**fields).max_tokens == 1024


@pytest.mark.parametrize(
    "fields",
    [
        {"thinking_token_budget": 0},
        {"thinking": {"type": "disabled"}},
        {"reasoning": {"enabled": False}},
        {"reasoning_effort": "none"},
    ],
)
def test_every_name_for_no_thinking_means_a_budget_of_zero(fields: dict[str, Any]) -> None:
    assert dial(**fields).max_tokens == 0


@pytest.mark.parametrize(
    "fields",
    [{}, {"thinking_token_budget": -1}, {"thinking": {"type": "adaptive"}}, {"reasoning": {"enabled": True}}],
)
def test_unlimited_is_the_room_there_is(fields: dict[str, Any]) -> None:
    assert dial(**fields).max_tokens is None


def test_the_servers_default_holds_only_where_a_request_says_nothing() -> None:
    assert dial(default=64).max_tokens == 64
    assert dial(default=64, thinking_token_budget=-1).max_tokens is None
    assert dial(default=64, num_waits=1).max_tokens == 64


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"thinking_token_budget": 8, "max_thinking_tokens": 9}, "max_thinking_tokens"),
        ({"thinking_token_budget": 8, "reasoning_effort": "high"}, "reasoning_effort"),
        ({"thinking": {"type": "disabled", "budget_tokens": 5}}, "thinking.budget_tokens"),
        ({"reasoning": {"enabled": False, "effort": "low"}}, "reasoning.effort"),
        ({"thinking_token_budget": 8, "min_thinking_tokens": 9}, "min_thinking_tokens"),
        ({"thinking_token_budget": 0, "num_waits": 1}, "num_waits"),
        ({"wait": "Hmm"}, "wait"),
        ({"include_reasoning": True, "reasoning": {"exclude": True}}, "reasoning.exclude"),
    ],
)
def test_fields_that_disagree_or_could_do_nothing_are_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as caught:
        dial(**fields)
    assert caught.value.status == 400
    assert caught.value.param == param


@given(
    room=st.integers(1, 5000),
    total=st.none() | st.integers(1, 5000),
    budget=st.none() | st.integers(0, 5000),
    minimum=st.integers(0, 200),
    answer=st.none() | st.integers(1, 2000),
    close=st.integers(0, 6),
    closing=st.integers(0, 6),
)
def test_a_fitted_budget_always_leaves_room_for_an_answer(
    room: int, total: int | None, budget: int | None, minimum: int, answer: int | None, close: int, closing: int
) -> None:
    if budget is not None:
        minimum = min(minimum, budget)
    wanted = Dial(budget, minimum, 0, None, None, answer, shows_thinking=True, is_stated=True)
    try:
        fitted, answer_tokens, _, has_answer = wanted.fitted(room, close, closing, total)
    except Refusal as refusal:
        refused = refusal
    else:
        refused = None
    if refused is not None:
        assert (refused.status, bool(refused.param)) == (400, True)
        return
    assert isinstance(fitted, ThinkingBudget)
    assert fitted.max_tokens + close + answer_tokens <= (min(room, total or room) if has_answer else room)
    assert has_answer or (total is not None and fitted.max_tokens <= total < close + answer_tokens)
    assert answer_tokens > closing
    assert budget is None or fitted.max_tokens <= budget
    assert fitted.min_tokens == minimum
    assert answer is None or answer_tokens == answer


def test_a_refusal_says_the_number_that_would_have_worked() -> None:
    wanted = Dial(None, 90, 0, None, None, None, shows_thinking=True, is_stated=True)
    with pytest.raises(Refusal, match="Give at most 71") as caught:
        wanted.fitted(room=1000, close_tokens=4, closing_tokens=10, total=100)
    assert caught.value.param == "min_thinking_tokens"


def test_a_maximum_above_the_room_is_honoured_by_the_room() -> None:
    wanted = Dial(90, 0, 0, None, None, None, shows_thinking=True, is_stated=True)
    assert wanted.fitted(1000, 4, 10, 100) == (ThinkingBudget(85), 11, 100, True)
    assert Dial(85, 0, 0, None, None, None, True, True).fitted(1000, 4, 10, 100) == (ThinkingBudget(85), 11, 100, True)


def test_an_effort_map_comes_from_a_file_and_from_flags(tmp_path: Path) -> None:
    path = tmp_path / "efforts.toml"
    path.write_text("low = 7\nhigh = -1\n")
    assert read_efforts(path, ("low=9",)) == {"low": 9, "high": -1}
    (tmp_path / "efforts.json").write_text('{"low": 8}')
    assert read_efforts(tmp_path / "efforts.json") == {"low": 8}
    with pytest.raises(Refusal, match="does not map") as caught:
        read_dial(ThinkingFields(reasoning_effort="medium"), {"low": 7}, None)
    assert caught.value.param == "reasoning_effort"


@pytest.mark.parametrize("entry", ["lo=5", "low", "low=", "low=-2", "low=many"])
def test_a_broken_effort_is_one_paragraph(entry: str) -> None:
    with pytest.raises(InputError):
        read_efforts(entries=(entry,))


@pytest.mark.parametrize("text", ["low = ", "low = 1.5", "[low]", "lowest = 1"])
def test_a_broken_effort_file_is_one_paragraph(tmp_path: Path, text: str) -> None:
    path = tmp_path / "efforts.toml"
    path.write_text(text)
    with pytest.raises(InputError, match="effort"):
        read_efforts(path)
