"""Replies of servers with an API of their own, and of gateways that wrap, rename or leave bare another's.

Shapes from the documents of Ollama, TGI, Cohere, llama.cpp, Cloudflare, Replicate, DashScope, Qianfan, Groq, Bedrock,
OpenAI and Google, and from issues of decolua/9router, open-webui, mini-swe-agent and spacedriveapp/spacebot.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from s1kit.forcing.delimiters import split_thinking
from s1kit.providers.bodies import error_message, parse_body
from s1kit.providers.chat import Reply
from s1kit.providers.classify import problem_in
from s1kit.providers.signs import kind_of_status
from s1kit.providers.wires.replies import read_reply
from tests.test_provider_replies import WIRES

USAGE = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
WHOLE = ("hm", "4", "stop")


def chat(message: Any, reason: Any = "stop", **choice: Any) -> dict[str, Any]:
    return {"choices": [{"message": message, "finish_reason": reason, **choice}], "usage": USAGE}


def gemini(parts: list[dict[str, Any]], reason: str = "STOP") -> dict[str, Any]:
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 5, "totalTokenCount": 14}
    return {"candidates": [{"content": {"parts": parts}, "finishReason": reason}], "usageMetadata": usage}


def read(body: Any, wire: str = "openai") -> Reply:
    raw = json.dumps(body).encode()
    parsed = parse_body(raw)
    assert parsed is not None
    assert problem_in(parsed, raw) is None
    return read_reply(WIRES[wire], parsed)


OWN_API: dict[str, Any] = {
    "Ollama": {
        "model": "q", "message": {"role": "assistant", "content": "4", "thinking": "hm"}, "done": True,
        "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 5},
    "Cohere": {
        "message": {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "4"}]},
        "finish_reason": "COMPLETE",
        "usage": {"billed_units": {"output_tokens": 3}, "tokens": {"input_tokens": 9, "output_tokens": 5}}},
    "DashScope": {
        "code": "", "message": "", "usage": {"input_tokens": 9, "output_tokens": 5},
        "output": {"text": None, "choices": [{"finish_reason": "stop", "message": {
            "content": "4", "reasoning_content": "hm"}}]}},
    "Qianfan": {"result": "<think>hm</think>4", "is_truncated": False, "finish_reason": "normal", "usage": USAGE},
    "llama.cpp": {
        "content": "<think>hm</think>4", "stop": True, "stop_type": "eos", "tokens_predicted": 5,
        "tokens_evaluated": 9},
    "Cloudflare": {"result": {"response": "<think>hm</think>4", "usage": USAGE}, "success": True, "errors": []},
    "Replicate": {
        "status": "succeeded", "output": ["<think>h", "m</think>", "4"], "error": None,
        "metrics": {"input_token_count": 9, "output_token_count": 5}},
    "watsonx": {"results": [{
        "generated_text": "<think>hm</think>4", "generated_token_count": 5, "input_token_count": 9,
        "stop_reason": "eos_token"}]},
    "Llama on Bedrock": {
        "generation": "<think>hm</think>4", "prompt_token_count": 9, "generation_token_count": 5,
        "stop_reason": "stop"},
    "RunPod": {"status": "COMPLETED", "output": [
        {"choices": [{"tokens": ["<think>hm", "</think>4"]}], "usage": USAGE}]},
    "MiniMax": {"usage": USAGE, "base_resp": {"status_code": 0, "status_msg": ""}, "choices": [
        {"finish_reason": "stop", "messages": [{"sender_type": "BOT", "text": "<think>hm</think>4"}]}]},
    "an envelope": {"code": 0, "msg": "success", "data": chat({"content": "4", "reasoning_content": "hm"})},
    "a line of a batch": {"custom_id": "q", "error": None, "response": {
        "status_code": 200, "body": chat({"content": "4", "reasoning_content": "hm"})}},
    "choices that are no list": chat({"content": "4", "reasoning": "hm"}) | {
        "choices": {"message": {"content": "4", "reasoning": "hm"}, "finish_reason": "stop"}},
    "thinking beside the message": chat({"content": "4"}, reasoning="hm"),
    "usage in a list": chat({"content": "<think>hm</think>4"}) | {"usage": [USAGE]},
    "an error that is none": chat({"content": "4", "reasoning": "hm"}) | {"error": {"code": 0, "message": ""}},
}  # fmt: skip


@pytest.mark.parametrize("what", OWN_API)
def test_a_reply_of_another_server_s_own_api_is_an_answer_with_its_thinking_and_counts(what: str) -> None:
    reply = read(OWN_API[what])
    assert (reply.thinking, reply.answer, reply.finish_reason) == WHOLE
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (9, 5)


def test_a_server_that_counts_nothing_but_the_output_is_read() -> None:
    body = [{"generated_text": "<think>hm</think>4", "details": {"finish_reason": "length", "generated_tokens": 5}}]
    reply = read(body)
    assert (reply.thinking, reply.answer, reply.finish_reason, reply.usage.output_tokens) == ("hm", "4", "length", 5)


def test_a_text_without_a_sign_of_a_model_is_no_answer() -> None:
    for body in ({"response": "ok"}, {"result": "Service busy"}, {"content": "<html>", "status": 200}):
        assert problem_in(body, b"x") is not None


@pytest.mark.parametrize("asked", WIRES)
def test_a_gateway_that_answers_in_another_api_s_shape_is_read_as_what_it_sends(asked: str) -> None:
    bodies: tuple[dict[str, Any], ...] = (
        chat({"content": "4", "reasoning": "hm"}),
        gemini([{"text": "hm", "thought": True}, {"text": "4"}]),
        {"response": gemini([{"text": "hm", "thought": True}, {"text": "4"}])},
        {"type": "message", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "4"}]},
        {"type": "message", "content": "<think>hm</think>4", "stop_reason": "end_turn"},
        {"object": "response", "status": "completed", "output": [], "output_text": "<think>hm</think>4"},
    )
    for body in bodies:
        reply = read(body, asked)
        assert (reply.thinking, reply.answer, reply.finish_reason) == WHOLE


def test_the_chunks_of_gemini_s_stream_in_one_array_are_put_together() -> None:
    chunks = [gemini([{"text": "hm", "thought": True}]), gemini([{"text": "4"}])]
    reply = read(chunks, "gemini")
    assert (reply.thinking, reply.answer, reply.finish_reason) == WHOLE


def test_a_model_that_ollama_only_loaded_has_not_answered() -> None:
    problem = problem_in({"message": {"content": ""}, "done": True, "done_reason": "load"}, b"x")
    assert problem is not None
    assert problem.retriable


@pytest.mark.parametrize("wire", WIRES)
def test_thinking_between_tags_is_split_off_whatever_the_api(wire: str) -> None:
    """Servers of open models offer Anthropic's, Gemini's and the Responses API, too, and leave the tags in the text."""
    text = "<think>hm</think>4"
    body = {
        "openai": chat({"content": text}),
        "anthropic": {"type": "message", "content": [{"type": "text", "text": text}], "stop_reason": "end_turn"},
        "gemini": gemini([{"text": text}]),
        "responses": {"status": "completed", "output": [{"type": "message", "content": [{"text": text}]}]},
    }[wire]
    reply = read(body, wire)
    assert (reply.thinking, reply.answer, reply.finish_reason) == WHOLE


def test_thinking_that_was_never_closed_is_said_whatever_the_api() -> None:
    body = {"type": "message", "content": [{"type": "text", "text": "<think>hm"}], "stop_reason": "end_turn"}
    reply = read(body, "anthropic")
    assert (reply.thinking, reply.finish_reason, reply.note) == ("hm", "empty", "thinking was never closed")


@pytest.mark.parametrize(
    "text",
    [
        "analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>4<|return|>",
        "analysishmassistantfinal4",
    ],
)
def test_gpt_oss_s_channels_are_told_apart_without_their_special_tokens(text: str) -> None:
    parsed = split_thinking(text)
    assert (parsed.thinking, parsed.answer, parsed.is_closed) == ("hm", "4", True)
    assert split_thinking("analysis of the assistant's final draft").thinking == ""


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("&lt;think&gt;1 &lt; 2&lt;/think&gt;4", ("1 < 2", "4", "stop")),
        ('<details type="reasoning" done="true">\n<summary>Thought</summary>\n> a\n> b\n</details>\n4',
         ("a\nb", "4", "stop")),
        ("<think>\n\n</think>\n\n4", ("", "4", "stop")),
        ("\ufeff<think>hm</think>4", ("hm", "4", "stop")),
        ("\u200b<THINK>hm</Think>4", ("hm", "4", "stop")),
        ('<think type="deep">hm</think>4', ("hm", "4", "stop")),
        ("hm<|end_of_thought|>4", ("hm", "4", "stop")),
        ("Use <thinkable> here.", ("", "Use <thinkable> here.", "stop")),
        (4, ("", "4", "stop")),
        ({"answer": 4}, ("", '{"answer": 4}', "stop")),
        ([{"type": "refusal", "refusal": "I cannot"}], ("", "I cannot", "refused")),
    ],
)  # fmt: skip
def test_content_that_a_gateway_has_rewritten_is_read(content: Any, expected: tuple[str, str, str]) -> None:
    reply = read(chat({"content": content}))
    assert (reply.thinking, reply.answer, reply.finish_reason) == expected


@pytest.mark.parametrize(
    ("choice", "finish"),
    [
        ({"finish_reason": ["stop"]}, "stop"),
        ({"finish_reason": "FINISH_REASON_STOP"}, "stop"),
        ({"finish_reason": "FinishReason.MAX_TOKENS"}, "length"),
        ({"finish_reason": 1}, "stop"),
        ({"finish_reason": 2}, "length"),
        ({"finish_reason": 77}, "malformed"),
        ({"finish_reason": {"type": "length"}}, "length"),
        ({"finish_details": {"type": "max_tokens"}}, "length"),
        ({"finish_reason": None, "native_finish_reason": "STOP"}, "stop"),
        ({"finish_reason": "stop", "native_finish_reason": "MAX_TOKENS"}, "length"),
        ({"finish_reason": "stop", "native_finish_reason": "SAFETY"}, "refused"),
        ({"finish_reason": "stop", "native_finish_reason": "whatever"}, "stop"),
        ({"finish_reason": "repetition"}, "length"),
    ],
)
def test_a_finish_reason_is_known_in_any_form(choice: dict[str, Any], finish: str) -> None:
    reply = read({"choices": [{"message": {"content": "4"}, **choice}], "usage": USAGE})
    assert reply.finish_reason == finish


@pytest.mark.parametrize("reason", ["MISSING_THOUGHT_SIGNATURE", "TOO_MANY_TOOL_CALLS", "MALFORMED_RESPONSE"])
def test_a_reply_that_gemini_gave_up_on_is_asked_again_although_it_counts_tokens(reason: str) -> None:
    for parts in ([], [{"text": "x"}]):
        problem = problem_in(gemini(parts, reason), b"x")
        assert problem is not None
        assert problem.retriable
        assert problem.may_be_charged


def told(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


STATUSES: list[tuple[str, int, Any, str]] = [
    ("Anthropic's filter", 400, told("Output blocked by content filtering policy"), "refused"),
    ("Azure's filter", 400, told("Filtered due to Azure OpenAI's content management policy"), "refused"),
    ("Google's cancellation", 499, told("The operation was cancelled.", status="CANCELLED"), "server"),
    ("Groq's flex tier", 498, told("capacity exceeded", code="capacity_exceeded"), "rate"),
    ("a misdirected request", 421, "", "server"),
    ("a legal reason", 451, {"error": "Unavailable For Legal Reasons"}, "location"),
    ("a project without the model", 403,
     told("Project `p` does not have access to model `o3`", code="model_not_found"), "model"),
    ("a request larger than a minute's tokens", 429,
     told("Request too large for gpt-4o: Limit 30000, Requested 44000.", code="rate_limit_exceeded"), "request"),
    ("Bedrock without a profile", 400, {"message": "Invocation of model ID x with on-demand throughput"}, "model"),
    ("Hugging Face's router", 400, told("The requested model 'x' is not a chat model."), "model"),
    ("Together's model", 400, told("Unable to access non-serverless model x", code="model_not_available"), "model"),
    ("Bedrock's model", 400, {"message": "The provided model identifier is invalid."}, "model"),
    ("xAI's check", 403, {"error": "Content violates usage guidelines. SAFETY_CHECK_TYPE_BIO"}, "refused"),
    ("New API's balance", 403, told("用户额度不足", code="insufficient_user_quota"), "credit"),
    ("Azure's deployment", 400, told("The API deployment does not exist.", code="DeploymentNotFound"), "model"),
    ("Gemini's day", 429, told("You exceeded your current quota", status="RESOURCE_EXHAUSTED", details=[
        {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}]), "credit"),
    ("Gemini's minute", 429, told("You exceeded your current quota", status="RESOURCE_EXHAUSTED", details=[
        {"violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}]}]), "rate"),
]  # fmt: skip


@pytest.mark.parametrize(("who", "status", "body", "kind"), STATUSES, ids=[each[0] for each in STATUSES])
def test_a_status_is_judged_with_its_words(who: str, status: int, body: Any, kind: str) -> None:
    assert kind_of_status(status, body, error_message(body)) == kind


def test_a_question_that_openrouter_flags_as_502_is_not_asked_again() -> None:
    body = told("This content was flagged for possible cybersecurity risk.", code=502)
    problem = problem_in(body, json.dumps(body).encode())
    assert problem is not None
    assert problem.kind == "refused"
