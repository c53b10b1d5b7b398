"""A body of any provider, in any shape, as a reply. Nothing here raises, whatever the types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from s1kit.providers.chat import Reply, WireFormat
from s1kit.providers.wires.anthropic import AnthropicWire
from s1kit.providers.wires.bedrock import BedrockWire
from s1kit.providers.wires.gemini import GeminiWire
from s1kit.providers.wires.openai import OpenAIWire
from s1kit.providers.wires.responses import ResponsesWire
from s1kit.providers.wires.shapes import Shape, shape_of, usual
from s1kit.providers.wires.thinking import split_answer

_READERS: dict[Shape, WireFormat] = {
    "chat": OpenAIWire("compatible"),
    "message": AnthropicWire(),
    "gemini": GeminiWire(),
    "response": ResponsesWire(),
    "converse": BedrockWire(),
}


def read_reply(wire: WireFormat, body: Mapping[str, Any]) -> Reply:
    """A body as a reply. Whatever no wire can make sense of is a malformed reply that says so.

    A body in the shape of another API than the one that was asked, as gateways send them, is read as what it is.
    Thinking between delimiters in the text is split off, whatever the API.
    """
    if "not_json" in body:
        return Reply(finish_reason="malformed", note="the reply is not JSON")
    try:
        body = usual(body)
        shape = shape_of(body)
        reader = wire if shape is None or isinstance(wire, type(_READERS[shape])) else _READERS[shape]
        reply = reader.read(body)
        if not reply.thinking and shape != "chat":
            reply = split_answer(reply)
    except Exception as error:  # noqa: BLE001 - the body is paid for and kept, and may have any shape
        return Reply(finish_reason="malformed", note=f"the reply cannot be read: {type(error).__name__}")
    if not reply.note.isascii() or reply.tool_calls or not (is_clean(reply.thinking) and is_clean(reply.answer)):
        return _cleaned(reply)
    return reply


def _cleaned(reply: Reply) -> Reply:
    thinking, answer, note = clean(reply.thinking), clean(reply.answer), clean(reply.note)
    if (thinking, answer) != (reply.thinking, reply.answer):
        note = f"{note}; half characters are replaced" if note else "half characters are replaced"
    return replace(reply, thinking=thinking, answer=answer, note=note, tool_calls=_clean_calls(reply.tool_calls))


def _clean_calls(calls: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(clean(json.dumps(call, ensure_ascii=False))) for call in calls)


def clean(text: str) -> str:
    """The text without lone surrogates, which JSON can carry and no file can."""
    return text if is_clean(text) else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def is_clean(text: str) -> bool:
    """Whether UTF-8 can hold the text."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
