"""OpenAI's `/v1/responses`: its body as a chat body, its reply whole and as events. Nothing is stored.

Thinking is a reasoning item: as its content, or as its summary where the request asks for one.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from s1kit.serve.decoding import Delta, End
from s1kit.serve.fields import (
    Effort,
    JsonSchema,
    MessagePart,
    PositiveCount,
    ReasoningSwitch,
    ThinkingFields,
    Wire,
)
from s1kit.serve.refusals import Refusal
from s1kit.serve.replies import ID_PREFIXES, Choice


class Item(Wire):
    """One item of the input: a message, or an echo of an earlier reasoning item, call or call's output."""

    type: Literal["message", "reasoning", "function_call", "function_call_output"] = "message"
    id: str | None = None
    status: str | None = None
    phase: str | None = None
    role: Literal["system", "developer", "user", "assistant"] = "user"
    content: str | list[MessagePart | dict[str, Any]] = ""
    summary: list[dict[str, Any]] | None = None
    encrypted_content: str | None = None
    call_id: str = ""
    name: str = ""
    arguments: str = "{}"
    output: str | list[MessagePart] = ""


class ResponseTool(Wire):
    type: Literal["function"]
    name: Annotated[str, Field(min_length=1, max_length=200)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ResponseChoice(Wire):
    """The one tool that must be called."""

    type: Literal["function"]
    name: str


class ResponseReasoning(ReasoningSwitch):
    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class TextFormat(JsonSchema):
    name: str = ""
    type: Literal["text", "json_object", "json_schema"] = "text"


class TextOptions(Wire):
    format: TextFormat | None = None
    verbosity: Literal["medium"] | None = None


class ResponsesBody(ThinkingFields):
    """The body of `POST /v1/responses`."""

    model: str | None = None
    input: str | Annotated[list[Item], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: PositiveCount | None = None
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int | None = None
    reasoning: ResponseReasoning | None = None
    text: TextOptions | None = None
    tools: list[ResponseTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ResponseChoice | None = None
    parallel_tool_calls: bool | None = None
    user: Annotated[str, Field(max_length=1000)] | None = None
    # These cannot change what is generated.
    store: bool | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    include: list[str] | None = None
    truncation: Literal["disabled"] | None = None
    background: Literal[False] | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None

    def as_chat(self) -> dict[str, Any]:
        """The same request as a chat body. Raises Refusal for what would need a store of replies."""
        for name in ("previous_response_id", "conversation"):
            if getattr(self, name) is not None:
                what = f"{name}: replies are not stored here. Send the earlier turns in input."
                raise Refusal(400, what, param=name, code="unsupported")
        kept = {*ThinkingFields.model_fields, "model", "stream", "temperature", "top_p", "seed", "user"}
        kept |= {"tool_choice", "parallel_tool_calls"}
        chat = self.model_dump(include=kept, exclude_none=True)
        if isinstance(self.tool_choice, ResponseChoice):
            chat["tool_choice"] = {"type": "function", "function": {"name": self.tool_choice.name}}
        if "reasoning" in chat:
            chat["reasoning"].pop("summary", None)
        if self.tools:
            chat["tools"] = [
                {"type": "function", "function": tool.model_dump(exclude={"type"}, exclude_none=True)}
                for tool in self.tools
            ]
        if self.text and self.text.format and self.text.format.type != "text":
            form = self.text.format.model_dump(by_alias=True, exclude_none=True)
            kind = form.pop("type")
            chat["response_format"] = {"type": kind} | ({"json_schema": form} if kind == "json_schema" else {})
        chat["messages"] = self._turns()
        return chat | {"max_completion_tokens": self.max_output_tokens}

    def _turns(self) -> list[dict[str, Any]]:
        turns: list[dict[str, Any]] = []
        if self.instructions:
            turns.append({"role": "system", "content": self.instructions})
        thinking = ""
        items = [Item(content=self.input)] if isinstance(self.input, str) else self.input
        for item in items:
            if item.type == "reasoning":
                thinking = _text(item.content) or "".join(str(part.get("text", "")) for part in item.summary or [])
            elif item.type == "function_call_output":
                turns.append({"role": "tool", "tool_call_id": item.call_id, "content": _text(item.output)})
            elif item.type == "function_call":
                call = {"id": item.call_id, "function": {"name": item.name, "arguments": item.arguments}}
                if turns and turns[-1].get("tool_calls"):
                    turns[-1]["tool_calls"].append(call)
                else:
                    turns.append(_said("", thinking) | {"tool_calls": [call]})
                    thinking = ""
            elif item.role == "assistant":
                turns.append(_said(_text(item.content), thinking))
                thinking = ""
            else:
                turns.append({"role": item.role, "content": _text(item.content)})
        if not turns:
            turns.append({"role": "user", "content": ""})
        return turns


def in_responses_names(refusal: Refusal) -> Refusal:
    """A refusal of the chat body, in the names of this one."""
    names = {"max_completion_tokens": "max_output_tokens", "max_tokens": "max_output_tokens", "messages": "input"}
    message = re.sub(r"(?<![.\w])max_(completion_)?tokens\b", "max_output_tokens", refusal.message)
    param = names.get(refusal.param or "", refusal.param)
    return Refusal(refusal.status, message, param=param, code=refusal.code, headers=refusal.headers)


def _said(text: str, thinking: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text} | ({"reasoning_content": thinking} if thinking else {})


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(str((p.text if isinstance(p, MessagePart) else p.get("text")) or "") for p in content)


@dataclass(slots=True)
class ResponsesReply:
    """One reply in the form of `/v1/responses`."""

    model: str
    choices: list[Choice]
    prompt_tokens: int
    id: str
    is_summary: bool = False
    created: int = field(default_factory=lambda: int(time.time()))
    _number: int = -1
    _items: list[dict[str, Any]] = field(default_factory=list)
    _open_text: list[str] = field(default_factory=list)
    _is_open: bool = False
    _delta_head: str = ""
    """What comes before the number of an event with text of the item that is open."""
    _delta_tail: str = ""

    def _outline(self, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": ID_PREFIXES["responses"] + self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "model": self.model,
            "output": output,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "store": False,
            "usage": None if status == "in_progress" else self._usage,
        }

    @property
    def _usage(self) -> dict[str, Any]:
        tally = self.choices[0].tally
        return {
            "input_tokens": self.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": tally.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": tally.thinking_tokens},
            "total_tokens": self.prompt_tokens + tally.completion_tokens,
        }

    def _finished(self, output: list[dict[str, Any]]) -> dict[str, Any]:
        choice = self.choices[0]
        status = "incomplete" if choice.finish_reason == "length" else "completed"
        return self._outline(status, output) | {"s1kit": choice.account}

    def whole(self) -> dict[str, Any]:
        """The reply that is not streamed."""
        choice = self.choices[0]
        thinking, text = "".join(choice.thinking), "".join(choice.content)
        output = [self._item("reasoning", 0, thinking)] if thinking else []
        if text or not choice.tool_calls:
            output.append(self._item("message", len(output), text))
        output += [self._call(call, len(output) + i) for i, call in enumerate(choice.tool_calls)]
        return self._finished(output)

    def chunk(self, choice: Choice, delta: Delta) -> str:
        """The events of one delta; empty where nothing of it is shown."""
        return self._begin() + self._events(*choice.take(delta))

    def last_chunk(self, choice: Choice, end: End) -> str:
        text, calls = choice.finish(end)
        return self._begin() + self._events("", text, calls) + self._close()

    def tail(self) -> bytes:
        """The last event: the whole response."""
        response = self._finished(self._items)
        return self._event(f"response.{response['status']}", response=response).encode()

    def failed(self, refusal: Refusal) -> bytes:
        """The last event of a stream that fails."""
        return self._event("error", code=refusal.code, message=refusal.message, param=refusal.param).encode()

    def _begin(self) -> str:
        if self._number >= 0:
            return ""
        response = self._outline("in_progress", [])
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def _events(self, thinking: str, text: str, calls: list[dict[str, Any]]) -> str:
        events = self._more("reasoning", thinking) if thinking else ""
        if text:
            events += self._more("message", text)
        for call in calls:
            events += self._close()
            item = self._call(call, len(self._items))
            at = {"item_id": item["id"], "output_index": len(self._items)}
            self._items.append(item)
            empty = item | {"arguments": "", "status": "in_progress"}
            events += self._event("response.output_item.added", output_index=at["output_index"], item=empty)
            events += self._event("response.function_call_arguments.delta", **at, delta=item["arguments"])
            events += self._event(
                "response.function_call_arguments.done", **at, name=item["name"], arguments=item["arguments"]
            )
            events += self._event("response.output_item.done", output_index=at["output_index"], item=item)
        return events

    def _more(self, kind: str, text: str) -> str:
        events = ""
        if not self._is_open or self._items[-1]["type"] != kind:
            events = self._close()
            item = self._item(kind, len(self._items), None)
            self._items.append(item)
            self._is_open, self._open_text = True, []
            events += self._event("response.output_item.added", output_index=len(self._items) - 1, item=item)
            events += self._event(f"response.{self._part_event(kind)}.added", **self._at(), part=self._part(kind, ""))
            name = f"response.{self._text_event(kind)}.delta"
            at = json.dumps(self._at(), separators=(",", ":"))[1:-1]
            self._delta_head = f'event: {name}\ndata: {{"type":"{name}",{at},"sequence_number":'
            self._delta_tail = ',"logprobs":[]}\n\n' if kind == "message" else "}\n\n"
        self._open_text.append(text)
        self._number += 1
        # Written by hand: this runs for every token of every stream.
        return f'{events}{self._delta_head}{self._number},"delta":{json.dumps(text)}{self._delta_tail}'

    def _close(self) -> str:
        if not self._is_open:
            return ""
        kind, text = self._items[-1]["type"], "".join(self._open_text)
        logprobs: dict[str, Any] = {"logprobs": []} if kind == "message" else {}
        events = self._event(f"response.{self._text_event(kind)}.done", **self._at(), text=text, **logprobs)
        events += self._event(f"response.{self._part_event(kind)}.done", **self._at(), part=self._part(kind, text))
        self._items[-1] = self._item(kind, len(self._items) - 1, text)
        self._is_open = False
        return events + self._event(
            "response.output_item.done", output_index=len(self._items) - 1, item=self._items[-1]
        )

    def _at(self) -> dict[str, Any]:
        item = self._items[-1]
        index = "summary_index" if self.is_summary and item["type"] == "reasoning" else "content_index"
        return {"item_id": item["id"], "output_index": len(self._items) - 1, index: 0}

    def _text_event(self, kind: str) -> str:
        if kind == "message":
            return "output_text"
        return "reasoning_summary_text" if self.is_summary else "reasoning_text"

    def _part_event(self, kind: str) -> str:
        return "reasoning_summary_part" if self.is_summary and kind == "reasoning" else "content_part"

    def _part(self, kind: str, text: str) -> dict[str, Any]:
        if kind == "message":
            return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        return {"type": "summary_text" if self.is_summary else "reasoning_text", "text": text}

    def _item(self, kind: str, index: int, text: str | None) -> dict[str, Any]:
        """An output item; None as its text: it has only begun."""
        parts = [] if text is None else [self._part(kind, text)]
        status = "in_progress" if text is None else "completed"
        if kind == "message":
            head = {"id": f"msg_{self.id}_{index}", "type": kind, "role": "assistant"}
            return head | {"status": status, "content": parts}
        shown = {"summary": parts} if self.is_summary else {"summary": [], "content": parts}
        return {"id": f"rs_{self.id}_{index}", "type": kind, "status": status} | shown

    def _call(self, call: dict[str, Any], index: int) -> dict[str, Any]:
        names = {"call_id": call["id"], "name": call["function"]["name"], "arguments": call["function"]["arguments"]}
        return {"id": f"fc_{self.id}_{index}", "type": "function_call", "status": "completed"} | names

    def _event(self, kind: str, **fields: Any) -> str:
        self._number += 1
        event = {"type": kind, "sequence_number": self._number} | fields
        return f"event: {kind}\ndata: {json.dumps(event, separators=(',', ':'))}\n\n"
