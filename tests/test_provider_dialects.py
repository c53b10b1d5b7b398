"""Replies and errors in the dialects of servers that call themselves OpenAI-compatible, and of Gemini.

The shapes come from the providers' documents and from the issue trackers of their clients: litellm, inspect_ai,
promptfoo, genkit, Portkey's gateway, runpod's worker, vLLM, SGLang.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from s1kit.journal import Journal
from s1kit.providers.bodies import error_message
from s1kit.providers.classify import problem_in
from s1kit.providers.client import open_client
from s1kit.providers.http import Answer
from s1kit.providers.signs import kind_of_status
from s1kit.providers.wires.events import EventParser
from s1kit.providers.wires.gemini import GeminiWire
from s1kit.providers.wires.openai import OpenAIWire
from s1kit.providers.wires.replies import read_reply
from s1kit.providers.wires.streams import ChatAssembler

WIRE = OpenAIWire("compatible")


def chat(message: Any, reason: Any = "stop", usage: Any = None) -> dict[str, Any]:
    usage = usage or {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
    return {"choices": [{"message": message, "finish_reason": reason}], "usage": usage}


ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "runpod": (
        {
            "object": "error",
            "code": 404,
            "message": "The model `x` does not exist.",
            "type": "NotFoundError",
            "param": None,
        },
        "model",
    ),
    "vllm": (
        {
            "object": "error",
            "code": 400,
            "message": "This model's maximum context length is 4096 tokens",
            "type": "BadRequestError",
        },
        "request",
    ),
    "vllm in stream": (
        {
            "object": "chat.completion",
            "choices": [],
            "code": 400,
            "message": "This model's maximum context length is 4096 tokens",
            "type": "BadRequestError",
        },
        "request",
    ),
    "dashscope": ({"code": "InvalidApiKey", "message": "Invalid API-key provided.", "request_id": "r"}, "key"),
    "minimax key": (
        {
            "base_resp": {
                "status_code": 1004,
                "status_msg": "login fail: Please carry the API secret key in the 'Authorization' field",
            },
            "choices": None,
        },
        "key",
    ),
    "minimax balance": (
        {"id": "", "choices": None, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}},
        "credit",
    ),
    "minimax rate": (
        {"choices": None, "base_resp": {"status_code": 1002, "status_msg": "rate limit exceeded(RPM)"}},
        "rate",
    ),
    "minimax sensitive": (
        {"choices": None, "base_resp": {"status_code": 1027, "status_msg": "output new_sensitive"}},
        "refused",
    ),
    "qianfan qps": ({"error_code": 18, "error_msg": "Open api qps request limit reached"}, "rate"),
    "qianfan token": ({"error_code": 110, "error_msg": "Access token invalid or no longer valid"}, "key"),
    "new-api": ({"success": False, "message": "无效的令牌", "data": None}, "key"),
    "siliconflow busy": (
        {"code": 50505, "message": "Model service overloaded. Please try again later.", "data": None},
        "server",
    ),
    "siliconflow model": (
        {"code": 20012, "message": "Model does not exist. Please check it carefully.", "data": None},
        "model",
    ),
    "fastapi": ({"detail": "Not authenticated"}, "key"),
    "aws": ({"message": "Internal server error"}, "server"),
    "apigee": ({"fault": {"faultstring": "Rate limit quota violation. Quota limit exceeded."}}, "rate"),
    "together": (
        {"error": {"message": "Credit limit exceeded, please navigate to settings/billing", "type": "credit_limit"}},
        "credit",
    ),
    "xai model": ({"code": "invalid-argument", "error": "Model not found: grok-9"}, "model"),
    "hf": ({"error": "Model Qwen/x is currently loading", "estimated_time": 20.0}, "server"),
    "choices empty": ({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 0}}, "server"),
    "gemini empty stop": (
        {
            "candidates": [{"content": {"role": "model"}, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9},
        },
        "server",
    ),
    "gemini no content": (
        {
            "candidates": [{"finishReason": "STOP", "index": 0}],
            "usageMetadata": {"promptTokenCount": 171, "totalTokenCount": 171},
        },
        "server",
    ),
    "internal_error": ({"choices": [{"message": {"content": "The"}, "finish_reason": "internal_error"}]}, "server"),
}
"""Bodies with status 200, and what they are."""


@pytest.mark.parametrize("what", ERRORS)
def test_an_error_told_with_status_200_is_judged_by_what_it_says(what: str) -> None:
    body, kind = ERRORS[what]
    problem = problem_in(body, json.dumps(body).encode())
    assert problem is not None
    assert problem.kind == kind


def test_an_event_that_is_an_error_by_itself_ends_a_stream_as_that_error() -> None:
    """SGLang and gateways send it after the head of the stream, some without a field called error."""
    for event in ({"error": {"message": "too long", "code": 400}}, {"object": "error", "message": "x", "code": 400}):
        parser = EventParser(assembler := ChatAssembler())
        parser.feed(b"data: " + json.dumps(event).encode() + b"\n\ndata: [DONE]\n\n")
        assert assembler.is_whole
        problem = problem_in(assembler.body(), b"")
        assert problem is not None
        assert problem.kind == "request"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"detail": [{"loc": ["body", "model"], "msg": "field required"}]}, "body.model: field required"),
        ({"error": {"error": {"message": "inner"}}}, "inner"),
        ({"errors": [{"code": 1031, "message": "gateway"}]}, "gateway"),
        ({"error": {"message": {"detail": "x"}}}, ""),
        ({"error": None, "message": "plain"}, "plain"),
        ([{"error": "listed"}], "listed"),
        ({"error": [[[["deep"]]]]}, ""),
    ],
)
def test_the_message_of_an_error_is_found_wherever_it_stands(body: Any, text: str) -> None:
    assert error_message(body) == text


def test_a_model_that_is_not_there_is_told_from_a_bad_question() -> None:
    assert kind_of_status(400, {"error": "Model not found: grok-9"}) == "model"
    assert kind_of_status(400, {"error": {"message": "temperature must be 1"}}) == "request"


ANSWERS: dict[str, tuple[dict[str, Any], tuple[str, str, str]]] = {
    "pause": (chat({"content": "4"}, "pause_turn"), ("", "4", "length")),
    "empty reason": (chat({"content": "4"}, ""), ("", "4", "stop")),
    "unknown": (chat({"content": "4"}, "unknown"), ("", "4", "stop")),
    "finish": (chat({"content": "4"}, "finish"), ("", "4", "stop")),
    "max_completion_tokens": (chat({"content": "4"}, "max_completion_tokens"), ("", "4", "length")),
    "policy": (chat({"content": ""}, "content_policy_violation"), ("", "", "refused")),
    "part text": (
        chat({"content": [{"type": "thinking", "text": "hm"}, {"type": "text", "text": "4"}]}),
        ("hm", "4", "stop"),
    ),
    "databricks": (
        chat(
            {
                "content": [
                    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
                    {"type": "text", "text": "4"},
                ]
            }
        ),
        ("hm", "4", "stop"),
    ),
    "thought part": (chat({"content": [{"text": "hm", "thought": True}, {"text": "4"}]}), ("hm", "4", "stop")),
    "reasoning dict": (chat({"reasoning": {"content": "hm"}, "content": "4"}), ("hm", "4", "stop")),
    "all in reasoning": (chat({"reasoning_content": "hm</think>\n\n4", "content": None}), ("hm", "4", "stop")),
    "tag in reasoning": (chat({"reasoning_content": "<think>\nhm", "content": "4"}), ("hm", "4", "stop")),
    "tags in reasoning": (chat({"reasoning_content": "<think>hm</think>", "content": "4"}), ("hm", "4", "stop")),
    "content strings": (chat({"content": ["4"]}), ("", "4", "stop")),
    "content dict": (chat({"content": {"text": "4"}}), ("", "4", "stop")),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_an_answer_is_read_as_what_it_is(what: str) -> None:
    body, expected = ANSWERS[what]
    assert problem_in(body, json.dumps(body).encode()) is None
    reply = read_reply(WIRE, body)
    assert (reply.thinking, reply.answer, reply.finish_reason) == expected


USAGES: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    "camel": ({"promptTokens": 9, "completionTokens": 5, "totalTokens": 14}, (9, 5, 0)),
    "camel2": ({"inputTokens": 9, "outputTokens": 5, "totalTokens": 14}, (9, 5, 0)),
    "portkey": (
        {
            "prompt_tokens": 368,
            "completion_tokens": 19,
            "total_tokens": 10923,
            "cache_read_input_tokens": 10536,
            "cache_creation_input_tokens": 0,
        },
        (10904, 19, 10536),
    ),
    "anthropic style included": (
        {"prompt_tokens": 1000, "completion_tokens": 19, "total_tokens": 1019, "cache_read_input_tokens": 600},
        (1000, 19, 600),
    ),
    "moonshot cached": (
        {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105, "cached_tokens": 80},
        (100, 5, 80),
    ),
    "input details": (
        {"input_tokens": 100, "output_tokens": 5, "total_tokens": 105, "input_tokens_details": {"cached_tokens": 80}},
        (100, 5, 80),
    ),
    "xai": (
        {
            "prompt_tokens": 32,
            "completion_tokens": 9,
            "total_tokens": 135,
            "prompt_tokens_details": {"text_tokens": 32, "cached_tokens": 8},
            "completion_tokens_details": {"reasoning_tokens": 94},
        },
        (32, 103, 8),
    ),
    "nulls": (
        {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": None, "prompt_tokens_details": None},
        (9, 5, 0),
    ),
    "strings": ({"prompt_tokens": "9", "completion_tokens": "5"}, (9, 5, 0)),
}
"""Input, output, and the part of the input that was read from a cache."""


@pytest.mark.parametrize("what", USAGES)
def test_tokens_are_counted_once_in_any_server_s_words(what: str) -> None:
    told, expected = USAGES[what]
    usage = read_reply(WIRE, chat({"content": "4"}, usage=told)).usage
    assert (usage.input_tokens, usage.output_tokens, usage.cached_input_tokens) == expected


def test_usage_that_a_stream_reports_elsewhere_is_found() -> None:
    told = {"prompt_tokens": 9, "completion_tokens": 5}
    groq = {"choices": [{"message": {"content": "4"}, "finish_reason": "stop"}], "x_groq": {"usage": told}}
    moonshot = {"choices": [{"message": {"content": "4"}, "finish_reason": "stop", "usage": told}]}
    for body in (groq, moonshot):
        assert read_reply(WIRE, body).usage.output_tokens == 5


@pytest.mark.parametrize("reason", ["NO_IMAGE", "IMAGE_RECITATION", "IMAGE_PROHIBITED_CONTENT", "ESCALATION", "SAFETY"])
def test_what_gemini_declines_is_a_refusal_and_is_not_asked_again(reason: str) -> None:
    body = {
        "candidates": [{"content": {"parts": []}, "finishReason": reason}],
        "usageMetadata": {"promptTokenCount": 9},
    }
    assert problem_in(body, b"") is None
    assert read_reply(GeminiWire(), body).finish_reason == "refused"


def test_gemini_s_thinking_that_ends_at_the_limit_is_an_answer_cut_short() -> None:
    usage = {"promptTokenCount": 9, "thoughtsTokenCount": 500, "totalTokenCount": 509}
    body = {"candidates": [{"finishReason": "MAX_TOKENS"}], "usageMetadata": usage}
    assert problem_in(body, b"") is None
    assert read_reply(GeminiWire(), body).finish_reason == "length"


def test_output_that_a_server_does_not_count_is_charged_by_its_text(tmp_path: Path) -> None:
    """It reports the input alone: without an estimate the reply would be free, and the cap would not hold."""

    async def work() -> None:
        with Journal(tmp_path / "journal.sqlite") as journal:
            price = {"input": 1.0, "output": 1_000_000.0}
            client = open_client("chat:http://127.0.0.1:9/v1#m", journal, price=price, cap_usd=1e9)
            request = client.request([{"role": "user", "content": "q"}])
            raw = json.dumps(chat({"content": "four " * 100}, usage={"prompt_tokens": 9})).encode()
            reply = await client.books.keep(request, request.key, Answer(json.loads(raw), raw, {}), "online")
            assert reply.usage.input_tokens == 9
            assert reply.usage.output_tokens == 126
            assert reply.cost_usd == pytest.approx(126.0, rel=0.01)
            entry = journal.get(request.key)
            assert entry is not None
            again = await client.books.recall(entry)
            assert (again.usage, again.cost_usd) == (reply.usage, reply.cost_usd)

    asyncio.run(work())
