"""Anthropic's `/v1/messages`: its body as a chat body, its reply whole and as events.

A request that says nothing about thinking gets a reply without thinking blocks, as programs that read `content[0].text`
expect; the model still thinks, and it counts within `max_tokens`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from s1kit.serve.decoding import Delta, End
from s1kit.serve.fields import PositiveCount, StopString, ThinkingFields, Wire
from s1kit.serve.refusals import Refusal
from s1kit.serve.replies import ID_PREFIXES, Choice

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


class Block(Wire):
    """One content block of a turn."""

    type: Literal["text", "thinking", "redacted_thinking", "tool_use", "tool_result"]
    text: str = ""
    thinking: str = ""
    signature: str | None = None
    data: str | None = None
    id: str = ""
    name: str = ""
    input: dict[str, Any] = Field(default_factory=dict)
    tool_use_id: str = ""
    content: str | list[Block] = ""
    is_error: bool | None = None
    cache_control: dict[str, Any] | None = None
    citations: Annotated[list[Any], Field(max_length=0)] | None = None


class Turn(Wire):
    role: Literal["user", "assistant"]
    content: str | Annotated[list[Block], Field(min_length=1)]


class SystemBlock(Wire):
    type: Literal["text"]
    text: str
    cache_control: dict[str, Any] | None = None


class MessageTool(Wire):
    type: Literal["custom"] | None = None
    name: Annotated[str, Field(min_length=1, max_length=200)]
    description: str | None = None
    input_schema: dict[str, Any]
    cache_control: dict[str, Any] | None = None


class MessageToolChoice(Wire):
    type: Literal["auto", "none", "any", "tool"]
    name: str | None = None
    """Name of the tool that must be called, for type `tool`."""
    disable_parallel_tool_use: bool | None = None

    def as_chat(self) -> str | dict[str, Any]:
        """The same in OpenAI's words."""
        if self.type == "tool":
            return {"type": "function", "function": {"name": self.name or ""}}
        return {"any": "required"}.get(self.type, self.type)


class CountBody(ThinkingFields):
    """The body of `POST /v1/messages/count_tokens`."""

    model: str | None = None
    messages: Annotated[list[Turn], Field(min_length=1)]
    system: str | list[SystemBlock] | None = None
    tools: list[MessageTool] | None = None
    tool_choice: MessageToolChoice | None = None

    def as_chat(self) -> dict[str, Any]:
        """The same request as a chat body."""
        chat = self.model_dump(include=set(ThinkingFields.model_fields), exclude_none=True)
        return chat | self._shared()

    def _shared(self) -> dict[str, Any]:
        shared: dict[str, Any] = {"model": self.model, "messages": self._turns()}
        if len(self.messages) > 1 and self.messages[-1].role == "assistant":
            # Anthropic's way of beginning the answer for the model.
            shared |= {"continue_final_message": True, "add_generation_prompt": False}
        if self.tools:
            shared["tools"] = [
                {
                    "type": "function",
                    "function": {"name": t.name, "description": t.description, "parameters": t.input_schema},
                }
                for t in self.tools
            ]
            if self.tool_choice is not None:
                shared["tool_choice"] = self.tool_choice.as_chat()
                if self.tool_choice.disable_parallel_tool_use:
                    shared["parallel_tool_calls"] = False
        return shared

    def _turns(self) -> list[dict[str, Any]]:
        turns: list[dict[str, Any]] = []
        if self.system:
            text = self.system if isinstance(self.system, str) else "\n".join(part.text for part in self.system)
            turns.append({"role": "system", "content": text})
        for turn in self.messages:
            blocks = [Block(type="text", text=turn.content)] if isinstance(turn.content, str) else turn.content
            text = "".join(b.text for b in blocks)
            for b in blocks:
                if b.type == "tool_result":
                    turns.append({"role": "tool", "tool_call_id": b.tool_use_id, "content": _text(b.content)})
            calls = [
                {"id": b.id, "function": {"name": b.name, "arguments": json.dumps(b.input, ensure_ascii=False)}}
                for b in blocks
                if b.type == "tool_use"
            ]
            if turn.role == "assistant":
                thinking = "".join(b.thinking for b in blocks) or None
                said = {"role": "assistant", "content": text, "reasoning_content": thinking}
                turns.append(said | ({"tool_calls": calls} if calls else {}))
            elif text or not any(b.type == "tool_result" for b in blocks):
                turns.append({"role": "user", "content": text})
        return turns


class MessagesBody(CountBody):
    """The body of `POST /v1/messages`."""

    max_tokens: PositiveCount
    stop_sequences: Annotated[list[StopString], Field(max_length=64)] | None = None
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    seed: int | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None

    def as_chat(self) -> dict[str, Any]:
        more = self.model_dump(include={"max_tokens", "stream", "temperature", "top_p", "top_k", "seed"})
        thinking = self.model_dump(include=set(ThinkingFields.model_fields), exclude_none=True)
        if not thinking:
            thinking = {"include_reasoning": False}
        return thinking | self._shared() | more | {"stop": self.stop_sequences}


