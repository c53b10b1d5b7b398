"""The vLLM plugin driven by hand through both of vLLM's processor interfaces, with vLLM's own types where it is there.

The driver stands in for vLLM's runner: it keeps the batch, preempts and moves requests, and samples greedily from a
real model's logits after the plugin has steered them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from enum import Enum, auto
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from s1kit import Request, ThinkingBudget
from s1kit.errors import InputError

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

try:
    from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcRequestState
except ImportError:
    BatchUpdate = LogitsContext = LogitsProcRequestState = SimpleNamespace

    class MoveDirectionality(Enum):  # type: ignore[no-redef]
        UNIDIRECTIONAL = auto()
        SWAP = auto()


from s1kit.engines.vllm.configuration import NAME  # noqa: E402
from s1kit.engines.vllm.fields import read_fields  # noqa: E402
from s1kit.engines.vllm.plugin import BudgetForcing  # noqa: E402

CONTEXT = 512


class Config:
    """Of vLLM, as far as the plugin looks."""

    def __init__(self, folder: Path, named: bool = True, **fields: Any) -> None:
        names = [NAME] if named else None
        self.model_config = SimpleNamespace(
            model=str(folder), tokenizer=str(folder), logits_processors=names, max_model_len=CONTEXT, hf_config=None
        )
        self.scheduler_config = SimpleNamespace(async_scheduling=fields.pop("is_async", False))
        self.speculative_config = fields.pop("speculative", None)
        self.use_v2_model_runner = fields.pop("is_v2", False)


def asked(number: int) -> dict[str, Any]:
    random = Random(number)
    most = random.choice([0, 1, 2, random.randint(4, 30)])
    return {
        "max_thinking_tokens": most,
        "min_thinking_tokens": random.randint(1, most - 3) if most > 6 and number % 3 == 0 else 0,
        "num_waits": random.randint(0, 4),
        "wait": random.choice(["Wait", "x", ["Wait", "x"]]),
        "answer_tokens": random.randint(16, 24),
        "loop_guard": 0,
    }


def params_of(arguments: dict[str, Any] | None, max_tokens: int = 120) -> Any:
    return SimpleNamespace(extra_args=arguments, max_tokens=max_tokens, temperature=0.0, seed=None)


def expected(engine: Any, number: int) -> list[int]:
    """What the transformers engine decodes of the same request."""
    given = asked(number)
    wait = given["wait"]
    request = Request(
        question=f"Question {number}?",
        budget=ThinkingBudget(given["max_thinking_tokens"], given["min_thinking_tokens"], given["num_waits"]),
        answer_tokens=given["answer_tokens"],
        wait=tuple(wait) if isinstance(wait, list) else wait,
        loop_guard=False,
    )
    (found,) = engine.generate([request])
    return [i for s in found.segments for i in s.token_ids]


class Running:
    """One request in the driver's hands."""

    def __init__(self, engine: Any, number: int, arguments: dict[str, Any] | None) -> None:
        self.number = number
        self.prompt = engine.format.prompt_ids(engine.tokenizer, f"Question {number}?")
        self.params = params_of(arguments)
        self.output: list[int] = []

    def logits(self, engine: Any) -> Any:
        with torch.inference_mode():
            return engine.model(torch.tensor([[*self.prompt, *self.output]])).logits[0, -1].float()


