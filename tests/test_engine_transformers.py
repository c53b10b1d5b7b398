"""The transformers engine against the naive loop, and what a batch must not do to its requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from engine_parity import assert_bounds_hold_when_sampling, assert_thinking_ends_when_told
from naive_forcing import Naive, naive_loop

from s1kit import Generation, Request, ThinkingBudget, load_engine
from s1kit.errors import InputError
from s1kit.forcing.request import Prefix
from s1kit.records import Segment

torch = pytest.importorskip("torch")


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
        wait_ends_line=request.wait is None,
        end=tokens.end_ids,
        closing=plan.closing.ids,
        ends_with_lead=lambda i: tokens.decode([i]).endswith("\n"),
        is_blank=lambda ids: not tokens.decode(ids).strip(),
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


def test_no_law_is_broken_over_random_requests_when_sampling(engine: Any) -> None:
    """60 of them; as many as S1KIT_PARITY_REQUESTS says."""
    assert_bounds_hold_when_sampling(engine)


@pytest.mark.slow
def test_greedy_decoding_is_the_naive_loop_over_five_hundred_random_budgets(engine: Any, think_engine: Any) -> None:
    for which in (engine, think_engine):
        requests = [random_request(Random(1000 + i), i) for i in range(250)]
        for generation in which.generate(requests):
            (request,) = [r for r in requests if r.question_id == generation.question_id]
            if any(s.kind == "open" for s in generation.segments):
                continue  # the naive loop does not know of thinking that is opened again
            assert as_naive(generation) == by_naive_loop(which, request), request


def test_a_format_with_a_lead_and_single_token_delimiters_is_the_naive_loop_too(think_engine: Any) -> None:
    requests = [random_request(Random(i), i) for i in range(30)]
    found = {g.question_id: g for g in think_engine.generate(requests)}
    for request in requests:
        if any(s.kind == "open" for s in found[request.question_id].segments):
            continue  # the naive loop does not know of thinking that is opened again
        assert as_naive(found[request.question_id]) == by_naive_loop(think_engine, request), request


def test_a_delimiter_that_must_be_matched_whole_is_taken_back_out_of_the_cache(engine: Any) -> None:
    """The delimiter is two ordinary ids that the model does write; the reference recomputes all at each token."""
    from dataclasses import replace
    from itertools import pairwise

    from s1kit.engines.hf.engine import of_model

    requests = [
        Request(question=f"{i}", budget=ThinkingBudget(60, 0, 3), answer_tokens=16, loop_guard=False) for i in range(40)
    ]
    written = {
        g.question_id: [s.token_ids for s in g.segments if s.kind == "thinking"] for g in engine.generate(requests)
    }
    request, pair = next(
        (r, p) for r in requests for ids in written[r.question_id] for p in pairwise(ids[4:]) if is_spelled(engine, p)
    )
    end = engine.tokens.decode(pair)
    fmt = replace(engine.format, end=end, lead="")
    spelled = of_model(engine.model, engine.tokenizer, fmt)
    assert spelled.tokens.trigger_id is None
    assert spelled.tokens.match_ids == pair
    (found,) = spelled.generate([request])
    assert found.num_waits > 0
    plan = spelled.plan(request)
    thinking: list[int] = []
    waits, matched = 0, list(pair)
    start = 0
    while len(thinking) < 60:
        with torch.inference_mode():
            token = int(engine.model(torch.tensor([[*plan.prompt_ids, *thinking]])).logits[0, -1].argmax())
        is_end = [*thinking[start:], token][-2:] == matched
        if not is_end and token not in spelled.tokens.eos_ids:
            thinking.append(token)
            continue
        if is_end:
            thinking.pop()
        if waits < 3 and len(thinking) + len(plan.waits[0].ids) < 60:
            thinking.extend(plan.waits[0].ids)
            waits, start = waits + 1, len(thinking)
            continue
        break
    assert as_naive(found).thinking == thinking
    assert found.num_waits == waits


def is_spelled(engine: Any, pair: tuple[int, int]) -> bool:
    """Whether the text of two ids is tokenised into just them, and is no whitespace."""
    text = engine.tokenizer.decode(list(pair))
    ordinary = not set(pair) & set(engine.tokens.answer_stop_ids)
    return (
        ordinary
        and "<" not in text
        and text == text.strip()
        and engine.tokenizer.encode(text, add_special_tokens=False) == list(pair)
    )


def test_what_a_request_gets_does_not_depend_on_its_neighbours(engine: Any) -> None:
    requests = [random_request(Random(i), i, temperature=random_temperature(i), seed=i) for i in range(24)]
    together = {g.question_id: g for g in engine.generate(requests)}
    for request in requests[::3]:
        (alone,) = engine.generate([request])
        assert alone == together[request.question_id]


def random_temperature(i: int) -> float:
    return (0.0, 0.7, 1.5)[i % 3]


def test_a_small_batch_and_a_large_one_give_the_same_and_requests_join_as_others_leave(engine: Any) -> None:
    requests = [random_request(Random(i), i) for i in range(40)]
    small = load_small(engine, 3)
    assert {g.question_id: g for g in small.generate(requests)} == {g.question_id: g for g in engine.generate(requests)}


def varied_request(number: int) -> Request:
    """Greedy and sampled, truncated or not, streamed text that ends an answer, long waits, loops that are broken."""
    random = Random(number)
    return random_request(
        random,
        number % 11,
        temperature=random.choice([0.0, 0.7, 1.3]),
        top_p=random.choice([1.0, 0.9]),
        top_k=random.choice([0, 20]),
        stop=random.choice([(), ("a",)]),
        seed=number,
        repeat=number,
    )


def decoded(batch: Any, engine: Any, requests: Sequence[Request]) -> dict[int, Generation]:
    tickets = {batch.admit(engine.plan(r), is_streamed=i % 5 == 0): i for i, r in enumerate(requests)}
    found = {}
    while not batch.is_idle:
        found.update({tickets[e.ticket]: e.generation for e in batch.step() if e.generation is not None})
    return found


@pytest.mark.parametrize("which", ["engine", "think_engine"])
def test_a_step_sent_ahead_of_what_drivers_decide_changes_nothing(which: str, request: pytest.FixtureRequest) -> None:
    """Rows take over the places of others, tokens are taken back while their successors are computed."""
    from s1kit.engines.hf.batch import HfBatch

    engine = request.getfixturevalue(which)
    requests = [varied_request(i) for i in range(80)]
    ahead, behind = (
        decoded(
            HfBatch(engine.model, engine.vocabulary_size, max_batch=7, tokens=engine.tokens, runs_ahead=runs_ahead),
            engine,
            requests,
        )
        for runs_ahead in (True, False)
    )
    assert all(without_logprob(ahead[i]) == without_logprob(behind[i]) for i in range(80))
    assert [g.mean_logprob for g in ahead.values()] == [pytest.approx(behind[i].mean_logprob, abs=1e-3) for i in ahead]
    assert sum(g.num_waits for g in ahead.values()) > 20
    for i in range(0, 80, 7):
        (alone,) = engine.generate([requests[i]])
        assert without_logprob(alone) == without_logprob(ahead[i])


def test_a_small_model_takes_one_thread_while_it_steps_and_leaves_others_theirs(engine: Any) -> None:
    """Training and vLLM's attention count on the number of threads that they began with."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    seen = set()
    hook = engine.model.register_forward_pre_hook(lambda *_: seen.add(torch.get_num_threads()))
    try:
        list(engine.generate([varied_request(1)]))
        assert (seen, torch.get_num_threads()) == ({1}, 3)
    finally:
        hook.remove()
        torch.set_num_threads(before)