def _text(content: str | list[Block]) -> str:
    return content if isinstance(content, str) else "".join(block.text for block in content)


@dataclass(slots=True)
class MessagesReply:
    """One reply in Anthropic's form."""

    model: str
    choices: list[Choice]
    prompt_tokens: int
    id: str
    stop_sequences: tuple[str, ...] = ()
    """The stop sequences of the request."""
    _has_begun: bool = False
    _block: str = ""
    """The type of the content block that is open."""
    _index: int = -1
    _delta_head: str = ""
    """What comes before the text in an event of the block that is open."""
    _calls: list[dict[str, Any]] = field(default_factory=list)

    @property
    def _usage(self) -> dict[str, Any]:
        tally = self.choices[0].tally
        return {
            "input_tokens": self.prompt_tokens,
            "output_tokens": tally.completion_tokens,
            "output_tokens_details": {"thinking_tokens": tally.thinking_tokens},
        }

    @property
    def _ending(self) -> dict[str, Any]:
        choice, end = self.choices[0], self.choices[0].tally.end
        if end is None or not end.is_stop_string:
            return {"stop_reason": _STOP_REASONS[choice.finish_reason], "stop_sequence": None}
        # Engines do not say which of several ended the answer.
        only = self.stop_sequences[0] if len(self.stop_sequences) == 1 else None
        return {"stop_reason": "stop_sequence", "stop_sequence": only}

    def _outline(self) -> dict[str, Any]:
        return {"id": ID_PREFIXES["messages"] + self.id, "type": "message", "role": "assistant", "model": self.model}

    def whole(self) -> dict[str, Any]:
        """The reply that is not streamed."""
        choice = self.choices[0]
        content: list[dict[str, Any]] = []
        if thinking := "".join(choice.thinking):
            content.append({"type": "thinking", "thinking": thinking, "signature": ""})
        text = "".join(choice.content)
        if text or not choice.tool_calls:
            content.append({"type": "text", "text": text})
        content += [_tool_use(call) | {"input": _arguments(call)} for call in choice.tool_calls]
        return self._outline() | {"content": content} | self._ending | {"usage": self._usage, "s1kit": choice.account}

    def chunk(self, choice: Choice, delta: Delta) -> str:
        """The events of one delta; empty where nothing of it is shown."""
        return self._begin() + self._events(*choice.take(delta))

    def last_chunk(self, choice: Choice, end: End) -> str:
        text, calls = choice.finish(end)
        events = self._begin() + self._events("", text, calls)
        if self._index < 0:
            events += self._open("text", {"type": "text", "text": ""})
        return events + self._close()

    def tail(self) -> bytes:
        """What follows the content: why it ended, and usage."""
        choice = self.choices[0]
        return (
            _event("message_delta", delta=self._ending, usage=self._usage, s1kit=choice.account)
            + _event("message_stop")
        ).encode()

    def failed(self, refusal: Refusal) -> bytes:
        """The last event of a stream that fails."""
        return _event("error", error=refusal.body()["error"]).encode()

    def _begin(self) -> str:
        if self._has_begun:
            return ""
        self._has_begun = True
        empty: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
        usage = {"input_tokens": self.prompt_tokens, "output_tokens": 0}
        return _event("message_start", message=self._outline() | empty | {"usage": usage})

    def _events(self, thinking: str, text: str, calls: list[dict[str, Any]]) -> str:
        events = ""
        if thinking:
            events += self._open("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            events += f"{self._delta_head}{json.dumps(thinking)}}}}}\n\n"
        if text:
            events += self._open("text", {"type": "text", "text": ""})
            events += f"{self._delta_head}{json.dumps(text)}}}}}\n\n"
        for call in calls:
            events += self._close() + self._open("tool_use", _tool_use(call))
            delta = {"type": "input_json_delta", "partial_json": json.dumps(_arguments(call))}
            events += _event("content_block_delta", index=self._index, delta=delta)
            events += self._close()
        return events

    def _open(self, kind: str, block: dict[str, Any]) -> str:
        if self._block == kind:
            return ""
        events = self._close()
        self._block, self._index = kind, self._index + 1
        # Written by hand: this runs for every token of every stream.
        self._delta_head = (
            f'event: content_block_delta\ndata: {{"type":"content_block_delta","index":{self._index},'
            f'"delta":{{"type":"{kind}_delta","{kind}":'
        )
        return events + _event("content_block_start", index=self._index, content_block=block)

    def _close(self) -> str:
        if not self._block:
            return ""
        self._block = ""
        return _event("content_block_stop", index=self._index)


def _event(kind: str, **fields: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind} | fields, separators=(',', ':'))}\n\n"


def _tool_use(call: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": {}}


def _arguments(call: dict[str, Any]) -> Any:
    try:
        return json.loads(call["function"]["arguments"])
    except ValueError:
        return {}
