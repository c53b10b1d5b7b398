"""Readers of replies are total: whatever the JSON, there is a reply of sane values and no exception."""

from __future__ import annotations

import copy
import json
import random
import time
from typing import Any

import pytest

from s1kit.providers.bodies import error_message, parse_body
from s1kit.providers.chat import Reply, WireFormat
from s1kit.providers.classify import problem_in
from s1kit.providers.rate_limits import retry_after
from s1kit.providers.signs import kind_of_status
from s1kit.providers.wires.anthropic import AnthropicWire
from s1kit.providers.wires.gemini import GeminiWire
from s1kit.providers.wires.openai import OpenAIWire
from s1kit.providers.wires.reading import output_limit
from s1kit.providers.wires.replies import read_reply
from s1kit.providers.wires.responses import ResponsesWire

WIRES: dict[str, WireFormat] = {
    "openai": OpenAIWire("compatible"),
    "responses": ResponsesWire(),
    "gemini": GeminiWire(),
    "anthropic": AnthropicWire(),
}
GOOD: dict[str, dict[str, Any]] = {
    "openai": {
        "choices": [
            {
                "finish_reason": "stop",
                "message": {
                    "content": [{"type": "thinking", "thinking": [{"text": "hm"}]}, {"type": "text", "text": "4"}],
                    "reasoning_details": [{"text": "hm"}],
                    "thinking_blocks": [{"thinking": "hm"}],
                    "refusal": None,
                    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
            }
        ],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 5,
            "total_tokens": 8,
            "cost": 0.1,
            "completion_tokens_details": {"reasoning_tokens": 2},
            "prompt_tokens_details": {"cached_tokens": 1},
        },
        "error": None,
    },
    "responses": {
        "object": "response",
        "status": "completed",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "content": [{"text": "hm"}]},
            {"type": "message", "content": [{"type": "output_text", "text": "4"}, {"type": "refusal", "refusal": ""}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        ],
        "usage": {
            "input_tokens": 3,
            "output_tokens": 5,
            "total_tokens": 8,
            "input_tokens_details": {"cached_tokens": 1},
            "output_tokens_details": {"reasoning_tokens": 2},
        },
    },
    "gemini": {
        "candidates": [
            {
                "content": {
                    "parts": [
                        {"text": "hm", "thought": True},
                        {"text": "4"},
                        {"functionCall": {"name": "f", "args": {"x": 1}}},
                    ]
                },
                "finishReason": "STOP",
            }
        ],
        "promptFeedback": {"blockReason": None},
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "thoughtsTokenCount": 2},
    },
    "anthropic": {
        "type": "message",
        "content": [
            {"type": "thinking", "thinking": "hm"},
            {"type": "text", "text": "4"},
            {"type": "tool_use", "id": "c", "name": "f", "input": {"x": 1}},
        ],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 3, "output_tokens": 5, "output_tokens_details": {"thinking_tokens": 2}},
    },
}
ODD: list[Any] = [
    *(None, True, False, 0, -1, 10**400, -(10**30), 1.5, float("inf"), float("nan"), "", "x", "\ud800", "\x00", "12"),
    *([], {}, [[]], [None], {"text": None}, [{"type": "text", "text": None}], {"a": {"b": [1]}}, [["x"] * 3] * 3),
]


def mutated(value: Any, dice: random.Random) -> Any:
    """The value with one to three of its parts, at any depth, replaced by something odd."""
    value = copy.deepcopy(value)
    for _ in range(dice.randint(1, 3)):
        at: Any = value
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                break
            key = dice.choice(keys)
            if isinstance(at[key], dict | list) and dice.random() < 0.7:
                at = at[key]
                continue
            at[key] = copy.deepcopy(dice.choice(ODD))
            break
    return value


def check(reply: Reply) -> None:
    for text in (reply.thinking, reply.answer, reply.note):
        assert isinstance(text, str)
        text.encode("utf-8")
    usage = reply.usage
    assert 0 <= usage.input_tokens <= 10**9
    assert 0 <= usage.output_tokens <= 3 * 10**9
    assert 0 <= usage.cached_input_tokens <= usage.input_tokens
    assert reply.thinking_tokens is None or reply.thinking_tokens >= 0
    assert "None" not in (reply.thinking, reply.answer)
    json.dumps(reply.tool_calls, ensure_ascii=False).encode("utf-8")