def without_logprob(generation: Generation) -> Generation:
    """Its last bits are those of the batch's matrix products; of streamed requests it is not kept."""
    return generation.model_copy(update={"mean_logprob": None})


def test_thinking_ends_where_it_is_told_to_with_a_step_ahead(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from functools import partial

    from s1kit.engines.hf import engine as hf

    monkeypatch.setattr(hf, "HfBatch", partial(hf.HfBatch, runs_ahead=True))
    assert_thinking_ends_when_told(engine)


def test_random_numbers_last_through_long_thinking_and_are_those_of_the_seed(engine: Any) -> None:
    """More tokens than the device holds random numbers for; each is drawn with the seed's next number."""
    budget = ThinkingBudget(400, 0, 400)
    fields: dict[str, Any] = {"temperature": 1.0, "seed": 5, "answer_tokens": 16, "loop_guard": False, "wait": "x"}
    request = Request(question="?", budget=budget, **fields)
    plan, uniform = engine.plan(request), Random(5)

    def sample(ids: Sequence[int]) -> int:
        with torch.inference_mode():
            logits = engine.model(torch.tensor([list(ids)])).logits[0, -1, : engine.vocabulary_size]
        below = logits.softmax(-1).double().cumsum(-1)
        return int(torch.searchsorted(below, uniform.random() * below[-1], right=True))

    assert plan.budget.max_tokens == 400
    (found,) = engine.generate([request])
    assert sum(s.num_tokens for s in found.segments if s.origin == "sampled") + found.num_waits > 300
    assert as_naive(found) == by_naive_loop(engine, request, sample)


def load_small(engine: Any, max_batch: int) -> Any:
    from s1kit.engines.hf.engine import of_model

    return of_model(engine.model, engine.tokenizer, engine.format, max_batch=max_batch)


def test_the_same_seed_draws_the_same_and_another_seed_another(engine: Any) -> None:
    def draw(seed: int) -> Generation:
        request = Request(question="?", budget=ThinkingBudget(30), temperature=1.0, seed=seed, answer_tokens=16)
        (generation,) = engine.generate([request])
        return generation

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_top_k_one_and_a_tiny_top_p_are_greedy(engine: Any) -> None:
    def draw(**fields: Any) -> Generation:
        (g,) = engine.generate([Request(question="?", budget=ThinkingBudget(30), answer_tokens=16, **fields)])
        return without_logprob(g)

    greedy = draw()
    assert draw(temperature=2.0, top_k=1) == greedy
    assert draw(temperature=2.0, top_p=1e-9) == greedy
    assert draw(temperature=1e-6) == greedy


def test_after_a_replaced_stop_the_next_token_is_distributed_as_in_the_naive_loop(engine: Any) -> None:
    """Chi-squared over the token that follows a forced wait, at temperature 1, against the model's probabilities."""
    num_draws, question = 3000, "Which?"
    requests = [
        Request(
            question=question,
            budget=ThinkingBudget(3, 0, 1),
            temperature=1.0,
            seed=s,
            answer_tokens=10,
            loop_guard=False,
        )
        for s in range(num_draws)
    ]
    plan = engine.plan(requests[0])
    # All draws whose very first token was a stop: the wait comes first, then one sampled token.
    observed: dict[int, int] = {}
    num_stopped = 0
    for generation in engine.generate(requests):
        if generation.segments[0].kind == "wait":
            num_stopped += 1
            first = generation.segments[1]
            token = first.token_ids[0] if first.kind == "thinking" else -1
            observed[token] = observed.get(token, 0) + 1
    with torch.inference_mode():
        before = engine.model(torch.tensor([plan.prompt_ids])).logits[0, -1].softmax(-1)
        after = engine.model(torch.tensor([[*plan.prompt_ids, *plan.waits[0].ids]])).logits[0, -1].softmax(-1)
    stop_rate = float(sum(before[i] for i in engine.tokens.thinking_stop_ids))
    expected_stops = num_draws * stop_rate
    assert abs(num_stopped - expected_stops) < 5 * (expected_stops * (1 - stop_rate)) ** 0.5 + 1
    assert num_stopped > 200
    expected = {int(i): float(p) for i, p in enumerate(after) if i not in engine.tokens.thinking_stop_ids}
    expected[-1] = 1 - sum(expected.values())
    assert chi_squared_z(observed, expected, num_stopped) < 4.5


def chi_squared_z(observed: dict[int, int], expected: dict[int, float], total: int) -> float:
    """How many standard deviations Pearson's statistic is above its mean; rare cells are pooled."""
    cells = [(observed.get(k, 0), p * total) for k, p in expected.items() if p * total >= 5]
    rest_observed = total - sum(o for o, _ in cells)
    rest_expected = total - sum(e for _, e in cells)
    if rest_expected >= 5:
        cells.append((rest_observed, rest_expected))
    statistic = sum((o - e) ** 2 / e for o, e in cells)
    freedom = len(cells) - 1
    assert freedom >= 3
    return (statistic - freedom) / (2 * freedom) ** 0.5


def test_segments_are_streamed_as_they_come_and_add_up_to_the_record(engine: Any) -> None:
    shown: dict[int, list[Segment]] = {}
    requests = [random_request(Random(i), i) for i in range(6)]
    found = {}
    for g in engine.generate(requests, lambda i, s: shown.setdefault(i, []).append(s)):
        found[g.question_id] = g
    for i, request in enumerate(requests):
        record = found[request.question_id]
        assert [t for s in shown[i] for t in s.token_ids] == [t for s in record.segments for t in s.token_ids]
        assert [s for s in shown[i] if s.origin == "forced"] == [s for s in record.segments if s.origin == "forced"]


def test_answers_from_many_lengths_of_one_thinking_equal_decoding_each_budget(engine: Any) -> None:
    whole = Request(question="How?", budget=ThinkingBudget(60, 0, 2), answer_tokens=16, loop_guard=False)
    (generation,) = engine.generate([whole])
    thinking = tuple(s for s in generation.segments if s.kind in ("thinking", "wait"))
    lengths = [n for n in range(0, generation.thinking_tokens, 3) if not inside_wait(thinking, n)]
    given = [
        Request(question="How?", budget=whole.budget, answer_tokens=16, repeat=n, prefix=Prefix(thinking, "cut_off", n))
        for n in lengths
    ]
    for answered in engine.generate(given):
        direct = Request(
            question="How?", budget=ThinkingBudget(answered.repeat, 0, 2), answer_tokens=16, loop_guard=False
        )
        (expected,) = engine.generate([direct])
        if expected.was_cut_off:
            assert (answered.thinking, answered.answer) == (expected.thinking, expected.answer)


def inside_wait(segments: tuple[Segment, ...], length: int) -> bool:
    """Whether a budget of that length would not have had room for a wait that the larger one had."""
    total = 0
    for s in segments:
        if s.kind == "wait" and total < length <= total + s.num_tokens:
            return True
        total += s.num_tokens
    return False


def test_a_request_that_cannot_be_honoured_is_refused_before_anything_is_decoded(engine: Any) -> None:
    good = Request(question="a", budget=ThinkingBudget(4))
    bad = Request(question="b", budget=ThinkingBudget(9999, min_tokens=9999))
    with pytest.raises(InputError, match="min_tokens is 9999"):
        next(iter(engine.generate([good, bad])))


def test_an_engine_that_dies_keeps_what_was_done_and_says_why_of_the_rest(engine: Any, monkeypatch: Any) -> None:
    short, long = ThinkingBudget(0), ThinkingBudget(60, 40)
    requests = [Request(question=str(i), budget=long if i % 2 else short, answer_tokens=6) for i in range(6)]
    forward, calls = type(engine.model).forward, []

    def dies_later(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) > 12:
            raise torch.OutOfMemoryError("no memory left")
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(engine.model), "forward", dies_later)
    found = list(engine.generate(requests))
    assert len(found) == 6
    failed = [g for g in found if g.ending == "failed"]
    assert len(failed) == 3
    assert all(g.note == "OutOfMemoryError: no memory left" and g.thinking_tokens > 0 for g in failed)


