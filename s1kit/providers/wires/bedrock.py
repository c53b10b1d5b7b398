"""The wire format of Amazon Bedrock's Converse, one for all of its models.

Sources: docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html and API_runtime_ConverseStream.html,
and botocore's description of the service. Thinking comes as `reasoningContent`; how it is asked for is the model's own:
Claude takes `thinking`, gpt-oss `reasoning_effort`, others think unasked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from s1kit.errors import InputError
from s1kit.providers.chat import Assembler, Call, ChatRequest, Reply, settle_finish
from s1kit.providers.wires.conversation import ChatTurn, arguments_of, call_of, no_format, take_format, tools, turns
from s1kit.providers.wires.extra import with_extra
from s1kit.providers.wires.finish import finish_of
from s1kit.providers.wires.reading import count, dict_of, list_of, notes, text_of
from s1kit.records import Usage

_NAME = "Bedrock"
STREAM_TYPE = "application/vnd.amazon.eventstream"
_FIELDS = {
    *("inferenceConfig", "toolConfig", "guardrailConfig", "projectIdentifier", "additionalModelRequestFields"),
    *("promptVariables", "additionalModelResponseFieldPaths", "requestMetadata", "performanceConfig"),
    *("serviceTier", "outputConfig"),
}
"""What a request to Converse may hold beside the conversation, by botocore's description of the service."""


