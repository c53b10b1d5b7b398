"""vLLM itself: offline with the plugin inside, and its server behind `completions:` and with the plugin."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import run
from typing import Any

import httpx
import pytest
from engine_parity import (
    SMALL_CACHE,
    assert_bounds_hold_when_sampling,
    assert_draws_are_the_requests_own,
    assert_same_transcripts,
    assert_same_transcripts_under_preemption,
    assert_streams_add_up,
    assert_thinking_ends_when_told,
    free_port,
    server,
)
from fixtures_models import write_random_checkpoint

from s1kit import Request, ThinkingBudget, load_engine

pytestmark = pytest.mark.engines
pytest.importorskip("vllm", reason="run make engines, then make test-engines")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # vLLM's attention wants heads of 32 or more.
    return write_random_checkpoint(tmp_path_factory.mktemp("tiny"), head_width=32)


@pytest.fixture(scope="module")
def url(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    plugin = "s1kit.engines.vllm_plugin:BudgetForcing"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--dtype", "float32"]
    command += ["--enforce-eager", "--port", str(port), "--host", "127.0.0.1", "--logits-processors", plugin]
    command += ["--reasoning-parser-plugin", "s1kit.engines.vllm.reasoning", "--reasoning-parser", "s1kit"]
    log = tmp_path_factory.mktemp("server") / "log"
    with server(command, f"http://127.0.0.1:{port}/health", log):
        yield f"http://127.0.0.1:{port}/v1"


def test_offline_transcripts_are_those_of_transformers(folder: Path) -> None:
    engine: Any = load_engine(f"vllm:{folder}", enforce_eager=True, dtype="float32", max_num_seqs=64)
    assert_same_transcripts(engine, load_engine(f"hf:{folder}"), tie=0.001)
    assert_bounds_hold_when_sampling(engine)


def test_thinking_ends_at_the_token_where_it_is_told_to(folder: Path) -> None:
    engine: Any = load_engine(f"vllm:{folder}", enforce_eager=True, dtype="float32", max_num_seqs=16)
    assert_thinking_ends_when_told(engine)


def test_requests_that_lose_their_cache_in_the_middle_are_taken_up_where_they_stood(folder: Path) -> None:
    settings: dict[str, Any] = {"enforce_eager": True, "dtype": "float32", "max_num_seqs": 16}
    engine: Any = load_engine(f"vllm:{folder}", **settings, **SMALL_CACHE)
    assert_same_transcripts_under_preemption(engine, load_engine(f"hf:{folder}", context_tokens=256))


def test_a_request_may_fill_the_whole_context(folder: Path) -> None:
    engine: Any = load_engine(f"vllm:{folder}", enforce_eager=True, dtype="float32", context_tokens=84)
    budget = ThinkingBudget(64, 48, 9)
    request = Request(question="?", budget=budget, answer_tokens=1, temperature=1.0, closing_phrase="")
    request = replace(request, answer_tokens=1 + engine.context_tokens - engine.plan(request).total_tokens)
    prompt = len(engine.plan(request).prompt_ids)
    found = engine.generate(replace(request, seed=seed) for seed in range(200))
    full = [g for g in found if prompt + sum(s.num_tokens for s in g.segments) == 84]
    assert full
    assert {(g.answer_finish, g.thinking_tokens) for g in full} == {("length", 64)}
    # With room to spare, too, no pass follows the last token that a request may have.
    passes = []
    for seed in range(20):
        batch = engine.running_batch()
        batch.admit(engine.plan(replace(request, answer_tokens=1, seed=seed)))
        steps = [batch.step()]
        while not batch.is_idle:
            steps.append(batch.step())
        last = steps[-1][-1].generation
        if (last.answer_finish, last.thinking_tokens) == ("length", 64):
            passes.append(len(steps) - sum(s.num_tokens for s in last.segments))
    assert passes
    assert set(passes) == {0}


def test_seeded_requests_whose_prompts_do_not_fit_into_one_step_are_sampled_too(folder: Path) -> None:
    engine: Any = load_engine(f"vllm:{folder}", enforce_eager=True, dtype="float32", max_num_seqs=64)
    asked = [
        Request(question=f"{i} " * 100, budget=ThinkingBudget(9, 0, 1), answer_tokens=16, temperature=1.0, seed=i)
        for i in range(64)
    ]
    assert sum(len(engine.plan(r).prompt_ids) for r in asked) > 4096
    assert all(g.ending != "failed" for g in engine.generate(asked))


def test_the_v2_runner_in_tritons_interpreter_gives_the_same_transcripts(folder: Path) -> None:
    program = Path(__file__).parent / "vllm_on_v2.py"
    # The interpreter takes its time.
    few = os.environ | {"S1KIT_PARITY_REQUESTS": "12"}
    command = [sys.executable, str(program), str(folder)]
    done = run(command, capture_output=True, text=True, timeout=1200, check=False, env=few)
    assert done.returncode == 0, done.stderr[-3000:]


def test_its_server_behind_flow_exchanges_ids_and_gives_the_same_transcripts(folder: Path, url: str) -> None:
    engine: Any = load_engine(f"completions:{url}#{folder}")
    assert engine.mode == "ids"
    assert_same_transcripts(engine, load_engine(f"hf:{folder}"), tie=0.001)
    assert_bounds_hold_when_sampling(engine)
    assert_streams_add_up(engine)
    assert_streams_add_up(engine, temperature=1.0, stop=("e", "1"))
    assert_draws_are_the_requests_own(engine)
    engine.close()


def complete(url: str, folder: Path, asked: dict[str, Any]) -> httpx.Response:
    reference: Any = load_engine(f"hf:{folder}")
    prompt = reference.format.prompt_ids(reference.tokenizer, "Which?")
    body = {"model": str(folder), "prompt": prompt, "max_tokens": 120, "temperature": 0.0, "return_token_ids": True}
    return httpx.post(f"{url}/completions", json=body | {"vllm_xargs": asked}, timeout=120.0)


def test_a_request_to_the_server_with_the_plugin_is_forced_as_it_asked(folder: Path, url: str) -> None:
    from s1kit import Request, ThinkingBudget

    reference: Any = load_engine(f"hf:{folder}")
    asked = {"max_thinking_tokens": 20, "num_waits": 2, "wait": "Wait", "answer_tokens": 16, "loop_guard": False}
    reply = complete(url, folder, asked)
    assert reply.status_code == 200, reply.text
    request = Request(
        question="Which?", budget=ThinkingBudget(20, 0, 2), wait="Wait", answer_tokens=16, loop_guard=False
    )
    (expected,) = reference.generate([request])
    ids = [i for s in expected.segments for i in s.token_ids]
    assert reply.json()["choices"][0]["token_ids"][: len(ids)] == ids


def shown(text: str | None) -> str:
    """Without what stands for a character that was cut in two, which not all show alike."""
    return (text or "").replace("\ufffd", "")


@pytest.mark.parametrize("least", [0, 20])
def test_its_chat_replies_show_thinking_and_answer_apart_and_count_thinking_to_the_token(
    folder: Path, url: str, least: int
) -> None:
    from s1kit import Request, ThinkingBudget

    engine: Any = load_engine(f"hf:{folder}")
    for number in range(8):
        budget = {"max_thinking_tokens": 20, "min_thinking_tokens": least, "num_waits": number % 3}
        asked = budget | {"answer_tokens": 16, "loop_guard": False}
        body = {"model": str(folder), "messages": [{"role": "user", "content": f"Which {number}?"}], "temperature": 0}
        body |= {"max_tokens": 120, "vllm_xargs": asked}
        whole = httpx.post(f"{url}/chat/completions", json=body, timeout=120.0).json()
        message, usage = whole["choices"][0]["message"], whole["usage"]
        request = Request(
            question=f"Which {number}?",
            budget=ThinkingBudget(20, least, number % 3),
            answer_tokens=16,
            loop_guard=False,
        )
        (wanted,) = engine.generate([request])
        # A line break at the end of thinking cannot be told from the one that the format puts there.
        count = wanted.thinking_tokens - wanted.thinking.endswith("\n")
        expected = (shown(wanted.thinking.removesuffix("\n")), shown(wanted.answer))
        assert (shown(message["reasoning"]), shown(message["content"])) == expected
        assert usage["completion_tokens_details"]["reasoning_tokens"] == count
        streamed = body | {"stream": True, "stream_options": {"include_usage": True}}
        text = httpx.post(f"{url}/chat/completions", json=streamed, timeout=120.0).text
        events = [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: {")]
        deltas = [choice["delta"] for event in events for choice in event["choices"]]
        assert shown("".join(d.get("reasoning") or "" for d in deltas)) == expected[0]
        assert shown("".join(d.get("content") or "" for d in deltas)) == expected[1]
        assert events[-1]["usage"]["completion_tokens_details"]["reasoning_tokens"] == count


REFUSED = [
    ({"max_thinking_tokens": 5, "min_thinking_tokens": 9}, "min_thinking_tokens", "above max_thinking_tokens"),
    ({"max_thinking_tokens": "many"}, "max_thinking_tokens", "not a whole number"),
    ({"max_thinking_tokens": 5.5}, "max_thinking_tokens", "not a whole number"),
    (
        {"max_thinking_tokens": 500, "min_thinking_tokens": 500, "answer_tokens": 16},
        "min_thinking_tokens",
        "there is room for",
    ),
    ({"max_thinking_tokens": 5, "answer_tokens": 500}, "answer_tokens", "there is room for"),
    ({"num_waits": 1, "wait": ""}, "wait", "wait is"),
    ({"num_waits": 1, "wait": "<|im_start|>"}, "wait", "contains a delimiter"),
    ({"max_thinking_tokens": 5, "loop_guard": "no"}, "loop_guard", "neither true nor false"),
    ({"max_thinking": 5}, "max_thinking", "unknown field"),
    ({"s1kit_request": 5}, "s1kit_request", "only the engine vllm:"),
]


@pytest.mark.parametrize(("asked", "field", "complaint"), REFUSED)
def test_arguments_that_make_no_sense_are_refused_with_400(
    folder: Path, url: str, asked: dict[str, Any], field: str, complaint: str
) -> None:
    reply = complete(url, folder, asked)
    assert reply.status_code == 400
    assert complaint in reply.text
    assert f"vllm_xargs.{field}" in reply.text


def test_what_only_the_prompt_rules_out_is_said_in_the_completion_and_the_server_lives_on(
    folder: Path, url: str
) -> None:
    reference: Any = load_engine(f"hf:{folder}")
    # Thinking is opened inside max_tokens where the prompt does not end so, and then there is no room.
    prompt = reference.tokenizer.encode("Which?")
    body = {"model": str(folder), "prompt": prompt, "max_tokens": 120, "temperature": 0.0}
    asked = {"max_thinking_tokens": 100, "min_thinking_tokens": 100, "answer_tokens": 16}
    reply = httpx.post(f"{url}/completions", json=body | {"vllm_xargs": asked}, timeout=120.0)
    assert "s1kit refused this request" in reply.text
    assert complete(url, folder, {"max_thinking_tokens": 5, "answer_tokens": 16}).status_code == 200


def test_an_engine_that_dies_in_the_middle_keeps_what_was_done_and_says_why_of_the_rest(
    folder: Path, monkeypatch: Any
) -> None:
    from s1kit import Request, ThinkingBudget

    engine: Any = load_engine(f"vllm:{folder}", enforce_eager=True, dtype="float32", max_num_seqs=64)
    core, steps = engine.llm.llm_engine, []
    step = core.step

    def dies_later() -> Any:
        steps.append(1)
        if len(steps) > 20:
            raise RuntimeError("no memory left")
        return step()

    monkeypatch.setattr(core, "step", dies_later)
    budgets = [ThinkingBudget(60, 40) if i % 2 else ThinkingBudget(0) for i in range(6)]
    found = list(engine.generate([Request(question=str(i), budget=b, answer_tokens=6) for i, b in enumerate(budgets)]))
    assert len(found) == 6
    failed = [g for g in found if g.ending == "failed"]
    assert len(failed) == 3
    assert all("no memory left" in g.note and g.thinking_tokens > 0 for g in failed)
    monkeypatch.undo()
    assert [g.ending for g in engine.generate([Request(question="again", budget=ThinkingBudget(4))])] != ["failed"]


NGRAM = {"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_max": 3}


def test_asked_for_by_name_under_speculation_vllm_does_not_start(folder: Path) -> None:
    settings = {"dtype": "float32", "enforce_eager": True, "speculative_config": NGRAM}
    settings["logits_processors"] = ["s1kit.engines.vllm_plugin:BudgetForcing"]
    program = f"import vllm; vllm.LLM({str(folder)!r}, **{settings!r})"
    done = run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode != 0
    assert "not supported when speculative decoding" in done.stdout + done.stderr


def test_installed_beside_a_vllm_that_speculates_it_refuses_only_who_asks(folder: Path) -> None:
    """The last of this file: no other vLLM starts in a process in which one has speculated."""
    import vllm
    from vllm.exceptions import VLLMValidationError

    llm = vllm.LLM(str(folder), dtype="float32", enforce_eager=True, speculative_config=NGRAM)
    (plain,) = llm.generate(["How?"], vllm.SamplingParams(max_tokens=8), use_tqdm=False)
    assert plain.outputs[0].token_ids
    asking = vllm.SamplingParams(max_tokens=80, extra_args={"num_waits": 1})
    with pytest.raises(
        VLLMValidationError, match="speculative decoding, and vLLM's V1 runner leaves its processors out"
    ):
        llm.generate(["How?"], asking, use_tqdm=False)
