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
from s1kit.forcing.delimiters import DELIMITERS, split_thinking
from s1kit.providers.chat import Call, ChatRequest, Reply, settle_finish
from s1kit.providers.wires.conversation import call_of
from s1kit.providers.wires.reading import count, dict_of, dollars, finish_of, hidden_thinking, list_of, text_of
from s1kit.providers.wires.streams import ChatAssembler
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
        if request.tools:
            body["tools"] = [dict(tool) for tool in request.tools]
        return Call(f"/chat/completions{self.query}", body | p.extra)

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
        cost = _reported_cost(told)
        message = choice.get("message")
        if message is None and isinstance(choice.get("text"), str):  # a server of plain completions
            message = {"content": choice["text"]}
        if not isinstance(message, Mapping):
            return Reply(finish_reason="malformed", usage=usage, note="the reply has no message")
        thinking, answer, closed = thinking_in(message)
        finish, note = finish_of(choice.get("finish_reason"))
        if isinstance(message.get("refusal"), str) and message["refusal"]:
            finish, answer = "refused", answer or message["refusal"]
        if not closed and finish == "stop":
            note = "thinking was never closed"
        if not thinking and reasoning_tokens:
            note = hidden_thinking(reasoning_tokens, "OpenAI" if self.name in ("openai", "azure") else "the server")
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


def _reported_cost(usage: Any) -> float | None:
    """OpenRouter's `usage.cost`; with a key of the user's own at the provider, that is the fee beside the real cost."""
    cost = dollars(usage, "cost")
    if cost is None or dict_of(usage).get("is_byok") is not True:
        return cost
    return cost + (dollars(dict_of(usage).get("cost_details"), "upstream_inference_cost") or 0.0)


_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_text", "thinking_content", "thought")
"""Names of the thinking: of DeepSeek, SGLang and llama.cpp; of vLLM and OpenRouter; of Ollama; of gateways."""
_TAGS = tuple(tag for pair in DELIMITERS for tag in pair)


def thinking_in(message: Mapping[str, Any]) -> tuple[str, str, bool]:
    """Thinking, answer, and whether the thinking was closed, of a message in any known shape.

    Fields of their own: those of `_FIELDS`, `thinking_blocks` (LiteLLM), `reasoning_details` (OpenRouter); a list of
    content with `thinking` parts (Mistral, docs.mistral.ai/capabilities/reasoning); else between delimiters.
    """
    content = message.get("content")
    thinking = _named_thinking(message)
    if isinstance(content, list):
        thoughts = [part for part in map(dict_of, content) if _is_thought(part)]
        thinking = thinking or "".join(map(_thought_in, thoughts))
        answer = text_of([part for part in content if not _is_thought(dict_of(part))])
    else:
        answer = text_of(content)
    if thinking:
        return _untangled(thinking, answer)
    parsed = split_thinking(answer)
    return (parsed.thinking, parsed.answer, parsed.is_closed) if parsed.thinking else ("", answer, parsed.is_closed)


def _untangled(thinking: str, answer: str) -> tuple[str, str, bool]:
    """Thinking of a field of its own, and an answer. Some servers leave the thinking, or its end, in the answer as
    well; some leave the tags in the field; some that miss the end of the thinking put the answer there, too."""
    parsed = split_thinking(answer)
    if parsed.is_closed and answer.lstrip().startswith(_TAGS):
        answer = parsed.answer
    if not answer.strip() or thinking.lstrip().startswith(_TAGS):
        inner = split_thinking(thinking)
        if inner.thinking and not (answer.strip() and inner.answer):
            return inner.thinking, answer if answer.strip() else inner.answer, True
    return thinking, answer, True


def _is_thought(part: Mapping[str, Any]) -> bool:
    """Whether a part of a message's content is thinking: of Mistral, of Databricks, of Gemini."""
    return part.get("type") in ("thinking", "reasoning", "thought") or part.get("thought") is True


def _thought_in(part: Mapping[str, Any]) -> str:
    return next(
        (text for name in ("thinking", "reasoning", "summary", "text") if (text := text_of(part.get(name)))), ""
    )


def _named_thinking(message: Mapping[str, Any]) -> str:
    """Thinking in a field of its own, by the first of the known names that holds text."""
    for source in (message, dict_of(message.get("provider_specific_fields"))):
        for name in _FIELDS:
            if name not in source:
                continue
            if text := text_of(source[name]) or text_of(dict_of(source[name]).get("content")):
                return text
    if blocks := "".join(text_of(dict_of(b).get("thinking")) for b in list_of(message.get("thinking_blocks"))):
        return blocks
    details = map(dict_of, list_of(message.get("reasoning_details")))
    return "".join(text_of(detail.get("text")) or text_of(detail.get("summary")) for detail in details)


def _usage(usage: Any) -> tuple[Usage, int | None]:
    """Usage, and the tokens of thinking. Some servers leave those out of `completion_tokens`; the total tells.

    Others count the input that was read from a cache, or written to it, beside `prompt_tokens`; the total tells that,
    too.
    """
    details = dict_of(usage).get("prompt_tokens_details") or dict_of(usage).get("input_tokens_details")
    cached = count(details, "cached_tokens") or count(usage, *_CACHED) or 0
    reasoning = count(dict_of(usage).get("completion_tokens_details"), "reasoning_tokens")
    if reasoning is None:
        reasoning = count(dict_of(usage).get("output_tokens_details"), "reasoning_tokens")
    if reasoning is None:
        reasoning = count(usage, "reasoning_tokens")
    given = count(usage, "prompt_tokens", "input_tokens", "promptTokens", "inputTokens") or 0
    output = count(usage, "completion_tokens", "output_tokens", "completionTokens", "outputTokens") or 0
    total = count(usage, "total_tokens", "totalTokens") or 0
    beside = (count(usage, "cache_read_input_tokens") or 0) + (count(usage, "cache_creation_input_tokens") or 0)
    if beside and total >= given + beside + output:
        given += beside
    return (
        Usage(
            input_tokens=given,
            # More thinking than output: it is counted apart. Where there is a total, the total tells.
            output_tokens=max(output, total - given, output + (reasoning or 0) if (reasoning or 0) > output else 0),
            cached_input_tokens=min(cached, given),
        ),
        reasoning,
    )


_CACHED = ("prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens")
"""DeepSeek's, Moonshot's, and Anthropic's name for input that was read from a cache."""
