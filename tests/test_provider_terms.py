"""What a teacher's output may be used for: the weights' licence before the maker's terms before the address."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from s1kit.cli.preflight import check_recipe
from s1kit.distill.teachers import RecordedTeacher
from s1kit.errors import InputError
from s1kit.providers.terms import ledger, terms_of
from s1kit.recipe import load_recipe
from s1kit.records import Question
from s1kit.train.encoded import check_terms
from tests.fixtures_train import make_samples

CASES = {
    "permits": """
        tiny solutions
        chat:openrouter/openai/gpt-oss-120b chat:openrouter/openai/gpt-oss-20b:free hf:openai/gpt-oss-20b
        chat:openrouter/deepseek/deepseek-r1 chat:openrouter/deepseek/deepseek-r1-0528:free
        chat:openrouter/deepseek/deepseek-chat-v3-0324 chat:deepseek/deepseek-v4-pro chat:deepseek/deepseek-reasoner
        vllm:deepseek-ai/DeepSeek-R1-Distill-Qwen-32B vllm:deepseek-ai/DeepSeek-R1-0528-Qwen3-8B
        chat:https://api.fireworks.ai/inference/v1#accounts/fireworks/models/deepseek-r1
        chat:compatible/Qwen3-32B chat:http://localhost:8000/v1#Qwen/Qwen3-32B
        chat:compatible/qwen3-235b-a22b-thinking-2507
        hf:Qwen/QwQ-32B-AWQ llama.cpp:models/Qwen3-32B-Q4_K_M.gguf vllm:Qwen/Qwen2.5-7B-Instruct
        vllm:Qwen/Qwen3-Next-80B-A3B-Thinking vllm:Qwen/Qwen3.5-397B-A17B
        chat:openrouter/moonshotai/kimi-k2-thinking chat:openrouter/z-ai/glm-4.5-air:free vllm:zai-org/GLM-5-FP8
        chat:openrouter/mistralai/magistral-small-2506 vllm:mistralai/Mistral-7B-Instruct-v0.3
        chat:https://api.mistral.ai/v1#magistral-medium-2506
        vllm:google/gemma-4-31B-it vllm:microsoft/Phi-4-reasoning vllm:microsoft/phi-4 hf:xai-org/grok-1
        deepseek-ai/DeepSeek-R1
        tiny,dtype=bfloat16 hf:Qwen/Qwen2.5-Coder-0.5B-Instruct,dtype=bfloat16
        llama.cpp:Qwen3-32B-Q4_K_M.gguf,num_threads=2
    """,
    "conditions": """
        chat:openrouter/deepseek/deepseek-r1-distill-llama-70b vllm:deepseek-ai/DeepSeek-R1-Distill-Llama-8B
        chat:openrouter/meta-llama/llama-3.3-70b-instruct:free vllm:meta-llama/Llama-3.1-8B-Instruct
        chat:openrouter/meta-llama/llama-4-maverick vllm:nvidia/Llama-3_3-Nemotron-Super-49B-v1
        chat:openrouter/google/gemma-3-27b-it vllm:google/gemma-2-9b-it vllm:Qwen/Qwen2.5-72B-Instruct
        vllm:mistralai/Codestral-22B-v0.1
    """,
    "forbids": """
        chat:openrouter/openai/o3 chat:openai/o3-mini chat:compatible/gpt-4o chat:https://api.openai.com/v1#o3
        chat:gemini/gemini-2.5-pro chat:openrouter/google/gemini-2.5-pro chat:compatible/gemini-2.5-flash
        chat:https://generativelanguage.googleapis.com/v1beta/openai#gemini-2.5-pro
        chat:anthropic/claude-opus-5-5 chat:http://localhost:4000/v1#claude-sonnet-4-5
        chat:openrouter/x-ai/grok-4 chat:https://api.x.ai/v1#grok-4-fast-reasoning
        vllm:meta-llama/Llama-2-70b-chat-hf vllm:meta-llama/Meta-Llama-3-70B-Instruct chat:compatible/llama3-70b-8192
        vllm:Qwen/Qwen2.5-3B-Instruct vllm:tencent/Hunyuan-A13B-Instruct vllm:mistralai/Mistral-Large-Instruct-2407
    """,
    "unknown": """
        chat:openrouter/qwen/qwen3-max chat:openrouter/qwen/qwen3-coder-plus chat:compatible/qwen-turbo
        chat:openrouter/qwen/qwen-plus-2025-07-28:thinking
        chat:compatible/my-qwen3-finetune-of-gpt4 chat:compatible/Qwen3-32B-on-gpt4-traces
        vllm:somebody/DeepSeek-R1-distilled-from-o3 vllm:somebody/Qwen3-32B hf:/models/mine
        chat:http://localhost:8000/v1#m recorded:mine.jsonl chat:openrouter/perplexity/sonar-reasoning
    """,
}


@pytest.mark.parametrize(("reference", "terms"), [(r, terms) for terms, text in CASES.items() for r in text.split()])
def test_the_licence_of_open_weights_goes_before_the_maker_s_terms(reference: str, terms: str) -> None:
    assert terms_of(reference).terms == terms


def test_a_distillation_of_llama_names_llama_s_licence() -> None:
    assert "Llama" in terms_of("chat:openrouter/deepseek/deepseek-r1-distill-llama-70b").text


def test_every_entry_has_a_source_and_a_date() -> None:
    for entry in ledger():
        assert entry.source.startswith("https://")
        assert entry.date is not None
        assert len(entry.text) > 20


@pytest.mark.parametrize("terms", ["forbids", "conditions", "unknown"])
def test_training_on_what_is_not_plainly_permitted_asks_for_the_reason(terms: str) -> None:
    traces = [sample.trace for sample in make_samples(2, terms=terms)]
    with pytest.raises(InputError, match="acknowledge_terms"):
        check_terms(traces, "")
    check_terms(traces, "agreed in writing")
    check_terms([sample.trace for sample in make_samples(2, terms="permits")], "")


def test_the_default_teacher_of_the_paper_s_recipe_permits_training() -> None:
    assert terms_of(load_recipe("s1k").distill.teacher).terms == "permits"


@pytest.mark.parametrize("teacher", ["chat:gemini/gemini-2.5-pro", "chat:http://localhost:1/v1#m", "hf:somebody/model"])
def test_check_says_before_a_cent_is_spent_that_train_would_refuse(tmp_path: Path, teacher: str) -> None:
    recipe = load_recipe("tiny", [f"distill.teacher={teacher}", f"out={tmp_path}", "distill.price=free"])
    faults = [str(fault) for fault in check_recipe(recipe, ["distill", "train"])]
    assert any("train would refuse the traces after they were paid for" in fault for fault in faults), faults
    agreed = load_recipe("tiny", [f"distill.teacher={teacher}", f"out={tmp_path}", "train.acknowledge_terms=agreed"])
    assert not any("train would refuse" in str(fault) for fault in check_recipe(agreed, ["distill", "train"]))


def test_recorded_traces_keep_their_teacher_s_terms(tmp_path: Path) -> None:
    reply = {"thinking": "hm", "answer": "4"}
    rows = [
        {"question": "q0", "teacher": "deepseek-ai/DeepSeek-R1", **reply},
        {"question": "q1", "model": "gpt-4o", **reply},
        {"question": "q2", **reply},
        {"question": "q3", "gemini_thinking_trajectory": "hm", "gemini_attempt": "4"},
        {"question": "q4", "deepseek_thinking_trajectory": "hm", "deepseek_attempt": "4"},
    ]
    path = tmp_path / "traces.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    teacher = RecordedTeacher(path)
    traces = [asyncio.run(teacher.ask(Question(text=f"q{n}"), 0)) for n in range(5)]
    assert [trace.terms for trace in traces] == ["permits", "forbids", "unknown", "forbids", "permits"]
