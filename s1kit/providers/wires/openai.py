"""The wire format of OpenAI's chat completions, and its dialects.

Sources: platform.openai.com/docs/api-reference/chat, api-docs.deepseek.com/guides/reasoning_model,
openrouter.ai/docs/use-cases/reasoning-tokens, docs.vllm.ai (reasoning outputs). Dialects differ in where the thinking
is, which `thinking_in` knows, and in the name of the output limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from s1kit.errors import InputError
from s1kit.providers.chat import Call, ChatRequest, Reply, settle_finish
from s1kit.providers.wires.conversation import call_of
from s1kit.providers.wires.extra import with_extra
from s1kit.providers.wires.finish import finish_of_choice
from s1kit.providers.wires.reading import count, dict_of, hidden_thinking, list_of, notes, reported_cost, whole_usage
from s1kit.providers.wires.streams import ChatAssembler
from s1kit.providers.wires.thinking import thinking_in
from s1kit.records import Usage

Dialect = Literal["openai", "azure", "deepseek", "openrouter", "compatible"]


@dataclass(frozen=True)
class OpenAIWire:
    """OpenAI, DeepSeek, OpenRouter, and servers that speak the same."""

    name: Dialect
    query: str = ""
    """What follows the path: Azure's version of the API."""

    def headers(self, key: str) -> dict[str, str]:
        if self.name == "azure":
            return {"api-key": key} if key else {}
        return {"Authorization": f"Bearer {key}"} if key else {}

    def call(self, request: ChatRequest) -> Call:
        p = request.parameters
        body: dict[str, Any] = {"model": request.model, "messages": [dict(m) for m in request.messages]}
        body["max_completion_tokens" if self.name in ("openai", "azure") else "max_tokens"] = p.max_output_tokens
        for field, value in [("temperature", p.temperature), ("top_p", p.top_p), ("seed", p.seed)]:
            if value is not None:
                body[field] = value
        if self.name == "openrouter":
            reasoning = {"effort": p.reasoning_effort, "max_tokens": p.thinking_budget or None}
            is_wanted = p.thinking and p.thinking_budget != 0
            body["reasoning"] = {k: v for k, v in reasoning.items() if v is not None} or {"enabled": is_wanted}
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
        if request.tools:
            body["tools"] = [dict(tool) for tool in request.tools]
        return Call(f"/chat/completions{self.query}", with_extra(body, p.extra))

    def streamed(self, call: Call, *, with_usage: bool = True) -> Call:
        options = {"stream_options": {"include_usage": True}} if with_usage else {}
        return Call(call.path, {**call.body, "stream": True, **options})

    def assembler(self) -> ChatAssembler:
        return ChatAssembler()

    def read(self, body: Mapping[str, Any]) -> Reply:
        choices = list_of(body.get("choices"))
        choice = dict_of(choices[0]) if choices else {}
        # Groq's and Moonshot's streams report it elsewhere.
        told = body.get("usage") or dict_of(body.get("x_groq")).get("usage") or choice.get("usage")
        usage, reasoning_tokens = _usage(told)
        cost = reported_cost(told)
        message = choice.get("message")
        if message is None and isinstance(choice.get("text"), str):  # a server of plain completions
            message = {"content": choice["text"]}
        if not isinstance(message, Mapping):
            return Reply(finish_reason="malformed", usage=usage, note="the reply has no message")
        thinking, answer, closed = thinking_in({n: v for n, v in choice.items() if n != "text"} | dict(message))
        finish, note = finish_of_choice(choice)
        if refusal := _refusal_in(message):
            finish, answer = "refused", answer or refusal
        if not closed and finish == "stop":
            note = notes(note, "thinking was never closed")
        if not thinking and reasoning_tokens:
            who = "OpenAI" if self.name in ("openai", "azure") else "the server"
            note = notes(note, hidden_thinking(reasoning_tokens, who))
        calls = tuple(
            call_of(call.get("id"), *(dict_of(call.get("function")).get(name) for name in ("name", "arguments")))
            for call in map(dict_of, list_of(message.get("tool_calls")))
        )
        return Reply(
            thinking,
            answer,
            settle_finish(finish, answer, calls),
            usage,
            reasoning_tokens,
            note,
            reported_cost_usd=cost,
            tool_calls=calls,
        )


def _refusal_in(message: Mapping[str, Any]) -> str:
    """What a model declines with: a field of the message, or parts of its content."""
    parts = [dict_of(part).get("refusal") for part in list_of(message.get("content"))]
    return "".join(text for text in (message.get("refusal"), *parts) if isinstance(text, str))


def _usage(usage: Any) -> tuple[Usage, int | None]:
    """Usage, and the tokens of thinking. Some servers leave those out of `completion_tokens`; the total tells.

    Others count the input that was read from a cache, or written to it, beside `prompt_tokens`; the total tells that,
    too.
    """
    if isinstance(usage, list) and len(usage) == 1:
        usage = usage[0]
    details = dict_of(usage).get("prompt_tokens_details") or dict_of(usage).get("input_tokens_details")
    cached = count(details, "cached_tokens") or count(usage, *_CACHED) or 0
    reasoning = count(dict_of(usage).get("completion_tokens_details"), "reasoning_tokens")
    if reasoning is None:
        reasoning = count(dict_of(usage).get("output_tokens_details"), "reasoning_tokens")
    if reasoning is None:
        reasoning = count(usage, "reasoning_tokens", "total_thought_tokens")
    given = count(usage, "prompt_tokens", "input_tokens", "promptTokens", "inputTokens", "total_input_tokens") or 0
    output = count(usage, *_OUTPUT) or 0
    total = (count(usage, "total_tokens", "totalTokens") or 0) - (count(usage, "total_tool_use_tokens") or 0)
    beside = (count(usage, "cache_read_input_tokens") or 0) + (count(usage, "cache_creation_input_tokens") or 0)
    return whole_usage(given, beside, cached, output, reasoning or 0, total), reasoning


_OUTPUT = ("completion_tokens", "output_tokens", "completionTokens", "outputTokens", "total_output_tokens")
_CACHED = ("prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens", "total_cached_tokens")
"""DeepSeek's, Moonshot's, Anthropic's, and Gemini's newer name for input that was read from a cache."""
