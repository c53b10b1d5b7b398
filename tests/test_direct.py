"""A model that does not think is asked in plain chat."""

from __future__ import annotations

from pathlib import Path

import pytest

from s1kit.engines import load_engine
from s1kit.engines.interface import PlanningEngine
from s1kit.errors import InputError
from s1kit.forcing import ThinkingBudget
from s1kit.forcing.request import Request


def test_a_direct_answer_has_no_thinking_and_no_delimiters(tiny_random_checkpoint: Path) -> None:
    engine = load_engine(f"hf:{tiny_random_checkpoint}", format="direct")
    (generation,) = engine.generate([Request("1+1?", budget=ThinkingBudget(0), answer_tokens=5)])
    assert [s.kind for s in generation.segments] == ["answer"]
    assert generation.thinking_tokens == generation.forced_tokens == 0
    assert 1 <= generation.answer_tokens <= 5


def test_a_direct_model_is_not_told_to_wait(tiny_random_checkpoint: Path) -> None:
    engine = load_engine(f"hf:{tiny_random_checkpoint}", format="direct")
    with pytest.raises(InputError, match="does not think"):
        list(engine.generate([Request("1+1?", budget=ThinkingBudget(8, num_waits=1))]))


def test_an_answer_that_may_be_longer_than_the_room_gets_the_room_and_says_so(tiny_random_checkpoint: Path) -> None:
    engine = load_engine(f"hf:{tiny_random_checkpoint}", format="direct")
    assert isinstance(engine, PlanningEngine)
    plan = engine.plan(Request("1+1?", answer_tokens=10**6))
    assert plan.total_tokens == engine.context_tokens
    assert plan.note == f"answer_tokens 1000000 was lowered to {plan.request.answer_tokens}, the room there is"
    with pytest.raises(InputError, match=r"prompt is \d+ tokens long and the context 512.*request\.question"):
        engine.plan(Request("1" * 600))