class RunnerV1:
    """A batch of vLLM's V1 runner: requests by position, changes told before each step."""

    def __init__(self, config: Config) -> None:
        self.plugin = BudgetForcing(config, torch.device("cpu"), False)
        self.batch: list[Running] = []

    def change(self, removed: list[int], added: list[Running], moved: list[tuple[int, int]] = ()) -> None:  # type: ignore[assignment]
        news = []
        for index, request in enumerate(added, len(self.batch)):
            news.append((index, request.params, request.prompt, request.output))
        self.batch += added
        for a, b in moved:
            self.batch[a], self.batch[b] = self.batch[b], self.batch[a]
        swaps = [(a, b, MoveDirectionality.SWAP) for a, b in moved]
        self.plugin.update_state(BatchUpdate(batch_size=len(self.batch), removed=removed, added=news, moved=swaps))

    def step(self, engine: Any) -> None:
        logits = self.plugin.apply(torch.stack([r.logits(engine) for r in self.batch]))
        for request, token in zip(self.batch, logits.argmax(-1).tolist(), strict=True):
            request.output.append(token)

    def leave(self, index: int) -> Running:
        """A request leaves; the last takes its place, as vLLM condenses its batch."""
        gone, last = self.batch[index], len(self.batch) - 1
        self.batch[index] = self.batch[last]
        self.batch.pop()
        moved = [(last, index, MoveDirectionality.UNIDIRECTIONAL)] if index != last else []
        update = BatchUpdate(batch_size=len(self.batch), removed=[index], added=[], moved=moved)
        self.plugin.update_state(update)
        return gone


class RunnerV2:
    """A batch of vLLM's V2 runner: requests in slots that are used again, tokens in tensors, rows in any order."""

    def __init__(self, config: Config, slots: int = 16) -> None:
        config.use_v2_model_runner = True
        self.states = LogitsProcRequestState(
            device=torch.device("cpu"),
            max_num_reqs=slots,
            vocab_size=0,
            all_token_ids=SimpleNamespace(gpu=torch.zeros((slots, CONTEXT), dtype=torch.int32)),
            prompt_len=SimpleNamespace(np=np.zeros(slots, dtype=np.int32)),
            prefill_len=SimpleNamespace(np=np.zeros(slots, dtype=np.int32)),
            total_len=SimpleNamespace(gpu=torch.zeros(slots, dtype=torch.int32)),
        )
        self.plugin = BudgetForcing(config, self.states)
        self.slots: dict[int, Running] = {}

    def add(self, request: Running) -> bool:
        slot = next(n for n in range(self.states.max_num_reqs) if n not in self.slots)
        self.slots[slot] = request
        known = [*request.prompt, *request.output]
        self.states.prompt_len.np[slot], self.states.prefill_len.np[slot] = len(request.prompt), len(known)
        self.states.total_len.gpu[slot] = len(known)
        self.states.all_token_ids.gpu[slot, : len(known)] = torch.tensor(known, dtype=torch.int32)
        return bool(self.plugin.add_request(slot, request.params))

    def step(self, engine: Any, random: Random, is_piece_of_prompt: bool = False) -> None:
        self.plugin.apply_staged_writes()
        order = list(self.slots)
        random.shuffle(order)
        mapping = torch.tensor(order)
        context = LogitsContext(
            expanded_idx_mapping=mapping,
            idx_mapping=mapping,
            idx_mapping_np=mapping.numpy(),
            expanded_local_pos=torch.zeros(len(order)),
            input_ids=mapping,
            pos=mapping,
            seq_lens_upper_bound_np=mapping.numpy(),
        )
        logits = self.plugin.apply(torch.stack([self.slots[s].logits(engine) for s in order]), context)
        if is_piece_of_prompt:
            return  # logits are computed for it, and no token comes of them
        for slot, token in zip(order, logits.argmax(-1).tolist(), strict=True):
            self.slots[slot].output.append(token)
            total = int(self.states.total_len.gpu[slot])
            self.states.all_token_ids.gpu[slot, total] = token
            self.states.total_len.gpu[slot] = total + 1


def finished(requests: list[Running], eos: int) -> Iterator[int]:
    """Positions of those that have ended, the last first."""
    for index in range(len(requests) - 1, -1, -1):
        if requests[index].output and requests[index].output[-1] == eos:
            yield index


