"""Forcing through somebody else's sampler: transformers' own generate, and a row rebuilt from its tokens."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from test_engine_transformers import chi_squared_z, random_request

from s1kit import Generation, Request, ThinkingBudget, load_engine
from s1kit.errors import InputError
from s1kit.forcing.formats import FORMATS

torch = pytest.importorskip("torch")


def by_generate(engine: Any, requests: list[Request], **settings: Any) -> list[Generation]:
    from s1kit.engines.hf.processor import BudgetForcing

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


def test_a_row_rebuilt_in_another_process_counts_no_fewer_waits_than_it_had(engine: Any) -> None:
    """What nothing remembers is taken for a replaced stop, so that the waits never exceed what was asked for."""
    from s1kit.engines.steering import Memory, Steered

    num_waited = 0
    for number in range(40):
        plan = engine.plan(random_request(Random(number), number, seed=number))
        row, output, random = Steered(plan, Memory()), [], Random(number)
        while not row.is_done and len(output) < 200:
            forced = row.forced
            stop = row.settle(True) if forced is None and random.random() < 0.2 else None
            if forced is None and stop is None:
                row.settle(False)
            output.append(next(i for i in (forced, stop, random.choice([5, 6, 7])) if i is not None))
            row.observe(output[-1])
        again = Steered(plan, Memory())
        again.replay(output)
        assert again.generation().num_waits >= row.generation().num_waits
        num_waited += row.generation().num_waits > 0
    assert num_waited


def _next(row: Any, random: Random, plan: Any) -> int:
    """A sampler that honours what is forced; the model's own words include the first id of the wait."""
    if row.forced is not None:
        return int(row.forced)
    stops = random.random() < 0.2
    target = row.settle(stops)
    return int(target if stops else random.choice([plan.waits[0].ids[0], 5, 6, 7]))


def steered_plainly(row: Any, logits: Any, length: int) -> Any:
    """What a row that is told every token at once wants of its logits `[vocabulary]`."""
    logits = logits.clone()
    target = row.forced
    if target is None:
        stops = sorted(row.stop_ids)
        if row.temperature:
            is_stopping = row.draw(length) < float((logits / row.temperature).softmax(-1)[stops].sum())
        else:
            is_stopping = int(logits.argmax()) in row.stop_ids
        target = row.settle(is_stopping)
        if not is_stopping:
            logits[stops] = -torch.inf
            return logits
    logits[:] = -torch.inf
    logits[target] = 0.0
    return logits


@pytest.mark.parametrize("by_slot", [True, False], ids=["rows in any order", "rows by position"])
def test_a_batch_that_tells_its_rows_late_steers_as_one_that_tells_them_at_once(engine: Any, by_slot: bool) -> None:
    from s1kit.engines.batch_processor import BatchLogitsProcessor
    from s1kit.engines.steering import Steered

    random, vocabulary = Random(int(by_slot)), len(engine.tokenizer)
    torch.manual_seed(int(by_slot))
    stops = sorted(engine.tokens.thinking_stop_ids)
    batch, rows, outputs = BatchLogitsProcessor(), {}, {}
    num_waits = num_done = number = 0
    for _ in range(1500):
        while len(rows) < 7:
            request = random_request(Random(number), number, seed=number, temperature=random.choice([0.0, 0.7, 1.0]))
            plan = engine.plan(request)
            slot = next(s for s in range(7) if s not in rows)
            rows[slot], outputs[slot], number = Steered(plan), [], number + 1
            batch.put(slot, Steered(plan), outputs[slot])
        slots = list(range(7))
        if by_slot:
            slots = random.sample(slots, random.randint(1, 7))
        logits = torch.randn(len(slots), vocabulary)
        logits[:, random.choice(stops)] += random.choice([0.0, 2.0, 5.0])
        given = zip(slots, logits, strict=True)
        expected = torch.stack([steered_plainly(rows[slot], row, len(outputs[slot])) for slot, row in given])
        found = batch.steer(logits.clone(), slots if by_slot else None)
        assert torch.equal(found, expected)
        if random.random() < 0.1:
            continue  # as after a prompt's first piece: nothing is sampled, and the same is asked again
        for slot, token in zip(slots, torch.multinomial(found.softmax(-1), 1)[:, 0].tolist(), strict=True):
            outputs[slot].append(token)
            rows[slot].observe(token)
            if rows[slot].is_done:
                member = batch[slot]
                batch.drop(slot)
                assert member.row.generation() == rows[slot].generation()
                num_waits, num_done = num_waits + rows.pop(slot).generation().num_waits, num_done + 1
    assert num_done > 100
    assert num_waits > 100


def test_a_row_that_leaves_is_told_of_its_last_word_so_that_it_can_be_rebuilt(engine: Any) -> None:
    from s1kit.engines.batch_processor import BatchLogitsProcessor
    from s1kit.engines.steering import Memory, Steered

    plan = engine.plan(Request(question="?", budget=ThinkingBudget(20, 0, 1), answer_tokens=20))
    memory, batch, output = Memory(), BatchLogitsProcessor(), []
    batch.put(0, Steered(plan, memory), output)
    word = plan.waits[0].ids[0]
    logits = torch.zeros(1, len(engine.tokenizer))
    logits[0, word] = 5.0
    assert int(batch.steer(logits).argmax()) == word  # the model's own, though a replaced stop would look the same
    output.append(word)
    batch.drop(0)
    again = Steered(plan, memory)
    again.replay(output)
    assert [s.kind for s in again.generation().segments] == ["thinking"]


def test_of_equal_logits_the_first_counts(engine: Any) -> None:
    from s1kit.engines.batch_processor import BatchLogitsProcessor
    from s1kit.engines.steering import Steered

    plan = engine.plan(Request(question="?", budget=ThinkingBudget(20), answer_tokens=20))
    stop = min(plan.tokens.thinking_stop_ids)
    above = len(engine.tokenizer) + 3  # of a vocabulary that is padded
    for other, stops in ((5, False), (above, True)):
        batch = BatchLogitsProcessor()
        batch.put(0, Steered(plan), [])
        logits = torch.zeros(1, above + 1)
        logits[0, [stop, other]] = 5.0
        assert int(batch.steer(logits).argmax()) == (Steered(plan).settle(True) if stops else other)


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
