"""Replies as the server-sent events that each provider makes of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import count
from typing import Any


def pieces(text: str) -> list[str]:
    """The text in words, as a model writes it."""
    return re.findall(r"\s*\S+|\s+$", text)


def event(data: dict[str, Any], name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def chat_events(reply: dict[str, Any], with_usage: bool = True) -> Iterator[bytes]:
    """Chunks of a chat completion, as OpenAI and its dialects stream it."""
    choices = reply.pop("choices", None)
    usage = reply.pop("usage", None)
    head = reply | {"object": "chat.completion.chunk"}
    if choices is None or "error" in reply:
        yield event(reply)
        return
    for choice in choices:
        message = dict(choice.get("message") or {})
        yield event(head | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        yield b": keep-alive\n\n"
        for name in ("reasoning_content", "reasoning", "content"):
            for piece in pieces(message.get(name) or ""):
                yield event(head | {"choices": [{"index": 0, "delta": {name: piece}, "finish_reason": None}]})
        last = {key: value for key, value in choice.items() if key != "message"}
        yield event(head | {"choices": [last | {"delta": {}}]})
    if with_usage and usage is not None:
        yield event(head | {"choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def message_events(reply: dict[str, Any]) -> Iterator[bytes]:
    """The events of Anthropic's messages."""
    if reply.get("type") != "message":
        yield event(reply, str(reply.get("type", "error")))
        return
    blocks = reply.pop("content")
    usage, reason = reply.pop("usage"), reply.pop("stop_reason")
    start = reply | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    yield event({"type": "message_start", "message": start}, "message_start")
    yield event({"type": "ping"}, "ping")
    for index, block in enumerate(blocks):
        kind = block["type"]
        empty = {"type": kind, kind: ""} | ({"signature": ""} if kind == "thinking" else {})
        yield event({"type": "content_block_start", "index": index, "content_block": empty}, "content_block_start")
        deltas: list[dict[str, str]] = [{"type": f"{kind}_delta", kind: piece} for piece in pieces(block[kind])]
        if "signature" in block:
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        for delta in deltas:
            yield event({"type": "content_block_delta", "index": index, "delta": delta}, "content_block_delta")
        yield event({"type": "content_block_stop", "index": index}, "content_block_stop")
    delta_usage = {"output_tokens": usage["output_tokens"]}
    last = {"stop_reason": reason, "stop_sequence": None}
    yield event({"type": "message_delta", "delta": last, "usage": delta_usage}, "message_delta")
    yield event({"type": "message_stop"}, "message_stop")


def content_events(reply: dict[str, Any]) -> Iterator[bytes]:
    """The chunks of Gemini's streamGenerateContent."""
    if not reply.get("candidates"):
        yield event(reply)
        return
    candidate = reply["candidates"][0]
    rest = {key: value for key, value in reply.items() if key != "candidates"}
    parts = (candidate.get("content") or {}).get("parts") or []
    for part in parts:
        for piece in pieces(part["text"]):
            content = {"parts": [part | {"text": piece}], "role": "model"}
            yield event(rest | {"candidates": [{"content": content, "index": 0}]})
    last = {key: value for key, value in candidate.items() if key != "content"}
    yield event(rest | {"candidates": [last | {"content": {"parts": [{"text": ""}], "role": "model"}}]})


def response_events(reply: dict[str, Any]) -> Iterator[bytes]:
    """The events of OpenAI's responses."""
    numbers = count()

    def of(kind: str, **rest: Any) -> bytes:
        return event({"type": kind, "sequence_number": next(numbers), **rest}, kind)

    if not isinstance(reply.get("output"), list):
        yield of("error", **(reply.get("error") or reply))
        return
    begun = {**reply, "status": "in_progress", "output": [], "usage": None}
    yield of("response.created", response=begun)
    yield of("response.in_progress", response=begun)
    for at, item in enumerate(reply["output"]):
        place = {"output_index": at, "item_id": item.get("id")}
        empty = {name: [] if isinstance(value, list) else value for name, value in item.items()}
        yield of("response.output_item.added", output_index=at, item=empty)
        for name, deltas in (("summary", "reasoning_summary_text"), ("content", "")):
            for index, part in enumerate(item.get(name) or []):
                kind = deltas or part["type"]
                field = "refusal" if kind == "refusal" else "text"
                indexed = {f"{name}_index": index}
                added = {**part, field: ""}
                opened = "response.reasoning_summary_part.added" if deltas else "response.content_part.added"
                yield of(opened, **place, **indexed, part=added)
                for piece in pieces(part[field]):
                    extra = {"logprobs": []} if kind == "output_text" else {}
                    yield of(f"response.{kind}.delta", **place, **indexed, delta=piece, **extra)
        yield of("response.output_item.done", output_index=at, item=item)
    ended = {"completed": "completed", "incomplete": "incomplete"}.get(str(reply.get("status")), "failed")
    yield of(f"response.{ended}", response=reply)