def test_v1_follows_a_batch_whose_requests_come_go_swap_and_are_preempted(engine: Any) -> None:
    runner, random, eos = (
        RunnerV1(Config(Path(engine.tokenizer.name_or_path))),
        Random(0),
        engine.tokenizer.eos_token_id,
    )
    waiting = [Running(engine, n, asked(n)) for n in range(24)]
    done: list[Running] = []
    num_preempted = 0
    while waiting or runner.batch:
        if waiting and len(runner.batch) < 6:
            runner.change([], [waiting.pop(0)])
        if len(runner.batch) > 2 and random.random() < 0.2:
            a, b = random.sample(range(len(runner.batch)), 2)
            runner.change([], [], [(a, b)])
        if runner.batch and random.random() < 0.15:
            gone = runner.leave(random.randrange(len(runner.batch)))
            num_preempted += bool(gone.output)
            waiting.append(gone)
        if runner.batch:
            runner.step(engine)
        for index in list(finished(runner.batch, eos)):
            done.append(runner.leave(index))
    assert num_preempted > 3
    for request in done:
        ids = expected(engine, request.number)
        assert request.output[: len(ids)] == ids, request.number


def test_v2_follows_slots_that_are_used_again_rows_in_any_order_and_preemption(engine: Any) -> None:
    runner, random, eos = (
        RunnerV2(Config(Path(engine.tokenizer.name_or_path))),
        Random(0),
        engine.tokenizer.eos_token_id,
    )
    waiting = [Running(engine, n, asked(n)) for n in range(24)]
    done: list[Running] = []
    num_preempted = 0
    while waiting or runner.slots:
        while waiting and len(runner.slots) < 6:
            assert runner.add(waiting.pop(0))
        runner.step(engine, random, is_piece_of_prompt=random.random() < 0.2)
        for slot, request in list(runner.slots.items()):
            if request.output and request.output[-1] == eos:
                done.append(runner.slots.pop(slot))
            elif request.output and random.random() < 0.02:
                num_preempted += 1
                waiting.append(runner.slots.pop(slot))
    assert num_preempted > 3
    for request in done:
        ids = expected(engine, request.number)
        assert request.output[: len(ids)] == ids, request.number


def test_a_request_that_asks_for_nothing_is_left_alone(engine: Any) -> None:
    folder = Path(engine.tokenizer.name_or_path)
    v2 = RunnerV2(Config(folder))
    assert not v2.add(Running(engine, 0, None))
    assert not v2.add(Running(engine, 1, {"another_plugins": 1}))
    v1 = RunnerV1(Config(folder))
    v1.change([], [Running(engine, 0, None), Running(engine, 1, {})])
    logits = torch.randn(2, 40)
    assert torch.equal(v1.plugin.apply(logits.clone()), logits)


def test_of_two_instances_for_one_configuration_only_the_first_acts(engine: Any) -> None:
    """vLLM makes one for the entry point and one for the flag."""
    config = Config(Path(engine.tokenizer.name_or_path))
    first, second = (BudgetForcing(config, torch.device("cpu"), False) for _ in range(2))
    request = Running(engine, 3, asked(3) | {"max_thinking_tokens": 0, "min_thinking_tokens": 0})
    update = BatchUpdate(
        batch_size=1, removed=[], added=[(0, request.params, request.prompt, request.output)], moved=[]
    )
    for plugin in (first, second):
        plugin.update_state(update)
    logits = torch.randn(1, engine.vocabulary_size)
    assert torch.equal(second.apply(logits.clone()), logits)
    assert torch.isinf(first.apply(logits.clone())).sum() == logits.numel() - 1
    # Another configuration, though it may lie where a former one lay in memory, is served by its own first instance.
    assert not BudgetForcing(Config(Path(engine.tokenizer.name_or_path)), torch.device("cpu"), False)._is_second


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"speculative": object()}, "not exact under speculative decoding"),
        ({"speculative": object(), "is_v2": True}, "not exact under speculative decoding"),
    ],
)
def test_named_it_refuses_to_start_where_it_cannot_be_exact(engine: Any, fields: Any, complaint: str) -> None:
    config = Config(Path(engine.tokenizer.name_or_path), **fields)
    with pytest.raises(InputError, match=complaint):
        BudgetForcing(config, torch.device("cpu"), False)


