"""Streamed events of APIs that no wire asks, as chunks of chat completions: a gateway may pass its upstream's through.

Sources: docs.cohere.com/reference/chat-stream, ai.google.dev/api/interactions-api, and the recorded streams of both in
github.com/vercel/ai (packages/cohere, packages/google).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s1kit.providers.wires.reading import dict_of

_COHERE = ("message", "content", "tool-plan", "tool-call", "citation")
_INTERACTIONS = ("interaction.", "step.")


def as_chunk(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """The event as a chunk of a chat completion where it is one of Cohere's or of Gemini's interactions, else itself.

    >>> as_chunk({"type": "content-delta", "delta": {"message": {"content": {"text": "4"}}}})["choices"]
    [{'index': 0, 'delta': {'content': '4'}}]
    """
    kind = event.get("type")
    if isinstance(kind, str) and kind.startswith(_COHERE) and kind.endswith(("-start", "-delta", "-end")):
        return _of_cohere(kind, event)
    kind = event.get("event_type")
    return _of_interactions(kind, event) if isinstance(kind, str) and kind.startswith(_INTERACTIONS) else event


def _of_cohere(kind: str, event: Mapping[str, Any]) -> dict[str, Any]:
    given = dict_of(event.get("delta"))
    message = dict_of(given.get("message"))
    match kind:
        case "message-end":
            usage = dict_of(given.get("usage"))
            counted = {"usage": {**usage, **dict_of(usage.get("tokens"))}} if usage else {}
            failed = {"error": given["error"]} if given.get("error") else {}
            return {**_chunk({}, given.get("finish_reason")), **counted, **failed}
        case "content-start" | "content-delta":
            content = dict_of(message.get("content"))
            return _chunk({"reasoning_content": content.get("thinking"), "content": content.get("text")})
        case "tool-plan-delta":
            return _chunk({"reasoning_content": message.get("tool_plan")})
        case "tool-call-start" | "tool-call-delta":
            return _chunk({"tool_calls": [{**dict_of(message.get("tool_calls")), "index": event.get("index")}]})
    return _chunk({})


def _of_interactions(kind: str, event: Mapping[str, Any]) -> dict[str, Any]:
    if "interaction" in event:
        whole = dict_of(event.get("interaction"))
        counted = {"usage": whole["usage"]} if isinstance(whole.get("usage"), Mapping) else {}
        return {**_chunk({}, None if kind == "interaction.created" else whole.get("status")), **counted}
    step, delta = dict_of(event.get("step")), dict_of(event.get("delta"))
    if step.get("type") == "function_call":
        call = {"id": step.get("id"), "type": "function", "function": {"name": step.get("name"), "arguments": ""}}
        return _chunk({"tool_calls": [{**call, "index": event.get("index")}]})
    match delta.get("type"):
        case "text":
            return _chunk({"content": delta.get("text")})
        case "thought_summary":
            return _chunk({"reasoning_content": dict_of(delta.get("content")).get("text")})
        case "arguments_delta":
            call = {"function": {"arguments": delta.get("arguments")}, "index": event.get("index")}
            return _chunk({"tool_calls": [call]})
    return _chunk({})


def _chunk(delta: Mapping[str, Any], finish: Any = None) -> dict[str, Any]:
    said = {name: value for name, value in delta.items() if value is not None}
    return {"choices": [{"index": 0, "delta": said} | ({} if finish is None else {"finish_reason": finish})]}