@pytest.mark.parametrize("name", WIRES)
def test_any_change_to_a_good_reply_is_still_read_and_judged(name: str) -> None:
    dice = random.Random(0)
    for _ in range(1000):
        body = mutated(GOOD[name], dice)
        raw = json.dumps(body).encode()
        parsed = parse_body(raw)
        problem_in(parsed, raw)
        for wire in WIRES.values():
            check(read_reply(wire, body))
        for status in (400, 401, 403, 404, 418, 429, 500, 529):
            kind_of_status(status, body)
        retry_after({}, body)
        output_limit(body)


@pytest.mark.parametrize(
    "raw", [b"", b"null", b"[" * 100_000, b"\xff\xfe{", b"1" * 5000, b'{"a":' + b"9" * 5000 + b"}"]
)
def test_a_body_of_any_bytes_is_judged(raw: bytes) -> None:
    problem = problem_in(parse_body(raw), raw)
    assert problem is not None
    assert problem.retriable


@pytest.mark.parametrize(
    "message",
    [
        {"reasoning_content": "hm", "content": "4"},
        {"reasoning": "hm", "content": "4"},
        {"thinking": "hm", "content": "4"},
        {"thinking_blocks": [{"type": "thinking", "thinking": "hm"}], "content": "4"},
        {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}], "content": "4"},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "4"},
            ]
        },
        {"content": "<think>hm</think>4"},
        {"content": "<think>\nhm\n</think>\n\n4"},
        {"content": "hm</think>4"},
        {"content": "[THINK]hm[/THINK]4"},
        {"content": "<thinking>hm</thinking>4"},
        {"content": "<thought>hm</thought>4"},
        {"content": "<seed:think>hm</seed:think>4"},
        {"content": "◁think▷hm◁/think▷4"},
        {"content": "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>4<|return|>"},
    ],
    ids=lambda message: str(message)[:60],
)
def test_thinking_is_found_in_every_shape(message: dict[str, Any]) -> None:
    reply = read_reply(WIRES["openai"], {"choices": [{"message": message, "finish_reason": "stop"}]})
    assert (reply.thinking, reply.answer, reply.finish_reason) == ("hm", "4", "stop")


def test_a_closing_tag_in_plain_prose_splits_nothing() -> None:
    text = "Write `<think>` first and `</think>` last."
    reply = read_reply(WIRES["openai"], {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]})
    assert (reply.thinking, reply.answer) == ("", text)


def test_tokens_of_thinking_outside_the_completion_are_reconciled_by_the_total() -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 11010}
    body = {"choices": [{"message": {"content": "4"}, "finish_reason": "stop"}], "usage": usage}
    assert read_reply(WIRES["openai"], body).usage.output_tokens == 10_010


@pytest.mark.parametrize("reason", ["eos_token", "stop_sequence", "end_turn", "STOP", "eos", "stop", "COMPLETE"])
def test_a_whole_reply_is_whole_in_any_server_s_words(reason: str) -> None:
    body = {"choices": [{"message": {"content": "4"}, "finish_reason": reason}]}
    assert read_reply(WIRES["openai"], body).finish_reason == "stop"


def test_an_error_that_gemini_wraps_into_a_list_is_judged_by_what_it_says() -> None:
    """Gemini's streaming endpoint answers errors as a list of one object."""
    error = {"error": {"code": 429, "message": "Quota exceeded", "status": "RESOURCE_EXHAUSTED"}}
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}]
    error["error"]["details"] = details  # type: ignore[index]
    raw = json.dumps([error]).encode()
    body = parse_body(raw)
    assert body is not None
    assert kind_of_status(429, body) == "rate"
    assert retry_after({}, body) == 7.0
    problem = problem_in(body, raw)
    assert problem is not None
    assert (problem.kind, problem.text) == ("rate", "Quota exceeded")


