"""Bodies of servers with an API of their own, and of gateways that wrap or bend another's, brought into a known shape.

A proxy that does not translate its upstream's replies, or puts an envelope around them, has still been paid for them.
Sources: docs.ollama.com/api, huggingface.github.io/text-generation-inference, docs.cohere.com/reference/chat,
github.com/ggml-org/llama.cpp (tools/server), developers.cloudflare.com/workers-ai, replicate.com/docs,
help.aliyun.com (DashScope), cloud.baidu.com (Qianfan), cloud.tencent.com (Hunyuan), lmstudio.ai/docs (REST),
ai.google.dev (Interactions), docs.sglang.ai (generate), docs.aws.amazon.com/bedrock (Titan), docs.reka.ai.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from s1kit.providers.wires.finish import finish_name
from s1kit.providers.wires.reading import count, dict_of, list_of, text_of

THINKING = (
    *("reasoning_content", "reasoning", "thinking", "reasoning_text", "thinking_content", "thought"),
    "tool_plan",
)
"""Names of the thinking: of DeepSeek, SGLang and llama.cpp; of vLLM and OpenRouter; of Ollama; of gateways; of Cohere
before it calls tools."""
Shape = Literal["chat", "message", "gemini", "response", "converse"]

_ENVELOPES = ("data", "result", "response", "output", "body")
"""Fields in which gateways put a reply; a line of a batch nests two."""
_COUNTS = {
    "prompt_tokens": (
        *("prompt_eval_count", "tokens_evaluated", "input_token_count", "prompt_token_count"),
        *("prompt_tokens", "input_tokens", "inputTextTokenCount"),
    ),
    "completion_tokens": (
        *("eval_count", "tokens_predicted", "output_token_count", "generated_tokens", "generated_token_count"),
        *(
            "generation_token_count",
            "output_tokens",
            "total_output_tokens",
            "completion_tokens",
            "tokenCount",
            "tokens",
        ),
    ),
}
"""Names of the counts of servers that have no `usage`: Ollama, llama.cpp, Replicate, TGI, Cohere, watsonx, Bedrock,
LM Studio, LMDeploy."""
_TEXTS = (
    *("generated_text", "generation", "content", "response", "result", "output", "output_text", "text"),
    *("outputText", "text_output"),  # Titan, Triton
)
_SEVERAL = ("results", "predictions", "completions", "outputs", "output", "generations", "responses")
"""Lists of which the first is the reply: of watsonx, Databricks, AI21, Mistral on Bedrock, RunPod, Cohere, Reka."""
_BY_TYPE = dict.fromkeys(("reasoning", "thinking", "thought"), True) | dict.fromkeys(
    ("message", "text", "output_text", "model_output"), False
)
"""Types of the items of an output, and whether they are thinking: of LM Studio's and Gemini's newer APIs."""
_SIGNS_OF_A_MODEL = {
    *("usage", "finish_reason", "done", "done_reason", "stop_type", "details", "metrics", "is_truncated"),
    *("tokens_predicted", "eval_count", "generated_text", "output_text", "generation_id", "generation", "stop_reason"),
    *("finishReason", "generated_token_count", "meta_info", "text_output", "completionReason"),
}
"""One of these stands beside a text that a model wrote; a text alone may be any page's."""


def shape_of(body: Mapping[str, Any]) -> Shape | None:
    """Which API's reply a body is, None for none: errors, and shapes that `usual` does not know."""
    if isinstance(body.get("choices"), list):
        return "chat" if body["choices"] and isinstance(body["choices"][0], Mapping) else None
    if list_of(body.get("candidates")) or dict_of(body.get("promptFeedback")).get("blockReason"):
        return "gemini"
    if body.get("type") == "message" and isinstance(body.get("content"), list):
        return "message"
    output = body.get("output")
    if isinstance(output, list) and "status" in body and all(isinstance(o, Mapping) and "type" in o for o in output):
        return "response" if output or not body.get("output_text") else None
    return "converse" if isinstance(dict_of(output).get("message"), Mapping) else None


def usual(body: Mapping[str, Any], depth: int = 2) -> Mapping[str, Any]:
    """The body as one of the shapes of `shape_of` where it holds a reply, else as it is. Total: any JSON passes.

    >>> usual({"message": {"content": "4"}, "done": True, "done_reason": "stop", "eval_count": 5})["choices"]
    [{'message': {'content': '4'}, 'finish_reason': 'stop'}]
    >>> usual({"code": 0, "data": {"choices": [{"text": "4"}]}})["choices"]
    [{'text': '4'}]
    """
    shape = shape_of(body)
    if shape == "chat":
        return _with_message(body)
    if shape is not None:
        return body
    if isinstance(inner := body.get("Response"), Mapping):  # Hunyuan, whose names are in capitals
        return usual(_in_small_letters(inner), 0)
    for known in (_almost(body), _typed_output(body), _inside(body, depth - 1) if depth else None):
        if known is not None:
            return known
    if isinstance(message := body.get("message"), Mapping) and not {"content", "tool_calls"}.isdisjoint(message):
        return _completion(body, {"message": message})
    if _SIGNS_OF_A_MODEL.isdisjoint(body) and body.get("success") is not True and body.get("status") != "succeeded":
        return body
    for source in (body, dict_of(body.get("result")), dict_of(body.get("output"))):
        text = next((_joined(source[name]) for name in _TEXTS if _joined(source.get(name))), None)
        if text is not None:
            return _completion({**body, **source}, {"text": text} | {n: source[n] for n in THINKING if n in source})
    return body