def test_a_cancelled_request_leaves_the_others_as_they_were(engine: Any) -> None:
    requests = [
        Request(question=str(i), budget=ThinkingBudget(20), answer_tokens=8, loop_guard=False) for i in range(5)
    ]
    expected = {g.question_id: g for g in engine.generate(requests)}
    batch = engine.running_batch()
    tickets = [batch.admit(engine.plan(r)) for r in requests[:4]]
    for _ in range(2):
        assert batch.step() == []
    batch.cancel(tickets[1])
    late = batch.admit(engine.plan(requests[4]))
    found = {}
    while not batch.is_idle:
        found.update({e.ticket: e.generation for e in batch.step()})
    assert set(found) == {tickets[0], tickets[2], tickets[3], late}
    for ticket, generation in found.items():
        request = requests[4] if ticket == late else requests[tickets.index(ticket)]
        assert generation == expected[request.question_id]


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [
        ("hf:/no/such/folder", "no folder '/no/such/folder'"),
        ("chat:openai/gpt-5", "a remote chat model takes no budget"),
        ("gguf:x", "no engine knows the model 'gguf:x'.*Known: tiny, "),
        ("scripted:/no/such.json", "not a script"),
    ],
)
def test_a_model_reference_that_means_nothing_is_refused(reference: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        load_engine(reference)


def test_a_folder_without_a_model_or_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no config.json"):
        load_engine(f"hf:{tmp_path}")
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="the checkpoint has no tokenizer"):
        load_engine(f"hf:{tmp_path}")


