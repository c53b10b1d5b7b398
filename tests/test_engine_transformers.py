"""The transformers engine against the naive loop, and what a batch must not do to its requests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from naive_forcing import Naive, naive_loop

from s1kit import Generation, Request, ThinkingBudget, load_engine
from s1kit.records import Segment

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def engine(tiny_random_checkpoint: Path) -> Any:
    return load_engine(f"hf:{tiny_random_checkpoint}")


@pytest.fixture(scope="module")
def think_engine(think_checkpoint: Path) -> Any:
    return load_engine(f"hf:{think_checkpoint}")


def random_request(random: Random, number: int, **fields: Any) -> Request:
    most = random.choice([0, 1, 2, 3, random.randint(4, 40)])
    least = random.randint(0, most - 4) if most > 4 and random.random() < 0.3 else 0
    wait = random.choice([None, "Wait", "Hm, no", ("Wait", "Alternatively", "x")])
    longest = 14
    if least and most < least + longest:
        least = 0
    return Request(
        question=f"Question {number}?",
        budget=ThinkingBudget(most, least, random.randint(0, 5)),
        answer_tokens=random.randint(16, 24),
        wait=wait,
        loop_guard=False,
        **fields,
    )


def by_naive_loop(engine: Any, request: Request, sample: Any = None) -> Naive:
    plan, tokens = engine.plan(request), engine.tokens

    def greedy(ids: Sequence[int]) -> int:
        with torch.inference_mode():
            logits = engine.model(torch.tensor([list(ids)])).logits[0, -1, : engine.vocabulary_size]
        return int(logits.argmax())

    return naive_loop(
        sample or greedy,
        plan.prompt_ids,
        max_tokens=plan.budget.max_tokens,
        min_tokens=plan.budget.min_tokens,
        num_waits=plan.budget.num_waits,
        answer_tokens=request.answer_tokens,
        stops=set(tokens.thinking_stop_ids),
        answer_stops=set(tokens.answer_stop_ids),
        waits=[w.ids for w in plan.waits],
        lead=tokens.lead_ids,
        end=tokens.end_ids,
        closing=plan.closing.ids,
        ends_with_lead=lambda i: tokens.decode([i]).endswith("\n"),
    )


def as_naive(generation: Generation) -> Naive:
    def ids(segments: list[Segment]) -> list[int]:
        return [i for s in segments for i in s.token_ids]

    thinking = [s for s in generation.segments if s.kind in ("thinking", "wait")]
    after = [s for s in generation.segments if s.kind not in ("thinking", "wait")]
    return Naive(ids(thinking), ids(after), generation.num_waits, generation.was_cut_off)


def test_greedy_decoding_in_a_mixed_batch_is_token_for_token_the_naive_loop(engine: Any) -> None:
    requests = [random_request(Random(i), i) for i in range(60)]
    found = {g.question_id: g for g in engine.generate(requests)}
    assert sum(g.num_waits for g in found.values()) > 20
    for request in requests:
        assert as_naive(found[request.question_id]) == by_naive_loop(engine, request), request