@pytest.mark.parametrize(
    "fields", [{"speculative": object(), "is_v2": True}, {"is_async": True}, {"folder": "/no/such/model"}]
)
def test_merely_installed_it_starts_anywhere_and_refuses_only_who_asks(engine: Any, fields: dict[str, Any]) -> None:
    folder = Path(fields.pop("folder", engine.tokenizer.name_or_path))
    runner = RunnerV1(Config(folder, named=False, **fields))
    stranger, asking = Running(engine, 0, None), Running(engine, 1, {"max_thinking_tokens": 5, "answer_tokens": 16})
    runner.change([], [stranger, asking])
    logits = torch.randn(2, engine.vocabulary_size)
    steered = runner.plugin.apply(logits.clone())
    assert torch.equal(steered[0], logits[0])
    assert torch.isinf(steered[1]).sum() == engine.vocabulary_size - 1


def test_what_is_found_out_too_late_for_an_http_error_is_said_in_the_completion(engine: Any) -> None:
    runner = RunnerV1(Config(Path(engine.tokenizer.name_or_path)))
    late = Running(engine, 0, {"min_thinking_tokens": 300, "answer_tokens": 16})
    late.prompt = late.prompt * 4
    runner.change([], [late])
    eos = engine.tokenizer.eos_token_id
    while eos not in late.output:
        runner.step(engine)
    said = engine.tokenizer.decode(late.output)
    assert said.startswith("s1kit refused this request: min_thinking_tokens is 300")
    assert "vllm_xargs.min_thinking_tokens" in said


class Validator:
    """In the place of vLLM's own, which holds the configuration and calls with the parameters alone."""

    def __init__(self, config: Config) -> None:
        self.vllm_config = config

    def validate(self, arguments: dict[str, Any], max_tokens: int = 200) -> None:
        BudgetForcing.validate_params(params_of(arguments, max_tokens))


