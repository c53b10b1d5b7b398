"""Forcing through somebody else's sampler: transformers' own generate, and a row rebuilt from its tokens."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from test_engine_transformers import chi_squared_z, random_request

from s1kit import Generation, Request, ThinkingBudget, load_engine
from s1kit.errors import InputError
from s1kit.formats import FORMATS

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def engine(tiny_random_checkpoint: Path) -> Any:
    return load_engine(f"hf:{tiny_random_checkpoint}")


def by_generate(engine: Any, requests: list[Request], **settings: Any) -> list[Generation]:
    from s1kit.engines.processor import BudgetForcing

    forcing = BudgetForcing([engine.plan(r) for r in requests])
    with torch.inference_mode():
        engine.model.generate(
            **forcing.inputs(),
            logits_processor=[forcing],
            max_new_tokens=forcing.max_new_tokens,
            pad_token_id=0,
            **settings,
        )
    return forcing.generations()


def test_transformers_generate_with_the_processor_is_the_engine_token_for_token(engine: Any) -> None:
    requests = [random_request(Random(i), i) for i in range(48)]
    expected = {g.question_id: g for g in engine.generate(requests)}
    found = by_generate(engine, requests, do_sample=False)
    assert sum(g.num_waits for g in found) > 15
    for generation in found:
        other = expected[generation.question_id]
        assert [s.token_ids for s in generation.segments if s.kind != "close"] == [
            s.token_ids for s in other.segments if s.kind != "close"
        ]
        assert (generation.ending, generation.num_waits) == (other.ending, other.num_waits)
        assert (generation.thinking, generation.answer) == (other.thinking, other.answer)


def test_sampled_stops_come_as_often_as_the_model_has_them_and_what_follows_is_its_own(engine: Any) -> None:
    requests = [
        Request(question="Which?", budget=ThinkingBudget(3, 0, 1), temperature=1.0, seed=s, answer_tokens=6)
        for s in range(1500)
    ]
    torch.manual_seed(0)
    found = by_generate(engine, requests, do_sample=True, temperature=1.0, top_k=0, top_p=1.0)
    plan = engine.plan(requests[0])
    with torch.inference_mode():
        before = engine.model(torch.tensor([plan.prompt_ids])).logits[0, -1].softmax(-1)
        after = engine.model(torch.tensor([[*plan.prompt_ids, *plan.waits[0].ids]])).logits[0, -1].softmax(-1)
    stops = engine.tokens.thinking_stop_ids
    rate = float(sum(before[i] for i in stops))
    stopped = [g for g in found if g.segments[0].kind == "wait"]
    assert abs(len(stopped) - 1500 * rate) < 5 * (1500 * rate * (1 - rate)) ** 0.5 + 1
    observed: dict[int, int] = {}
    for g in stopped:
        token = g.segments[1].token_ids[0] if g.segments[1].kind == "thinking" else -1
        observed[token] = observed.get(token, 0) + 1
    expected = {i: float(p) for i, p in enumerate(after) if i not in stops}
    expected[-1] = 1 - sum(expected.values())
    assert chi_squared_z(observed, expected, len(stopped)) < 4.5


def test_a_row_rebuilt_from_its_tokens_is_the_row_it_was(engine: Any) -> None:
    from s1kit.engines.steering import Memory, Steered

    for number in range(40):
        request = random_request(Random(number), number, seed=number)
        plan = engine.plan(request)
        memory = Memory()
        row, output = Steered(plan, memory), []
        random = Random(number)
        while not row.is_done and len(output) < 200:
            output.append(_next(row, random, plan))
            row.observe(output[-1])
            again = Steered(plan, memory)
            again.replay(output)
            assert again.generation() == row.generation()
            assert again.forced == row.forced


def _next(row: Any, random: Random, plan: Any) -> int:
    """A sampler that honours what is forced; the model's own words include the first id of the wait."""
    if row.forced is not None:
        return int(row.forced)
    stops = random.random() < 0.2
    target = row.settle(stops)
    return int(target if stops else random.choice([plan.waits[0].ids[0], 5, 6, 7]))


def test_an_engine_that_ignores_the_logits_is_caught(engine: Any) -> None:
    from s1kit.engines.steering import Steered

    row = Steered(engine.plan(Request(question="?", budget=ThinkingBudget(0))))
    assert row.forced is not None
    with pytest.raises(ValueError, match="ignores logits"):
        row.observe(row.forced + 1)
    thinking = Steered(engine.plan(Request(question="?", budget=ThinkingBudget(9, 0, 1))))
    thinking.settle(False)
    with pytest.raises(ValueError, match="which was masked"):
        thinking.observe(min(thinking.stop_ids))


def test_a_delimiter_of_several_ordinary_tokens_cannot_be_steered_and_is_refused(tiny_random_checkpoint: Path) -> None:
    from s1kit.engines.steering import Steered

    engine: Any = load_engine(f"hf:{tiny_random_checkpoint}", format=FORMATS["qwen3"])
    with pytest.raises(InputError, match="no single token of this tokenizer"):
        Steered(engine.plan(Request(question="?", budget=ThinkingBudget(9))))


def test_beam_search_is_refused(engine: Any) -> None:
    with pytest.raises(ValueError, match="greedy decoding or sampling"):
        by_generate(engine, [Request(question="?", budget=ThinkingBudget(9))], num_beams=2)
