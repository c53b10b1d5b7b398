"""The engine `hf:` with little memory for keys and values: requests are preempted, and nobody can tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from engine_parity import joined_text, tokens_of

from s1kit import Generation, Request, ThinkingBudget
from s1kit.records import Segment

torch = pytest.importorskip("torch")

from s1kit.engines.hf import kv_cache  # noqa: E402
from s1kit.engines.hf.batch import HfBatch  # noqa: E402
from s1kit.engines.machine import memory_size  # noqa: E402


@pytest.fixture
def little_headroom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short requests are preempted as often as long ones."""
    monkeypatch.setattr(kv_cache, "_GROWTH", 8)


def new_batch(engine: Any, memory_tokens: int | None, **options: Any) -> HfBatch:
    return HfBatch(engine.model, engine.vocabulary_size, tokens=engine.tokens, memory_tokens=memory_tokens, **options)


def varied(number: int, **fields: Any) -> Request:
    """Greedy and sampled; none, one or many waits; stop strings; some with minimums or without a budget."""
    random = Random(number)
    most = random.choice([0, 60, 90, 120, 120])
    least = 20 if most > 60 and number % 4 == 0 else 0
    given: dict[str, Any] = {
        "question": f"Question {number % 7}?",
        "budget": ThinkingBudget(most, least, random.choice([4, 90, 90])) if number % 9 else None,
        "answer_tokens": random.randint(16, 30),
        "wait": random.choice([None, "Hm, no", ("Wait", "Alternatively", "x")]),
        "temperature": random.choice([0.0, 0.0, 0.7, 1.3]),
        "top_p": random.choice([1.0, 0.9]),
        "top_k": random.choice([0, 20]),
        "stop": random.choice([(), ("a",)]),
        "seed": number,
        "repeat": number,
        "loop_guard": number % 2 == 0,
    }
    return Request(**(given | fields))


def decoded(batch: HfBatch, engine: Any, asked: Sequence[Request]) -> dict[int, Generation]:
    tickets = {batch.admit(engine.plan(r), is_streamed=i % 5 == 0): i for i, r in enumerate(asked)}
    return {tickets[ticket]: generation for ticket, generation in steps(batch)}


def steps(batch: HfBatch) -> Iterator[tuple[int, Generation]]:
    while not batch.is_idle:
        for event in batch.step():
            if event.generation is not None:
                yield event.ticket, event.generation


def same(one: Generation, other: Generation) -> bool:
    """Equal but for the last bits of the log-probability, which are those of the batch's matrix products."""
    logprob = pytest.approx(other.mean_logprob, abs=1e-4) if other.mean_logprob is not None else None
    return one == other.model_copy(update={"mean_logprob": one.mean_logprob}) and one.mean_logprob == logprob


@pytest.mark.parametrize(("which", "runs_ahead"), [("engine", False), ("think_engine", True)])
def test_preempted_requests_come_out_as_with_memory_for_all(
    which: str, runs_ahead: bool, little_headroom: None, request: pytest.FixtureRequest
) -> None:
    """Budgets, waits and random numbers go on where they were; nothing is shown twice."""
    engine = request.getfixturevalue(which)
    asked = [varied(i) for i in range(1, 25)]
    plenty = decoded(new_batch(engine, None, runs_ahead=runs_ahead), engine, asked)
    assert sum(g.num_waits for g in plenty.values()) > 100
    little = new_batch(engine, 400, runs_ahead=runs_ahead)
    found = decoded(little, engine, asked)
    assert little.num_preemptions > 5
    assert all(same(found[i], plenty[i]) for i in range(24))


def test_what_is_streamed_of_a_preempted_request_adds_up_to_the_record(engine: Any, little_headroom: None) -> None:
    asked = [varied(i) for i in range(20)]
    batch, shown = new_batch(engine, 250), dict[int, list[Segment]]()
    tickets = [batch.admit(engine.plan(r), is_streamed=True) for r in asked]
    found = {}
    while not batch.is_idle:
        for event in batch.step():
            shown.setdefault(event.ticket, []).extend(event.segments)
            if event.generation is not None:
                found[event.ticket] = event.generation
    assert batch.num_preemptions > 4
    for ticket in tickets:
        assert [i for s in shown[ticket] for i in s.token_ids] == [
            i for s in found[ticket].segments for i in s.token_ids
        ]
        assert joined_text(shown[ticket]) == joined_text(found[ticket].segments)


def test_rows_and_what_is_allocated_stay_within_the_memory_and_the_oldest_is_never_preempted(
    engine: Any, little_headroom: None
) -> None:
    batch = new_batch(engine, 400)
    waiting = {
        batch.admit(engine.plan(varied(i, budget=ThinkingBudget(90, 0, 90), stop=(), loop_guard=False)))
        for i in range(12)
    }
    while not batch.is_idle:
        done = {event.ticket for event in batch.step()}
        waiting -= done
        rows, positions = batch._passes.slots.capacity
        if batch.num_running > 1:
            assert rows * positions <= 400
        if waiting and not done:
            assert min(waiting) in {active.ticket for active in batch._rows.active}
    assert batch.num_preemptions > 5