@dataclass(frozen=True)
class BedrockWire:
    name: str = "bedrock"

    def headers(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"} if key else {}

    def call(self, request: ChatRequest) -> Call:
        p = request.parameters
        if p.seed is not None:
            raise InputError("Bedrock takes no seed", where="seed", fix="Leave it out.")
        said = turns(request.messages, _NAME)
        limits: dict[str, Any] = {"maxTokens": p.max_output_tokens}
        for field, value in [("temperature", p.temperature), ("topP", p.top_p)]:
            if value is not None:
                limits[field] = value
        body: dict[str, Any] = {
            "messages": _messages([turn for turn in said if turn.role != "system"]),
            "inferenceConfig": limits,
        }
        if system := [{"text": turn.text} for turn in said if turn.role == "system"]:
            body["system"] = system
        if request.tools:
            body["toolConfig"] = {
                "tools": [
                    {
                        "toolSpec": {"name": tool.name, "inputSchema": {"json": tool.parameters}}
                        | ({"description": tool.description} if tool.description else {})
                    }
                    for tool in tools(request, _NAME)
                ]
            }
        asked, extra = take_format(p.extra)
        if asked is not None and asked.kind != "text":
            raise no_format(_NAME, asked.kind)
        if unknown := sorted(extra.keys() - _FIELDS):  # which Bedrock would let pass
            raise InputError(
                f"Converse has no field {unknown[0]!r}",
                where="distill.extra",
                fix="Fields of one model stand in additionalModelRequestFields, sampling in inferenceConfig.",
            )
        if more := _of_the_model(request):
            body["additionalModelRequestFields"] = more
        return Call(f"/model/{quote(request.model, safe='-._~')}/converse", with_extra(body, extra))

    def streamed(self, call: Call, *, with_usage: bool = True) -> Call:
        return Call(f"{call.path}-stream", call.body)

    def assembler(self) -> ConverseAssembler:
        return ConverseAssembler()

    def read(self, body: Mapping[str, Any]) -> Reply:
        given, cached = (
            count(body.get("usage"), "inputTokens") or 0,
            count(body.get("usage"), "cacheReadInputTokens") or 0,
        )
        written = count(body.get("usage"), "cacheWriteInputTokens") or 0
        usage = Usage(
            input_tokens=given + cached + written,
            output_tokens=count(body.get("usage"), "outputTokens") or 0,
            cached_input_tokens=cached,
        )
        message = dict_of(body.get("output")).get("message")
        if not isinstance(message, Mapping):
            return Reply(finish_reason="malformed", usage=usage, note="the reply has no message")
        blocks = [dict_of(block) for block in list_of(message.get("content"))]
        thoughts = [dict_of(block["reasoningContent"]) for block in blocks if "reasoningContent" in block]
        thinking = "".join(text_of(thought.get("reasoningText")) for thought in thoughts)
        answer = "".join(text_of(block.get("text")) for block in blocks)
        named = [dict_of(block["toolUse"]) for block in blocks if "toolUse" in block]
        calls = tuple(call_of(call.get("toolUseId"), call.get("name"), call.get("input")) for call in named)
        finish, note = finish_of(body.get("stopReason"))
        if any("redactedContent" in thought for thought in thoughts):
            note = notes(note, "part of the thinking is redacted")
        return Reply(thinking, answer, settle_finish(finish, answer, calls), usage, None, note, tool_calls=calls)


def _of_the_model(request: ChatRequest) -> dict[str, Any]:
    """Fields that only some models take."""
    p, model = request.parameters, request.model
    if "anthropic." in model:
        more: dict[str, Any] = {}
        if p.thinking_budget == 0:
            more["thinking"] = {"type": "disabled"}
        elif p.thinking_budget is not None:
            more["thinking"] = {"type": "enabled", "budget_tokens": p.thinking_budget}
        elif p.thinking:
            more["thinking"] = {"type": "adaptive"}
        return more | ({"output_config": {"effort": p.reasoning_effort}} if p.reasoning_effort is not None else {})
    if p.thinking_budget is not None:
        raise InputError(
            f"{model} takes no thinking budget", where="thinking_budget", fix="Use reasoning_effort, or leave it out."
        )
    return {"reasoning_effort": p.reasoning_effort} if p.reasoning_effort is not None else {}


def _messages(said: list[ChatTurn]) -> list[dict[str, Any]]:
    """Users and assistants take turns: what one says in a row is one message."""
    messages: list[dict[str, Any]] = []
    for turn in said:
        role = "assistant" if turn.role == "assistant" else "user"
        blocks: list[dict[str, Any]] = []
        if turn.role == "tool":
            blocks.append({"toolResult": {"toolUseId": turn.answers, "content": [{"text": turn.text}]}})
        elif turn.text:
            blocks.append({"text": turn.text})
        blocks += [
            {"toolUse": {"toolUseId": call.id, "name": call.name, "input": arguments_of(call, _NAME)}}
            for call in turn.calls
        ]
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += blocks
        else:
            messages.append({"role": role, "content": blocks})
    return messages


class ConverseAssembler:
    """Events of a conversation, each `{event type: payload}`, into the body that would have come unstreamed."""

    def __init__(self) -> None:
        self.is_whole = self.has_text = False
        self._blocks: dict[int, dict[str, list[str]]] = {}
        """Texts that are still growing: `text`, `thinking`, `input`, and the name and id of a tool's call."""
        self._rest: dict[str, Any] = {}

    def end(self) -> None:
        """The stream has no mark of its end but `messageStop`."""

    def add(self, event: Mapping[str, Any]) -> None:
        for name, payload in event.items():
            given = dict_of(payload)
            at = given.get("contentBlockIndex")
            block = self._blocks.setdefault(at if type(at) is int else 0, {}) if name.startswith("contentBlock") else {}
            match name:
                case "contentBlockStart":
                    use = dict_of(dict_of(given.get("start")).get("toolUse"))
                    block.update({field: [text_of(use[field])] for field in ("toolUseId", "name") if field in use})
                case "contentBlockDelta":
                    delta = dict_of(given.get("delta"))
                    thought = dict_of(delta.get("reasoningContent"))
                    self._grow(block, "text", delta.get("text"))
                    self._grow(block, "thinking", thought.get("text"))
                    self._grow(block, "redacted", thought.get("redactedContent"))
                    self._grow(block, "input", dict_of(delta.get("toolUse")).get("input"))
                case "messageStop":
                    self._rest["stopReason"] = given.get("stopReason")
                    self.is_whole = True
                case "metadata":
                    self._rest.update((field, given[field]) for field in ("usage", "metrics") if field in given)
                case "error":
                    self._rest["error"], self.is_whole = payload, True

    def _grow(self, block: dict[str, list[str]], name: str, piece: Any) -> None:
        if isinstance(piece, str):
            block.setdefault(name, []).append(piece)
            self.has_text = True

    def body(self) -> dict[str, Any]:
        content = [_block(block) for _, block in sorted(self._blocks.items()) if block]
        return {"output": {"message": {"role": "assistant", "content": content}}, **self._rest}


def _block(pieces: Mapping[str, list[str]]) -> dict[str, Any]:
    joined = {name: "".join(texts) for name, texts in pieces.items()}
    if "toolUseId" in joined or "input" in joined:
        try:
            given = json.loads(joined.get("input") or "{}")
        except ValueError:
            given = joined["input"]
        return {"toolUse": {"toolUseId": joined.get("toolUseId", ""), "name": joined.get("name", ""), "input": given}}
    if "redacted" in joined:
        return {"reasoningContent": {"redactedContent": joined["redacted"]}}
    if "thinking" in joined:
        return {"reasoningContent": {"reasoningText": {"text": joined["thinking"]}}}
    return {"text": joined.get("text", "")}


class BinaryEvents:
    """Incremental parser of Amazon's binary event streams, by botocore, whose messages carry JSON objects."""

    def __init__(self, assembler: Assembler) -> None:
        from botocore.eventstream import EventStreamBuffer

        self.num_events = 0
        self.is_over = False
        self.assembler, self._buffer = assembler, EventStreamBuffer()
        self.is_broken = False
        """Whether a message could not be read: the reply is not whole."""

    def feed(self, piece: bytes) -> None:
        """Raises nothing: after a message with a wrong checksum the rest is let pass, and the reply counts as cut."""
        from botocore.eventstream import ParserError

        if self.is_broken:
            return
        self._buffer.add_data(piece)
        try:
            for message in self._buffer:
                self._dispatch(message.headers, message.payload)
        except ParserError:
            self.is_broken = True

    def end(self) -> None:
        """What is not whole by now is lost."""

    def _dispatch(self, headers: Mapping[str, Any], payload: bytes) -> None:
        try:
            value = json.loads(payload or b"{}")
        except (ValueError, RecursionError):
            return
        self.num_events += 1
        if headers.get(":message-type") == "event":
            self.assembler.add({str(headers.get(":event-type")): value})
        else:
            code = headers.get(":exception-type") or headers.get(":error-code")
            text = dict_of(value).get("message") or headers.get(":error-message") or code
            self.assembler.add({"error": {"code": code, "message": text}})