def test_a_request_that_alone_is_above_the_memory_runs_alone(engine: Any) -> None:
    requests = [Request(question=str(i), budget=ThinkingBudget(9), answer_tokens=16) for i in range(3)]
    alone = list(replace(engine, memory_bytes=1).generate(requests))
    assert {g.question_id: g for g in alone} == {g.question_id: g for g in engine.generate(requests)}


def test_a_prefill_of_many_lengths_makes_logits_for_each_rows_end_alone(engine: Any) -> None:
    seen = []
    head = engine.model.get_output_embeddings()
    hook = head.register_forward_hook(lambda module, given, out: seen.append(tuple(out.shape[:2])))
    try:
        batch = engine.running_batch()
        for i in range(6):
            batch.admit(engine.plan(Request(question="a" * (1 + 7 * i), budget=ThinkingBudget(9), answer_tokens=16)))
        batch.step()
    finally:
        hook.remove()
    assert seen[0] == (6, 1)


def test_an_interrupt_in_the_middle_of_a_prefill_comes_out_as_it_is(engine: Any, monkeypatch: Any) -> None:
    def interrupted(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(engine.model), "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(engine.generate([Request(question=str(i), budget=ThinkingBudget(9), answer_tokens=16) for i in range(3)]))


def test_thinking_ends_at_the_token_where_it_is_told_to(engine: Any, think_engine: Any) -> None:
    assert_thinking_ends_when_told(engine)
    assert_thinking_ends_when_told(think_engine)


def test_sampled_generations_say_the_mean_log_probability_of_what_was_sampled(engine: Any) -> None:
    """Against one forward pass over the whole context; the forced end of thinking and its phrase do not count."""
    asked = [
        Request(f"Q{i}?", ThinkingBudget(2), answer_tokens=5, temperature=1.5, top_k=40, seed=i, repeat=i)
        for i in range(60)
    ]
    checked = 0
    found = {g.repeat: g for g in engine.generate(asked)}  # they come as they finish
    for request in asked:
        generation = found[request.repeat]
        if generation.ending != "cut_off" or generation.answer_finish != "length":
            continue  # a sampled stop is no token of a segment
        prompt = list(engine.plan(request).prompt_ids)
        ids = prompt + [i for s in generation.segments for i in s.token_ids]
        is_sampled = [s.origin == "sampled" for s in generation.segments for _ in s.token_ids]
        with torch.inference_mode():
            logits = engine.model(torch.tensor([ids])).logits[0, :, : engine.vocabulary_size].float()
        logprobs = logits.log_softmax(-1)
        places = [len(prompt) + n for n, sampled in enumerate(is_sampled) if sampled]
        mean = sum(float(logprobs[at - 1, ids[at]]) for at in places) / len(places)
        assert generation.mean_logprob == pytest.approx(mean, abs=1e-3)
        checked += 1
    assert checked >= 3
    (greedy,) = engine.generate([Request("Q?", ThinkingBudget(6), answer_tokens=5)])
    assert greedy.mean_logprob is None