def test_a_request_ends_where_it_is_told_to_or_is_forgotten_while_it_is_preempted(
    engine: Any, little_headroom: None
) -> None:
    asked = [varied(i, budget=ThinkingBudget(90, 0, 90), temperature=0.0, stop=(), loop_guard=False) for i in range(12)]
    batch = new_batch(engine, 400)
    tickets = [batch.admit(engine.plan(r)) for r in asked]
    found: dict[int, Any] = {}
    preempted: list[int] = []
    while not batch.is_idle:
        found.update({e.ticket: e.generation for e in batch.step()})
        for active, _ in list(batch._queue.waiting):
            if active.driver.is_thinking and active.driver.thinking_tokens and active.ticket not in preempted:
                preempted.append(active.ticket)
                if len(preempted) == 2:
                    batch.cancel(active.ticket)
                else:
                    batch.end_thinking(active.ticket)
    assert len(preempted) > 3
    cancelled = preempted.pop(1)
    assert set(found) == set(tickets) - {cancelled}
    for ticket in preempted:
        num = found[ticket].thinking_tokens
        (wanted,) = engine.generate([replace(asked[ticket], budget=ThinkingBudget(num, num, 90))])
        assert tokens_of(found[ticket]) == tokens_of(wanted)


def test_random_numbers_last_through_preemptions_of_long_thinking(engine: Any, little_headroom: None) -> None:
    """More tokens than the device holds random numbers for, and preempted more than once."""
    fields: dict[str, Any] = {"temperature": 1.0, "wait": "x", "stop": (), "loop_guard": False, "answer_tokens": 16}
    asked = [varied(i, budget=ThinkingBudget(300, 0, 300), **fields) for i in range(4)]
    little = new_batch(engine, 600)
    found = decoded(little, engine, asked)
    plenty = decoded(new_batch(engine, None), engine, asked)
    assert little.num_preemptions > 3
    assert all(same(found[i], plenty[i]) for i in range(4))


def test_an_answer_held_to_a_grammar_goes_on_in_it_after_a_preemption(engine: Any, little_headroom: None) -> None:
    pytest.importorskip("llguidance")
    grammar = "start: /[ab]{60}/"
    fields: dict[str, Any] = {"stop": (), "answer_tokens": 80, "closing_phrase": "", "answer_grammar": grammar}
    asked = [varied(i, budget=ThinkingBudget(4), **fields) for i in range(6)]
    batch = new_batch(engine, 300)
    found = decoded(batch, engine, asked)
    assert batch.num_preemptions > 2
    plenty = decoded(new_batch(engine, None), engine, asked)
    assert all(same(found[i], plenty[i]) for i in range(6))
    assert all(set(g.answer) <= set("ab") and g.answer_tokens > 40 for g in found.values())


def test_less_memory_than_was_reckoned_preempts_and_one_row_that_it_does_not_hold_is_lost_by_name(
    engine: Any, monkeypatch: pytest.MonkeyPatch, little_headroom: None
) -> None:
    """An allocator with room for 300 tokens, and a batch that knows of no limit."""
    allocate = kv_cache.Slots._allocate

    def allocate_little(self: Any, like: Any, rows: int, positions: int, *more: int) -> Any:
        if rows * positions > 300:
            raise torch.OutOfMemoryError("no memory left")
        return allocate(self, like, rows, positions, *more)

    asked = [varied(i, budget=ThinkingBudget(60, 0, 90), temperature=0.0, stop=(), loop_guard=False) for i in range(3)]
    long = varied(3, budget=ThinkingBudget(400, 0, 400), temperature=0.0, stop=(), loop_guard=False)
    plenty = decoded(new_batch(engine, None), engine, asked)
    monkeypatch.setattr(kv_cache.Slots, "_allocate", allocate_little)
    batch = new_batch(engine, None)
    found = decoded(batch, engine, [*asked, long])
    assert batch.num_preemptions > 0
    assert all(same(found[i], plenty[i]) for i in range(3))
    assert found[3].ending == "failed"
    assert found[3].note.startswith("there is no memory for the keys and values of 3")
    assert 100 < found[3].thinking_tokens < 300


def test_requests_without_a_budget_join_by_what_they_hold_and_not_by_whole_contexts(engine: Any) -> None:
    """Memory for two whole contexts, and 40 requests that may fill one each."""
    plan = engine.plan(Request(question="?", answer_tokens=16))
    assert plan.total_tokens == engine.context_tokens == 512
    batch = replace(engine, memory_bytes=2 * 512 * engine.token_bytes).running_batch()
    for _ in range(40):
        batch.admit(plan)
    batch.step()
    assert batch.num_running == 2 * 512 // (len(plan.prompt_ids) + 128)


def test_a_minimum_of_thinking_is_counted_from_the_start(engine: Any) -> None:
    """It will be needed for certain: a row that joined without it would only be preempted."""
    batch = new_batch(engine, 1000)
    for number in range(5):
        batch.admit(engine.plan(varied(number, budget=ThinkingBudget(300, 290))))
    batch.step()
    assert batch.num_running == 3


def test_the_memory_of_a_container_is_that_of_its_control_group(tmp_path: Path) -> None:
    machine = memory_size(tmp_path)
    assert machine > 10**8
    (tmp_path / "proc/self").mkdir(parents=True)
    cgroup = tmp_path / "proc/self/cgroup"
    job = tmp_path / "sys/fs/cgroup/slurm/job"
    job.mkdir(parents=True)
    (job / "memory.max").write_text("max\n")
    cgroup.write_text("0::/slurm/job\n")
    assert memory_size(tmp_path) == machine
    (job.parent / "memory.max").write_text("3000000\n")
    assert memory_size(tmp_path) == 3_000_000
    old = tmp_path / "sys/fs/cgroup/memory"
    old.mkdir()
    (old / "memory.limit_in_bytes").write_text("2000000\n")
    cgroup.write_text("5:cpu,memory:/docker/not-seen-inside\n1:name=systemd:/x\n")
    assert memory_size(tmp_path) == 2_000_000