ACCOUNT: list[tuple[str, int, Any, str]] = [
    (
        "Anthropic's monthly limit",
        400,
        "You have reached your specified API usage limits. You will regain access on",
        "credit",
    ),
    (
        "OpenRouter's limit of a key",
        403,
        {"error": {"code": 403, "message": "Key limit exceeded (total limit)."}},
        "credit",
    ),
    (
        "OpenRouter's free day",
        429,
        {"error": {"code": 429, "message": "Rate limit exceeded: free-models-per-day."}},
        "credit",
    ),
    ("Zhipu", 429, {"error": {"code": "1113", "message": "余额不足或无可用资源包,请充值。"}}, "credit"),
    (
        "DashScope's free tier",
        403,
        {"code": "AllocationQuota.FreeTierOnly", "message": "The free tier is used up."},
        "credit",
    ),
    ("DashScope's throttle", 429, {"code": "Throttling.AllocationQuota", "message": "Too many requests."}, "rate"),
    ("Fireworks", 412, {"error": {"message": "Account is suspended, check your billing"}}, "credit"),
    (
        "Groq",
        400,
        {"error": {"message": "Organization has been restricted.", "code": "organization_restricted"}},
        "credit",
    ),
    ("xAI", 403, {"error": "Your newly created team doesn't have any credits yet."}, "credit"),
    ("xAI, spent", 429, {"error": "You have run out of credits or reached your monthly spending limit."}, "credit"),
    ("LiteLLM's budget", 400, {"error": {"message": "Budget has been exceeded!", "type": "budget_exceeded"}}, "credit"),
    ("Azure", 403, {"error": {"code": "403", "message": "Out of call volume quota. It will be replenished"}}, "credit"),
    ("Vertex", 403, {"error": {"status": "PERMISSION_DENIED", "message": "This API requires billing"}}, "credit"),
    ("Gemini's plan", 429, {"error": {"code": 429, "message": "Quota exceeded, limit: 0\nPlease retry"}}, "credit"),
    ("Gemini's minute", 429, {"error": {"code": 429, "message": "Quota exceeded, limit: 10\nPlease retry"}}, "rate"),
    ("Cohere", 429, {"message": "You are using a Trial key, which is limited to 1000 API calls / month."}, "credit"),
    ("Moonshot", 429, {"error": {"type": "exceeded_current_quota_error", "message": "suspended"}}, "credit"),
    ("OpenAI's deactivated", 401, {"error": {"code": "account_deactivated", "message": "deactivated"}}, "key"),
    (
        "a question that speaks of money",
        403,
        {"error": {"message": "flagged", "metadata": {"flagged_input": "please recharge"}}},
        "refused",
    ),
    (
        "a question too long for a limit",
        413,
        {"error": {"message": "Request too large: Limit 6000, Requested 8000"}},
        "request",
    ),
]
"""Error bodies as providers send them, from their documents and from issues of their clients."""


@pytest.mark.parametrize(("who", "status", "body", "kind"), ACCOUNT, ids=[each[0] for each in ACCOUNT])
def test_what_an_account_cannot_do_is_told_from_what_passes(who: str, status: int, body: Any, kind: str) -> None:
    if isinstance(body, str):
        body = {"error": {"type": "invalid_request_error", "message": body}}
    assert kind_of_status(status, body, error_message(body)) == kind
    if kind == "credit":  # the same inside a reply with status 200
        problem = problem_in(body if "error" in body else {"error": body}, json.dumps(body).encode())
        assert problem is not None
        assert problem.kind == kind


def chat_reply(message: Any, reason: Any = "stop", tokens: int = 5, **fields: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens}
    return {"choices": [{"message": message, "finish_reason": reason, **fields}], "usage": usage}


def gemini_reply(content: Any, reason: str) -> dict[str, Any]:
    return {"candidates": [{"content": content, "finishReason": reason}], "usageMetadata": {"promptTokenCount": 9}}


