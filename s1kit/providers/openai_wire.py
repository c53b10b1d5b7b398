"""The wire format of OpenAI's chat completions, and its dialects.

Sources: platform.openai.com/docs/api-reference/chat, api-docs.deepseek.com/guides/reasoning_model,
openrouter.ai/docs/use-cases/reasoning-tokens, docs.vllm.ai (reasoning outputs). Dialects differ in where the thinking
is (`reasoning_content`: DeepSeek, SGLang, llama.cpp; `reasoning`: vLLM, OpenRouter; `<think>` in the text; nowhere:
OpenAI) and in the name of the output limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from s1kit.errors import InputError
from s1kit.providers.chat import Call, ChatRequest, Reply, settle_finish, split_thinking
from s1kit.records import FinishReason, Usage

Dialect = Literal["openai", "deepseek", "openrouter", "compatible"]

_FINISH: dict[str | None, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "length": "length",
    "content_filter": "refused",
    # DeepSeek broke off for lack of resources: the tokens are there and were charged.
    "insufficient_system_resource": "failed",
}


@dataclass(frozen=True)
class OpenAIWire:
    """OpenAI, DeepSeek, OpenRouter, and servers that speak the same."""

    name: Dialect

    def headers(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"} if key else {}

    def call(self, request: ChatRequest) -> Call:
        p = request.parameters
        body: dict[str, Any] = {"model": request.model, "messages": [dict(m) for m in request.messages]}
        body["max_completion_tokens" if self.name == "openai" else "max_tokens"] = p.max_output_tokens
        for field, value in [("temperature", p.temperature), ("top_p", p.top_p), ("seed", p.seed)]:
            if value is not None:
                body[field] = value
        if self.name == "openrouter":
            reasoning = {"effort": p.reasoning_effort, "max_tokens": p.thinking_budget}
            body["reasoning"] = {k: v for k, v in reasoning.items() if v is not None} or {"enabled": p.thinking}
            body["usage"] = {"include": True}
        else:
            if p.reasoning_effort is not None:
                body["reasoning_effort"] = p.reasoning_effort
            if p.thinking_budget is not None:
                if self.name != "compatible":
                    raise InputError(
                        f"{self.name} takes no thinking budget", where="thinking_budget", fix="Use reasoning_effort."
                    )
                body["thinking_token_budget"] = p.thinking_budget  # vLLM's name
        return Call("/chat/completions", body | p.extra)

    def read(self, body: Mapping[str, Any]) -> Reply:
        usage, reasoning_tokens = _usage(body.get("usage"))
        choices = body.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            return Reply(finish_reason="malformed", usage=usage, note="the reply has no choices")
        choice = choices[0]
        message = choice.get("message")
        if not isinstance(message, dict):
            return Reply(finish_reason="malformed", usage=usage, note="the reply has no message")
        content = _text(message.get("content"))
        thinking, answer, closed = _thinking(message), content, True
        if not thinking:
            thinking, answer, closed = split_thinking(content)
        finish = _FINISH.get(choice.get("finish_reason"), "malformed")
        note = "" if finish != "malformed" else f"finish_reason is {choice.get('finish_reason')!r}"
        if isinstance(message.get("refusal"), str) and message["refusal"]:
            finish, answer = "refused", answer or message["refusal"]
        if not closed and finish == "stop":
            note = "thinking was never closed"
        if not thinking and reasoning_tokens:
            note = (
                f"OpenAI does not show its thinking ({reasoning_tokens} tokens)"
                if self.name == "openai"
                else f"the server dropped the thinking ({reasoning_tokens} tokens)"
            )
        return Reply(thinking, answer, settle_finish(finish, answer), usage, reasoning_tokens, note)


def _text(content: Any) -> str:
    """A message's content: a string, null, or a list of text parts."""
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _thinking(message: Mapping[str, Any]) -> str:
    for name in ("reasoning_content", "reasoning"):
        if isinstance(message.get(name), str) and message[name]:
            return str(message[name])
    details = message.get("reasoning_details")
    if isinstance(details, list):
        return "".join(d.get("text") or d.get("summary") or "" for d in details if isinstance(d, dict))
    return ""


def _usage(usage: Any) -> tuple[Usage, int | None]:
    if not isinstance(usage, dict):
        return Usage(), None
    cached = _number(usage.get("prompt_tokens_details"), "cached_tokens") or _number(usage, "prompt_cache_hit_tokens")
    reasoning = _number(usage.get("completion_tokens_details"), "reasoning_tokens")
    return (
        Usage(
            input_tokens=_number(usage, "prompt_tokens") or 0,
            output_tokens=_number(usage, "completion_tokens") or 0,
            cached_input_tokens=cached or 0,
        ),
        reasoning,
    )


def _number(mapping: Any, name: str) -> int | None:
    value = mapping.get(name) if isinstance(mapping, dict) else None
    return value if type(value) is int else None
