"""A model that does not think is asked in plain chat."""

from __future__ import annotations

from pathlib import Path

import pytest

from s1kit.engines import load_engine
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
    with pytest.raises(InputError, match=r"request\.answer_tokens"):
        list(engine.generate([Request("1+1?", answer_tokens=10**6)]))