TRANSIENT: dict[str, dict[str, Any]] = {
    "no text and no tokens": chat_reply({"role": "assistant", "content": None}, tokens=0),
    "an empty text and no tokens": chat_reply({"role": "assistant", "content": "", "tool_calls": []}, tokens=0),
    "a network error of Zhipu": chat_reply({"content": "The sum is"}, "network_error"),
    "a server error as finish": chat_reply({"content": "The"}, "server_error"),
    "Cohere's error": chat_reply({"content": "The"}, "USER_CANCEL"),
    "Gemini's broken call": gemini_reply({}, "MALFORMED_FUNCTION_CALL"),
    "Gemini's call without tools": gemini_reply(None, "UNEXPECTED_TOOL_CALL"),
    "Gemini's other": gemini_reply({"role": "model"}, "OTHER"),
    "a message of Anthropic without blocks": {
        "type": "message", "content": [], "stop_reason": "end_turn", "usage": {"input_tokens": 9, "output_tokens": 0}},
    "a chunk where no stream was asked for": {"choices": [{"delta": {"content": "4"}, "finish_reason": None}]},
    "the errors of Cloudflare": {"success": False, "errors": [{"code": 1031, "message": "Gateway error"}]},
    "an error as a text with a status": {"error": "upstream connect error", "status": 503},
}  # fmt: skip


@pytest.mark.parametrize("what", TRANSIENT)
def test_a_reply_that_no_model_wrote_is_asked_for_again(what: str) -> None:
    problem = problem_in(TRANSIENT[what], json.dumps(TRANSIENT[what]).encode())
    assert problem is not None
    assert problem.retriable


def test_an_error_text_beside_a_status_is_judged_by_the_status() -> None:
    body = {"error": "Insufficient funds", "requiredBalance": 0.0035, "status": 402}
    problem = problem_in(body, json.dumps(body).encode())
    assert problem is not None
    assert problem.kind == "credit"


ANSWERS: dict[str, tuple[dict[str, Any], tuple[str, str, str]]] = {
    "thinking in the field and in the text": (
        chat_reply({"reasoning_content": "hm", "content": "<think>hm</think>4"}), ("hm", "4", "stop")),
    "the end tag left in the text": (
        chat_reply({"reasoning_content": "hm", "content": "</think>\n\n4"}), ("hm", "4", "stop")),
    "a tag in prose beside the field": (
        chat_reply({"reasoning": "hm", "content": "Write </think> last."}), ("hm", "Write </think> last.", "stop")),
    "LiteLLM's own fields": (
        chat_reply({"content": "4", "provider_specific_fields": {"reasoning_content": "hm"}}), ("hm", "4", "stop")),
    "reasoning_text": (chat_reply({"content": "4", "reasoning_text": "hm"}), ("hm", "4", "stop")),
    "thought": (chat_reply({"content": "4", "thought": "hm"}), ("hm", "4", "stop")),
    "a plain completion": ({"choices": [{"text": "<think>hm</think>4", "finish_reason": "stop"}]}, ("hm", "4", "stop")),
    "only thinking, cut at the limit": (
        chat_reply({"content": None, "reasoning": "hm"}, "length"), ("hm", "", "length")),
    "tokens and no text": (chat_reply({"content": None}, tokens=7), ("", "", "empty")),
    "watsonx at its limit": (chat_reply({"content": "4"}, "token_limit"), ("", "4", "length")),
    "AI21": (chat_reply({"content": "4"}, "endoftext"), ("", "4", "stop")),
    "Cerebras": (chat_reply({"content": "4"}, "end_of_turn"), ("", "4", "stop")),
    "Cohere's filter": (chat_reply({"content": "I"}, "ERROR_TOXIC"), ("", "I", "refused")),
    "a filter without text": (chat_reply({"content": None}, "content_filter", 0), ("", "", "refused")),
    "a call and no text": (
        chat_reply({"content": None, "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}),
        ("", "", "stop")),
}  # fmt: skip


@pytest.mark.parametrize("what", ANSWERS)
def test_an_odd_answer_is_an_answer_and_read_as_what_it_is(what: str) -> None:
    body, expected = ANSWERS[what]
    assert problem_in(body, json.dumps(body).encode()) is None
    reply = read_reply(WIRES["openai"], body)
    assert (reply.thinking, reply.answer, reply.finish_reason) == expected


def test_the_day_s_limit_of_openrouter_says_when_it_ends() -> None:
    soon = str(int((time.time() + 3600) * 1000))
    error = {"error": {"message": "Rate limit exceeded", "metadata": {"headers": {"X-RateLimit-Reset": soon}}}}
    for seconds in (retry_after({}, error), retry_after({"x-ratelimit-reset": soon}, {})):
        assert seconds is not None
        assert 3500 < seconds <= 3600
    assert retry_after({"x-ratelimit-reset": "60"}, {}) is None