@pytest.mark.parametrize(
    ("arguments", "field", "complaint"),
    [
        ({"max_thinking_tokens": "many"}, "max_thinking_tokens", "not a whole number"),
        ({"max_thinking_tokens": 2.5}, "max_thinking_tokens", "not a whole number"),
        ({"max_thinking_tokens": -2}, "max_thinking_tokens", "max_thinking_tokens is -2"),
        ({"max_thinking_tokens": 5, "min_thinking_tokens": 9}, "min_thinking_tokens", "above max_thinking_tokens"),
        ({"max_thinking_tokens": 5, "num_waits": -1}, "num_waits", "below 0"),
        ({"max_thinking_tokens": 5, "answer_tokens": 0}, "answer_tokens", "below 1"),
        ({"num_waits": 1, "wait": ""}, "wait", "wait is ''"),
        ({"num_waits": 1, "wait": []}, "wait", "wait is"),
        ({"num_waits": 1, "wait": ["x", 3]}, "wait", "wait is"),
        ({"wait": "x"}, "wait", "without a budget"),
        ({"num_waits": 1, "wait": "<|im_start|>"}, "wait", "contains a delimiter"),
        ({"max_thinking_tokens": 5, "closing_phrase": 7}, "closing_phrase", "not a text"),
        ({"max_thinking_tokens": 5, "loop_guard": "no"}, "loop_guard", "neither true nor false"),
        ({"max_thinkng_tokens": 5}, "max_thinkng_tokens", "unknown field"),
        ({"max_thinking": 5}, "max_thinking", "unknown field"),
        ({"num_waits": 1, "thinking_waits": 5}, "thinking_waits", "unknown field"),
        ({"thinking_token_budget": 5}, "thinking_token_budget", "not read here"),
        ({"reasoning_effort": "high"}, "reasoning_effort", "not read here"),
        ({"budget": 5, "num_waits": 1}, "budget", "not read here"),
        (
            {"max_thinking_tokens": 190, "min_thinking_tokens": 190, "answer_tokens": 16},
            "min_thinking_tokens",
            "there is room for",
        ),
        ({"max_thinking_tokens": 5, "answer_tokens": 300}, "answer_tokens", "there is room for"),
        ({"s1kit_request": 5}, "s1kit_request", "only the engine vllm:"),
        ({"s1kit_request": "a"}, "s1kit_request", "only the engine vllm:"),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused_by_name(
    engine: Any, arguments: dict[str, Any], field: str, complaint: str
) -> None:
    validator = Validator(Config(Path(engine.tokenizer.name_or_path)))
    with pytest.raises(InputError, match=complaint) as refused:
        validator.validate(arguments)
    assert refused.value.where == f"vllm_xargs.{field}"
    assert refused.value.fix


@pytest.mark.parametrize(
    ("name", "value"),
    [("stop", ["\n"]), ("stop_token_ids", [5]), ("min_tokens", 80), ("structured_outputs", SimpleNamespace())],
)
def test_what_vllm_would_apply_to_thinking_too_is_refused_with_a_budget_and_no_other_request(
    engine: Any, name: str, value: Any
) -> None:
    for arguments, is_refused in (({"max_thinking_tokens": 5, "answer_tokens": 32}, True), ({"another": 1}, False)):
        params = params_of(arguments)
        setattr(params, name, value)
        with pytest.raises(InputError, match=name) if is_refused else nullcontext():
            BudgetForcing.validate_params(params)


def test_where_vllm_cannot_be_followed_who_asks_is_refused_before_it_is_queued(engine: Any) -> None:
    config = Config(Path(engine.tokenizer.name_or_path), named=False, speculative=object())
    with pytest.raises(InputError, match="V1 runner leaves its processors out"):
        Validator(config).validate({"num_waits": 1})
    Validator(config).validate({"another_plugins": 1})


def test_other_plugins_arguments_and_good_ones_pass(engine: Any) -> None:
    validator = Validator(Config(Path(engine.tokenizer.name_or_path)))
    for arguments in (
        {},
        {"max_wait_ms": 3, "kv_transfer": "x"},
        {"thinking_style": "deep"},
        {"max_thinking_tokens": 100, "num_waits": 2, "wait": ["Wait", "Hm"], "answer_tokens": 32, "loop_guard": 1},
        {"max_thinking_tokens": -1, "min_thinking_tokens": 8, "answer_tokens": 32},
        {"max_thinking_tokens": 0, "answer_tokens": 32},
    ):
        validator.validate(arguments)


@pytest.mark.parametrize(
    ("arguments", "total", "thinking"),
    [
        ({"max_thinking_tokens": 5}, 100, 5),
        ({"max_thinking_tokens": 5000}, 100, range(60, 100)),
        ({"num_waits": 1}, 100, range(50, 80)),
        ({"min_thinking_tokens": 70}, 100, range(70, 90)),
    ],
)
def test_an_answer_of_no_stated_size_gets_what_thinking_leaves(
    engine: Any, arguments: dict[str, Any], total: int, thinking: Any
) -> None:
    asked = read_fields(arguments)
    assert asked is not None
    plan = asked.plan(engine.tokens, CONTEXT, engine.tokens.open_ids, total)
    assert plan.completion_tokens == total
    assert plan.budget.max_tokens in (thinking if isinstance(thinking, range) else [thinking])


def test_a_total_without_room_for_an_answer_and_a_minimum_above_it_are_said_in_the_clients_names(engine: Any) -> None:
    validator = Validator(Config(Path(engine.tokenizer.name_or_path)))
    with pytest.raises(InputError, match=r"^max_tokens is 3, which leaves no room") as refused:
        validator.validate({"max_thinking_tokens": 5}, max_tokens=3)
    assert refused.value.where == "max_tokens"
    with pytest.raises(InputError, match=r"^min_thinking_tokens is 300") as refused:
        validator.validate({"min_thinking_tokens": 300})


def test_unlimited_thinking_leaves_room_for_the_answer_within_max_tokens(engine: Any) -> None:
    runner = RunnerV1(Config(Path(engine.tokenizer.name_or_path)))
    request = Running(engine, 2, {"num_waits": 50, "answer_tokens": 20, "loop_guard": 0})
    request.params = params_of(request.params.extra_args, max_tokens=90)
    runner.change([], [request])
    for _ in range(90):
        runner.step(engine)
    member = runner.plugin._batch[0]
    member.catch_up()
    plan = member.row.plan
    delimiter = len(plan.tokens.lead_ids) + len(plan.tokens.end_ids)
    assert plan.budget.max_tokens + delimiter + 20 == 90
    assert member.row.generation().answer_finish != "none"