def _almost(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """A body with an object or a text where its API has a list; None for any other."""
    if isinstance(body.get("choices"), Mapping):
        return {**body, "choices": [body["choices"]]}
    if body.get("type") == "message" and isinstance(body.get("content"), str):
        return {**body, "content": [{"type": "text", "text": body["content"]}]}
    return None


def _inside(body: Mapping[str, Any], depth: int) -> Mapping[str, Any] | None:
    """The reply that stands in an object of the body, or first in a list of it; None where none does."""
    for name in _ENVELOPES:
        if isinstance(inner := body.get(name), Mapping):
            unwrapped = usual(inner, depth)
            if shape_of(unwrapped) is not None:
                return {"usage": body.get("usage"), **unwrapped} if body.get("usage") else unwrapped
    for name in _SEVERAL:
        if (several := body.get(name)) and isinstance(several, list) and isinstance(several[0], Mapping):
            first = several[0]
            rest = {key: value for key, value in body.items() if key not in (name, "status")}
            unwrapped = usual({"finish_reason": None, **rest, **first, **dict_of(first.get("data"))}, depth)
            if shape_of(unwrapped) == "chat":
                return unwrapped
    return None


def _in_small_letters(value: Any, depth: int = 6) -> Any:
    """JSON with names such as `FinishReason` written as `finish_reason`."""
    if depth and isinstance(value, Mapping):
        return {
            _CAPITALS.sub("_", name).lower() if isinstance(name, str) else name: _in_small_letters(inner, depth - 1)
            for name, inner in value.items()
        }
    return [_in_small_letters(inner, depth - 1) for inner in value] if depth and isinstance(value, list) else value


_CAPITALS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def _typed_output(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """A completion from an output whose items say what they are, without the rest of OpenAI's response."""
    items = list_of(body.get("outputs")) or list_of(body.get("output")) or list_of(body.get("steps"))
    if not items or not all(isinstance(item, Mapping) and isinstance(item.get("type"), str) for item in items):
        return None
    said: dict[bool, list[str]] = {True: [], False: []}
    for item in items:
        if (is_thought := _BY_TYPE.get(item["type"])) is not None:
            said[is_thought].append(next((t for n in _IN_ITEMS if (t := text_of(item.get(n)))), ""))
    message: dict[str, Any] = {"content": "".join(said[False]), "reasoning": "".join(said[True])}
    if calls := [item for item in items if item["type"] == "function_call" and isinstance(item.get("name"), str)]:
        message["tool_calls"] = [{"id": call.get("id"), "function": call} for call in calls]
    if not calls and not any(said.values()):
        return None
    return _completion({"finish_reason": body.get("status"), **body}, {"message": message})


_IN_ITEMS = ("content", "text", "summary")


def _with_message(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """A completion whose first choice has its message in a list (MiniMax) or as a text (Snowflake), or its text as
    tokens (RunPod)."""
    choice = body["choices"][0]
    if "message" in choice or isinstance(choice.get("text"), str):
        return _with_one_choice(body) if len(body["choices"]) > 1 else body
    said: dict[str, Any] = {}
    messages = choice.get("messages")
    if isinstance(messages, list) and messages and isinstance(messages[-1], Mapping):
        said["message"] = {"content": messages[-1].get("text"), **messages[-1]}
    elif isinstance(messages, str):
        said["text"] = messages.strip()
    elif (text := _joined(choice.get("tokens"))) is not None:
        said["text"] = text
    return {**body, "choices": [{**choice, **said}]} if said else body


def _with_one_choice(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """A completion whose message is spread over choices of one index, as GitHub Copilot sends thinking and calls."""
    choices = [dict_of(choice) for choice in body["choices"]]
    if any(choice.get("index", 0) != choices[0].get("index", 0) for choice in choices):
        return body
    message: dict[str, Any] = {}
    for choice in choices:
        message |= {name: value for name, value in dict_of(choice.get("message")).items() if not message.get(name)}
    return {**body, "choices": [{**choices[-1], **choices[0], "message": message}]}


def _joined(value: Any) -> str | None:
    """A text, or a list of its pieces as one (Replicate)."""
    if isinstance(value, list) and value and all(isinstance(piece, str) for piece in value):
        return "".join(value)
    return value if isinstance(value, str) else None


def _completion(body: Mapping[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """A chat completion of one choice, with the finish reason and the counts from wherever the server puts them."""
    details = dict_of(body.get("details")) or dict_of(body.get("meta_info"))  # TGI, SGLang
    named = dict_of(body.get("finishReason")).get("reason") or body.get("finishReason")  # AI21
    told = (body.get("finish_reason"), body.get("done_reason"), body.get("stop_type"), body.get("stop_reason"), named,
            details.get("finish_reason"), dict_of(body.get("metadata")).get("finish_reason"),
            body.get("completionReason"))  # fmt: skip
    reason: Any = next((reason for reason in told if finish_name(reason)), None)
    if body.get("is_truncated") is True or body.get("truncated") is True:
        reason = "length"
    completion = {"choices": [{**said, "finish_reason": reason}]}
    if usage := _usage(body, details):
        completion["usage"] = usage
    return completion


def _usage(body: Mapping[str, Any], details: Mapping[str, Any]) -> Any:
    usage = body.get("usage")
    if isinstance(usage, Mapping):
        return {**usage, **usage["tokens"]} if isinstance(usage.get("tokens"), Mapping) else usage  # Cohere
    sources = (body, body.get("metrics"), body.get("stats"), details)
    found = {
        name: next((n for source in sources if (n := count(source, *names)) is not None), None)
        for name, names in _COUNTS.items()
    }
    return {name: number for name, number in found.items() if number is not None}
