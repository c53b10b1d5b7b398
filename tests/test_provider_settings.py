"""Settings that a user would try on the first day with each wire: what changes a reply stands on the wire or is refused
by name. What was expected of each combination was written down before any was tried."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from s1kit.errors import InputError
from s1kit.journal import Journal
from s1kit.providers.catalog import find_model
from s1kit.providers.chat import ChatRequest, Parameters
from s1kit.providers.client import open_client
from s1kit.providers.wires.extra import check_settings
from s1kit.providers.wires.reading import output_limit
from s1kit.recipe import Recipe
from tests.servers.odd_server import OddServer
from tests.test_provider_odd_days import http

CLAUDE, NOVA, GPT = "chat:bedrock/us.anthropic.claude-x", "chat:bedrock/amazon.nova-x", "chat:bedrock/openai.gpt-oss-x"
VLLM = "chat:http://h/v1#m"
BODIES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    # sampling
    ("chat:gemini/g", {"temperature": 0.0, "top_p": 0.9, "seed": 3},
     {"generationConfig": {"maxOutputTokens": 500, "temperature": 0.0, "topP": 0.9, "seed": 3,
                           "thinkingConfig": {"includeThoughts": True}}}),
    ("chat:gemini/g", {"temperature": 0.5, "extra": {"generationConfig": {"topK": 40, "stopSequences": ["X"]}}},
     {"generationConfig": {"maxOutputTokens": 500, "temperature": 0.5, "topK": 40, "stopSequences": ["X"],
                           "thinkingConfig": {"includeThoughts": True}}}),
    ("chat:vertex/gemini-x", {"extra": {"safetySettings": [{"category": "A", "threshold": "OFF"}]}},
     {"safetySettings": [{"category": "A", "threshold": "OFF"}],
      "generationConfig": {"maxOutputTokens": 500, "thinkingConfig": {"includeThoughts": True}}}),
    ("chat:anthropic/c", {"temperature": 1.0, "extra": {"top_k": 5, "stop_sequences": ["X"]}},
     {"temperature": 1.0, "top_k": 5, "stop_sequences": ["X"], "max_tokens": 500}),
    ("chat:openai/o", {"seed": 3, "extra": {"stop": ["X"], "service_tier": "flex"}},
     {"seed": 3, "stop": ["X"], "service_tier": "flex", "max_completion_tokens": 500}),
    ("chat:deepseek/d", {"top_p": 0.5, "extra": {"frequency_penalty": 0.1}},
     {"top_p": 0.5, "frequency_penalty": 0.1, "max_tokens": 500}),
    (VLLM, {"extra": {"top_k": 20, "min_p": 0.05, "repetition_penalty": 1.05, "stop": "X"}},
     {"top_k": 20, "min_p": 0.05, "repetition_penalty": 1.05, "stop": "X"}),
    (NOVA, {"temperature": 0.2, "top_p": 0.3, "extra": {"inferenceConfig": {"stopSequences": ["X"]}}},
     {"inferenceConfig": {"maxTokens": 500, "temperature": 0.2, "topP": 0.3, "stopSequences": ["X"]}}),
    (NOVA, {"extra": {"additionalModelRequestFields": {"inferenceConfig": {"topK": 20}}}},
     {"additionalModelRequestFields": {"inferenceConfig": {"topK": 20}}}),
    ("chat:openai-responses/o", {"temperature": 0.5, "top_p": 0.1}, {"temperature": 0.5, "top_p": 0.1}),
    # effort and budget
    ("chat:openai-responses/o", {"reasoning_effort": "high", "extra": {"reasoning": {"summary": "detailed"}}},
     {"reasoning": {"summary": "detailed", "effort": "high"}}),
    ("chat:openai-responses/o", {"extra": {"reasoning": {"effort": "low"}, "text": {"verbosity": "low"}}},
     {"reasoning": {"summary": "auto", "effort": "low"}, "text": {"verbosity": "low"}}),
    ("chat:openai-responses/o", {"extra": {"text": {"verbosity": "low"}, "response_format": {"type": "json_object"}}},
     {"text": {"format": {"type": "json_object"}, "verbosity": "low"}}),
    ("chat:openrouter/a/b", {"reasoning_effort": "high"}, {"reasoning": {"effort": "high"}}),
    ("chat:openrouter/a/b", {"thinking_budget": 90}, {"reasoning": {"max_tokens": 90}}),
    ("chat:openrouter/a/b", {"thinking_budget": 0}, {"reasoning": {"enabled": False}}),
    ("chat:openrouter/a/b", {"extra": {"reasoning": {"exclude": False}, "provider": {"sort": "price"}}},
     {"reasoning": {"enabled": True, "exclude": False}, "provider": {"sort": "price"}, "usage": {"include": True}}),
    ("chat:anthropic/c", {"thinking_budget": 0}, {"thinking": {"type": "disabled"}}),
    ("chat:anthropic/c", {"extra": {"thinking": {"type": "disabled"}}}, {"thinking": {"type": "disabled"}}),
    ("chat:anthropic/c", {"thinking_budget": 90, "reasoning_effort": "low"},
     {"thinking": {"type": "enabled", "budget_tokens": 90, "display": "summarized"},
      "output_config": {"effort": "low"}}),
    ("chat:vertex/claude-x", {"thinking_budget": 90, "extra": {"anthropic_beta": ["b"]}},
     {"thinking": {"type": "enabled", "budget_tokens": 90, "display": "summarized"}, "anthropic_beta": ["b"]}),
    (CLAUDE, {"thinking_budget": 90, "extra": {"additionalModelRequestFields": {"top_k": 5}}},
     {"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 90}, "top_k": 5}}),
    (CLAUDE, {"thinking_budget": 0}, {"additionalModelRequestFields": {"thinking": {"type": "disabled"}}}),
    (GPT, {"reasoning_effort": "high"}, {"additionalModelRequestFields": {"reasoning_effort": "high"}}),
    ("chat:gemini/g", {"thinking_budget": 0},
     {"generationConfig": {"maxOutputTokens": 500, "thinkingConfig": {"thinkingBudget": 0}}}),
    ("chat:gemini/g", {"reasoning_effort": "low"},
     {"generationConfig": {"maxOutputTokens": 500,
                           "thinkingConfig": {"includeThoughts": True, "thinkingLevel": "LOW"}}}),
    ("chat:azure/d", {"reasoning_effort": "minimal", "extra": {"verbosity": "low"}},
     {"reasoning_effort": "minimal", "verbosity": "low", "max_completion_tokens": 500}),
    ("chat:vertex/deepseek-ai/r1", {"temperature": 0.1}, {"temperature": 0.1, "max_tokens": 500}),
    (VLLM, {"thinking_budget": 90, "extra": {"chat_template_kwargs": {"enable_thinking": True}}},
     {"thinking_token_budget": 90, "chat_template_kwargs": {"enable_thinking": True}}),
    ("chat:deepseek/d", {"extra": {"thinking": {"type": "enabled"}}}, {"thinking": {"type": "enabled"}}),
    # what both say alike is no contradiction
    (VLLM, {"temperature": 0.5, "extra": {"temperature": 0.5}}, {"temperature": 0.5}),
]  # fmt: skip
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("chat:anthropic/c", {"seed": 1}, "takes no seed"),
    (NOVA, {"seed": 1}, "takes no seed"),
    ("chat:openai-responses/o", {"seed": 1}, "takes no seed"),
    ("chat:openai-responses/o", {"thinking_budget": 5}, "takes no thinking_budget"),
    ("chat:openai/o", {"thinking_budget": 5}, "takes no thinking budget"),
    ("chat:azure/d", {"thinking_budget": 5}, "takes no thinking budget"),
    ("chat:deepseek/d", {"thinking_budget": 5}, "takes no thinking budget"),
    (NOVA, {"thinking_budget": 5}, "takes no thinking budget"),
    ("chat:gemini/g", {"thinking_budget": 5, "reasoning_effort": "low"}, "not both"),
    (NOVA, {"extra": {"top_k": 5}}, "no field 'top_k'"),
    (CLAUDE, {"extra": {"thinking": {"type": "disabled"}}}, "no field 'thinking'"),
    (NOVA, {"extra": {"response_format": {"type": "json_object"}}}, "no response_format"),
    (VLLM, {"temperature": 0.5, "extra": {"temperature": 0.7}}, "extra sets temperature to 0.7"),
    (VLLM, {"extra": {"max_tokens": 7}}, "extra sets max_tokens to 7, and another setting says 500"),
    ("chat:openrouter/a/b", {"reasoning_effort": "low", "extra": {"reasoning": {"effort": "high"}}}, "sets reasoning"),
    ("chat:gemini/g", {"top_p": 0.5, "extra": {"generationConfig": {"topP": 0.7}}}, "generationConfig.topP"),
    ("chat:anthropic/c", {"thinking_budget": 90, "extra": {"thinking": {"type": "disabled"}}}, "thinking.type"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def clouds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://n.openai.azure.com")


@pytest.mark.parametrize(("reference", "given", "wanted"), BODIES, ids=[f"{r} {g}" for r, g, _ in BODIES])
def test_a_setting_stands_on_the_wire(reference: str, given: dict[str, Any], wanted: dict[str, Any]) -> None:
    model, parameters = find_model(reference), Parameters(max_output_tokens=500, **given)
    check_settings(model.wire, model.name, parameters)
    request = ChatRequest(model.provider, model.name, ({"role": "user", "content": "q"},), parameters)
    body = model.wire.call(request).body
    assert output_limit(body) == 500  # what a cap holds back
    assert {name: body.get(name) for name in wanted} == wanted


@pytest.mark.parametrize(("reference", "given", "words"), REFUSED, ids=[f"{r} {g}" for r, g, _ in REFUSED])
def test_a_setting_that_would_be_lost_is_refused_by_name(reference: str, given: dict[str, Any], words: str) -> None:
    model = find_model(reference)
    with pytest.raises(InputError, match=words):
        check_settings(model.wire, model.name, Parameters(max_output_tokens=500, **given))


@pytest.mark.parametrize("extra", [{"n": 3}, {"num_generations": 2}, {"generationConfig": {"candidateCount": 2}}])
def test_several_replies_to_a_request_are_refused_for_one_would_be_kept(extra: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"one would be kept.*num_traces"):
        Recipe.model_validate({"name": "r", "distill": {"teacher": VLLM, "extra": extra}})


def test_a_header_of_the_user_s_replaces_the_wire_s_whatever_its_case(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S1KIT_API_KEY", "of-the-environment")
    monkeypatch.setenv("TEAM_TOKEN", "Bearer of-the-team")
    heads: list[str] = []

    def script(number: int, head: str) -> list[bytes | float]:
        heads.append(head)
        return [http()]

    async def run() -> None:
        async with OddServer(script) as server:
            headers = {"authorization": "env:TEAM_TOKEN", "X-Team": "a"}
            async with open_client(f"chat:{server.base_url}#m", journal, price="free", headers=headers) as client:
                await client.chat([{"role": "user", "content": "q"}])

    asyncio.run(run())
    sent = [line for line in heads[0].splitlines() if line.lower().startswith(("authorization:", "x-team:"))]
    assert sent == ["authorization: Bearer of-the-team", "X-Team: a"]
