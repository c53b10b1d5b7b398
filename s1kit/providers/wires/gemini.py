"""The wire format of Gemini's `generateContent`. Source: ai.google.dev/api/generate-content.

Thinking comes as parts marked `thought`; the models of today give summaries of it there, which the note says. Thinking
tokens are counted apart (`thoughtsTokenCount`) and charged as output.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from s1kit.errors import InputError
from s1kit.providers.chat import Call, ChatRequest, Parameters, Reply, settle_finish
from s1kit.providers.wires.conversation import ChatTurn, arguments_of, call_of, take_format, tools, turns
from s1kit.providers.wires.extra import with_extra
from s1kit.providers.wires.finish import finish_of
from s1kit.providers.wires.reading import count, dict_of, hidden_thinking, list_of, notes, text_of
from s1kit.providers.wires.streams import ContentAssembler
from s1kit.records import Usage


@dataclass(frozen=True)
class GeminiWire:
    name: str = "gemini"

    def headers(self, key: str) -> dict[str, str]:
        return {"x-goog-api-key": key} if key else {}

    def call(self, request: ChatRequest) -> Call:
        return Call(f"/models/{request.model}:generateContent", generate_content(request))

    def streamed(self, call: Call, *, with_usage: bool = True) -> Call:
        return Call(call.path.replace(":generateContent", ":streamGenerateContent?alt=sse"), call.body)

    def assembler(self) -> ContentAssembler:
        return ContentAssembler()

    def read(self, body: Mapping[str, Any]) -> Reply:
        usage, thoughts = _usage(body.get("usageMetadata"))
        candidates = list_of(body.get("candidates"))
        if not candidates:
            if reason := dict_of(body.get("promptFeedback")).get("blockReason"):
                return Reply(finish_reason="refused", usage=usage, note=f"the prompt was blocked: {reason}")
            return Reply(finish_reason="malformed", usage=usage, note="the reply has no candidates")
        candidate = dict_of(candidates[0])
        parts = [dict_of(part) for part in list_of(dict_of(candidate.get("content")).get("parts"))]
        thinking = "".join(text_of(part.get("text")) for part in parts if part.get("thought"))
        answer = "".join(text_of(part.get("text")) for part in parts if not part.get("thought"))
        reason = candidate.get("finishReason")
        finish, note = finish_of(reason)
        if finish == "refused":
            note = f"finishReason is {reason}"
        if not thinking and thoughts:
            note = notes(note, hidden_thinking(thoughts))
        named = [dict_of(part.get("functionCall")) for part in parts if isinstance(part.get("functionCall"), Mapping)]
        calls = tuple(call_of(call.get("id"), call.get("name"), call.get("args")) for call in named)
        finish = settle_finish(finish, answer, calls)
        return Reply(thinking, answer, finish, usage, thoughts, note, tool_calls=calls)


def generate_content(request: ChatRequest) -> dict[str, Any]:
    """A GenerateContentRequest; the same object stands in a line of a batch file."""
    p = request.parameters
    config: dict[str, Any] = {"maxOutputTokens": p.max_output_tokens}
    for field, value in [("temperature", p.temperature), ("topP", p.top_p), ("seed", p.seed)]:
        if value is not None:
            config[field] = value
    if thinking := _thinking(p):
        config["thinkingConfig"] = thinking
    asked, extra = take_format(p.extra)
    if asked is not None and asked.kind != "text":
        config["responseMimeType"] = "application/json"
        if asked.kind == "json_schema":
            config["responseJsonSchema"] = asked.schema
    said = turns(request.messages, "Gemini")
    body: dict[str, Any] = {
        "contents": _contents([turn for turn in said if turn.role != "system"]),
        "generationConfig": config,
    }
    if system := "\n\n".join(turn.text for turn in said if turn.role == "system"):
        body["systemInstruction"] = {"parts": [{"text": system}]}
    if request.tools:
        body["tools"] = [
            {
                "functionDeclarations": [
                    {"name": tool.name, "parametersJsonSchema": tool.parameters}
                    | ({"description": tool.description} if tool.description else {})
                    for tool in tools(request, "Gemini")
                ]
            }
        ]
    return with_extra(body, extra)


def _thinking(p: Parameters) -> dict[str, Any]:
    """Thoughts are asked for where the model may think at all. Raises InputError for a budget beside an effort."""
    if p.thinking_budget is not None and p.reasoning_effort is not None:
        raise InputError(
            "Gemini takes a thinking budget or an effort, not both",
            where="thinking_budget",
            fix="Leave one of them out.",
        )
    thinking: dict[str, Any] = {"includeThoughts": True} if p.thinking and p.thinking_budget != 0 else {}
    if p.thinking_budget is not None:
        thinking["thinkingBudget"] = p.thinking_budget
    if p.reasoning_effort is not None:
        thinking["thinkingLevel"] = p.reasoning_effort.upper()
    return thinking


def _contents(said: list[ChatTurn]) -> list[dict[str, Any]]:
    """Results of tools name the function, not the call; those that follow each other are one content."""
    names = {call.id: call.name for turn in said for call in turn.calls}
    contents: list[dict[str, Any]] = []
    for turn in said:
        if turn.role == "tool":
            if turn.answers not in names:
                raise InputError(
                    f"the result of a tool answers {turn.answers!r}, which no message calls",
                    where="messages",
                    fix="Keep the assistant's message with its tool_calls.",
                )
            part = {"functionResponse": {"name": names[turn.answers], "response": _as_object(turn.text)}}
            if contents and "functionResponse" in contents[-1]["parts"][-1]:
                contents[-1]["parts"].append(part)
            else:
                contents.append({"role": "user", "parts": [part]})
            continue
        parts: list[dict[str, Any]] = [{"text": turn.text}] if turn.text or not turn.calls else []
        parts += [{"functionCall": {"name": call.name, "args": arguments_of(call, "Gemini")}} for call in turn.calls]
        contents.append({"role": "model" if turn.role == "assistant" else "user", "parts": parts})
    return contents


def _as_object(text: str) -> dict[str, Any]:
    """Gemini takes objects as results; anything else stands under `result`."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"result": text}


def _usage(usage: Any) -> tuple[Usage, int | None]:
    """Thoughts are counted apart from the candidates' tokens. Where a part is missing, the total tells."""
    thoughts = count(usage, "thoughtsTokenCount")
    given = count(usage, "promptTokenCount") or 0
    output = (count(usage, "candidatesTokenCount") or 0) + (thoughts or 0)
    total = count(usage, "totalTokenCount") or 0
    return (
        Usage(
            input_tokens=given,
            output_tokens=max(output, total - given - (count(usage, "toolUsePromptTokenCount") or 0)),
            cached_input_tokens=min(count(usage, "cachedContentTokenCount") or 0, given),
        ),
        thoughts,
    )
