"""The wire format of Anthropic's Messages. Source: platform.claude.com/docs/en/api/messages.

Thinking comes as `thinking` blocks, which today's models fill with a summary, and as `redacted_thinking`, which cannot
be read; the note says so. All output, thinking included, is in `output_tokens`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from s1kit.errors import InputError
from s1kit.providers.chat import Call, ChatRequest, Parameters, Reply, settle_finish
from s1kit.providers.wires.conversation import (
    ChatTurn,
    Format,
    arguments_of,
    call_of,
    no_format,
    take_format,
    tools,
    turns,
)
from s1kit.providers.wires.extra import with_extra
from s1kit.providers.wires.finish import finish_of
from s1kit.providers.wires.reading import count, dict_of, hidden_thinking, notes, text_of
from s1kit.providers.wires.streams import MessageAssembler
from s1kit.records import Usage

VERSION = "2023-06-01"


@dataclass(frozen=True)
class AnthropicWire:
    name: str = "anthropic"

    def headers(self, key: str) -> dict[str, str]:
        return {"anthropic-version": VERSION} | ({"x-api-key": key} if key else {})

    def call(self, request: ChatRequest) -> Call:
        return Call("/messages", message_parameters(request))

    def streamed(self, call: Call, *, with_usage: bool = True) -> Call:
        return Call(call.path, {**call.body, "stream": True})

    def assembler(self) -> MessageAssembler:
        return MessageAssembler()

    def read(self, body: Mapping[str, Any]) -> Reply:
        usage, thinking_tokens = _usage(body.get("usage"))
        blocks = body.get("content")
        if not isinstance(blocks, list):
            return Reply(finish_reason="malformed", usage=usage, note="the reply is not a message")
        known = [dict_of(block) for block in blocks]
        thinking = "".join(text_of(b.get("thinking")) for b in known if b.get("type") == "thinking")
        answer = "".join(text_of(b.get("text")) for b in known if b.get("type") == "text")
        finish, note = finish_of(body.get("stop_reason"))
        if any(b.get("type") == "redacted_thinking" for b in known):
            note = notes(note, "part of the thinking is redacted")
        if not thinking and (thinking_tokens or any(b.get("type") == "thinking" for b in known)):
            note = notes(note, hidden_thinking(thinking_tokens))
        calls = tuple(call_of(b.get("id"), b.get("name"), b.get("input")) for b in known if b.get("type") == "tool_use")
        finish = settle_finish(finish, answer, calls)
        return Reply(thinking, answer, finish, usage, thinking_tokens, note, tool_calls=calls)


def message_parameters(request: ChatRequest) -> dict[str, Any]:
    """The body of one message; the same object stands in a batch."""
    p = request.parameters
    if p.seed is not None:
        raise InputError("Anthropic takes no seed", where="seed", fix="Leave it out.")
    said = turns(request.messages, "Anthropic")
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": p.max_output_tokens,
        "messages": _messages([turn for turn in said if turn.role != "system"]),
    }
    if system := "\n\n".join(turn.text for turn in said if turn.role == "system"):
        body["system"] = system
    if request.tools:
        body["tools"] = [
            {"name": tool.name, "input_schema": tool.parameters}
            | ({"description": tool.description} if tool.description else {})
            | ({} if tool.strict is None else {"strict": tool.strict})
            for tool in tools(request, "Anthropic")
        ]
    for field, value in [("temperature", p.temperature), ("top_p", p.top_p)]:
        if value is not None:
            body[field] = value
    if thinking := _thinking(p):
        body["thinking"] = thinking
    asked, extra = take_format(p.extra)
    if output := _output(p, asked):
        body["output_config"] = output
    return with_extra(body, extra)


def _thinking(p: Parameters) -> dict[str, Any]:
    if p.thinking_budget == 0:
        return {"type": "disabled"}
    # Without `display`, the newest models think and send the text of it empty.
    if p.thinking_budget is not None:
        return {"type": "enabled", "budget_tokens": p.thinking_budget, "display": "summarized"}
    return {"type": "adaptive", "display": "summarized"} if p.thinking else {}


def _output(p: Parameters, asked: Format | None) -> dict[str, Any]:
    """Effort and the format of the answer. Raises InputError for a format that Anthropic lacks."""
    output: dict[str, Any] = {} if p.reasoning_effort is None else {"effort": p.reasoning_effort}
    if asked is not None and asked.kind == "json_object":
        raise no_format("Anthropic", asked.kind)
    if asked is not None and asked.kind == "json_schema":
        output["format"] = {"type": "json_schema", "schema": asked.schema}
    return output


def _messages(said: list[ChatTurn]) -> list[dict[str, Any]]:
    """Results of tools that follow each other are one message of the user."""
    messages: list[dict[str, Any]] = []
    for turn in said:
        if turn.role == "tool":
            block = {"type": "tool_result", "tool_use_id": turn.answers, "content": turn.text}
            if messages and messages[-1]["role"] == "user" and isinstance(messages[-1]["content"], list):
                messages[-1]["content"].append(block)
            else:
                messages.append({"role": "user", "content": [block]})
        elif turn.calls:
            blocks: list[dict[str, Any]] = [{"type": "text", "text": turn.text}] if turn.text else []
            blocks += [
                {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments_of(call, "Anthropic")}
                for call in turn.calls
            ]
            messages.append({"role": "assistant", "content": blocks})
        else:
            messages.append({"role": turn.role, "content": turn.text})
    return messages


def _usage(usage: Any) -> tuple[Usage, int | None]:
    cached = count(usage, "cache_read_input_tokens") or 0
    written = count(usage, "cache_creation_input_tokens") or 0
    return (
        Usage(
            input_tokens=(count(usage, "input_tokens") or 0) + cached + written,
            output_tokens=count(usage, "output_tokens") or 0,
            cached_input_tokens=cached,
        ),
        count(dict_of(usage).get("output_tokens_details"), "thinking_tokens"),
    )
