"""The reply of OpenAI's `/v1/responses`, whole and as events.

Thinking is a reasoning item: as its content, or as its summary where the request asks for one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from s1kit.serve.decoding import Delta, End
from s1kit.serve.refusals import Refusal
from s1kit.serve.replies import ID_PREFIXES, Choice
from s1kit.serve.responses_tools import ToolTable
from s1kit.serve.tool_calls import given_to


@dataclass(frozen=True, slots=True)
class ResponseShape:
    """What a reply takes from its request."""

    echo: Mapping[str, Any] = field(default_factory=dict)
    """Fields that it repeats."""
    is_summary: bool = False
    """Whether thinking is shown as a summary."""
    tools: ToolTable = field(default_factory=lambda: ToolTable({}, {}))
    """The tools that may be called."""


@dataclass(slots=True)
class ResponsesReply:
    """One reply in the form of `/v1/responses`."""

    model: str
    choices: list[Choice]
    prompt_tokens: int
    id: str
    shape: ResponseShape = field(default_factory=ResponseShape)
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
            "instructions": None,
            "max_output_tokens": None,
            "metadata": {},
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "temperature": None,
            "tool_choice": "auto",
            "tools": [],
            "top_p": None,
            "store": False,
            "usage": None if status == "in_progress" else self._usage,
            **self.shape.echo,
        }

    @property
    def _usage(self) -> dict[str, Any]:
        tally = self.choices[0].tally
        return {
            "input_tokens": self.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
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
            index = len(self._items)
            at = {"item_id": item["id"], "output_index": index}
            self._items.append(item)
            begun = {key: "" if isinstance(item[key], str) else {} for key in ("input", "arguments") if key in item}
            item_begun = item | begun | {"status": "in_progress"}
            events += self._event("response.output_item.added", output_index=index, item=item_begun)
            # A search for tools has no events of its own between its first and its last.
            if text_event := _TEXT_EVENTS.get(item["type"]):
                key = next(iter(begun))
                events += self._event(f"response.{text_event}.delta", **at, delta=item[key])
                events += self._event(f"response.{text_event}.done", **at, name=item["name"], **{key: item[key]})
            events += self._event("response.output_item.done", output_index=index, item=item)
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
        index = "summary_index" if self.shape.is_summary and item["type"] == "reasoning" else "content_index"
        return {"item_id": item["id"], "output_index": len(self._items) - 1, index: 0}

    def _text_event(self, kind: str) -> str:
        if kind == "message":
            return "output_text"
        return "reasoning_summary_text" if self.shape.is_summary else "reasoning_text"

    def _part_event(self, kind: str) -> str:
        return "reasoning_summary_part" if self.shape.is_summary and kind == "reasoning" else "content_part"

    def _part(self, kind: str, text: str) -> dict[str, Any]:
        if kind == "message":
            return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        return {"type": "summary_text" if self.shape.is_summary else "reasoning_text", "text": text}

    def _item(self, kind: str, index: int, text: str | None) -> dict[str, Any]:
        """An output item; None as its text: it has only begun."""
        parts = [] if text is None else [self._part(kind, text)]
        status = "in_progress" if text is None else "completed"
        if kind == "message":
            head = {"id": f"msg_{self.id}_{index}", "type": kind, "role": "assistant"}
            return head | {"status": status, "content": parts}
        shown = {"summary": parts} if self.shape.is_summary else {"summary": [], "content": parts}
        return {"id": f"rs_{self.id}_{index}", "type": kind, "status": status} | shown

    def _call(self, call: dict[str, Any], index: int) -> dict[str, Any]:
        function = call["function"]
        tool = self.shape.tools.client_tool(function["name"])
        common = {"status": "completed", "call_id": call["id"]}
        if tool.kind == "tool_search":
            item = {"id": f"tsc_{self.id}_{index}", "type": "tool_search_call", "execution": "client"} | common
            return item | {"arguments": given_to(call)}
        common |= {"name": tool.name} | ({"namespace": tool.namespace} if tool.namespace is not None else {})
        if tool.kind == "custom":
            return {"id": f"ctc_{self.id}_{index}", "type": "custom_tool_call"} | common | {"input": _text_in(call)}
        call_fields = common | {"arguments": function["arguments"]}
        return {"id": f"fc_{self.id}_{index}", "type": "function_call"} | call_fields

    def _event(self, kind: str, **fields: Any) -> str:
        self._number += 1
        event = {"type": kind, "sequence_number": self._number} | fields
        return f"event: {kind}\ndata: {json.dumps(event, separators=(',', ':'))}\n\n"


_TEXT_EVENTS = {"function_call": "function_call_arguments", "custom_tool_call": "custom_tool_call_input"}
"""The events that carry what a call is given, by the type of its item."""


def _text_in(call: dict[str, Any]) -> str:
    """The one text of a custom tool's call; all of its arguments where they are something else."""
    given = given_to(call)
    text = given.get("input") if isinstance(given, dict) else None
    return text if isinstance(text, str) else str(call["function"]["arguments"])
