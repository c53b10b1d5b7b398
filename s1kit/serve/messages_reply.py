"""The reply of Anthropic's `/v1/messages`, whole and as events."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from s1kit.serve.decoding import Delta, End
from s1kit.serve.refusals import Refusal
from s1kit.serve.replies import ID_PREFIXES, Choice
from s1kit.serve.tool_calls import given_to

SIGNATURE = "s1kit"
"""The signature of thinking blocks: clients do not send back what has none. It is not checked."""

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


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
            content.append({"type": "thinking", "thinking": thinking, "signature": SIGNATURE})
        text = "".join(choice.content)
        if text or not choice.tool_calls:
            content.append({"type": "text", "text": text})
        content += [_tool_use(call) | {"input": given_to(call)} for call in choice.tool_calls]
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
            delta = {"type": "input_json_delta", "partial_json": json.dumps(given_to(call))}
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
        signed = ""
        if self._block == "thinking":
            delta = {"type": "signature_delta", "signature": SIGNATURE}
            signed = _event("content_block_delta", index=self._index, delta=delta)
        self._block = ""
        return signed + _event("content_block_stop", index=self._index)


def _event(kind: str, **fields: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind} | fields, separators=(',', ':'))}\n\n"


def _tool_use(call: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": {}}
