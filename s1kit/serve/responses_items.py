"""The input of OpenAI's `/v1/responses`: its items, and the turns of a chat that they are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from s1kit.serve.chat import JsonSchema, MessagePart
from s1kit.serve.fields import Effort, Wire, check_parts
from s1kit.serve.refusals import Refusal
from s1kit.serve.responses_tools import AnyTool, functions, shown_name


def _is_plain(text: str) -> str:
    if text.startswith("gAAAA"):
        raise ValueError("it was encrypted by another server, and only that one can read it")
    return text


class AgentPart(Wire):
    """What one agent tells another in the place that OpenAI encrypts: what our model wrote there is plain text."""

    type: Literal["encrypted_content"]
    encrypted_content: Annotated[str, AfterValidator(_is_plain)]

    @property
    def said(self) -> str:
        """The text."""
        return self.encrypted_content


_ITEM_PARTS = {
    "function_call": ("call_id", "name"),
    "function_call_output": ("call_id", "output"),
    "custom_tool_call": ("call_id", "name", "input"),
    "custom_tool_call_output": ("call_id", "output"),
    "additional_tools": ("tools",),
    "tool_search_output": ("tools",),
    "agent_message": ("content",),
}


class TextFormat(JsonSchema):
    type: Literal["text", "json_object", "json_schema"] = "text"


class ItemReasoning(Wire):
    """What an item sets for the replies after it."""

    effort: Effort | None = None


class ItemText(Wire):
    """The form that an item sets for the text of the replies after it."""

    format: TextFormat


class Item(Wire):
    """One item of the input: a message, tools, or an echo of an earlier reasoning item, call or call's output."""

    type: Literal[
        "message",
        "reasoning",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
        "tool_search_call",
        "tool_search_output",
        "additional_tools",
        "agent_message",
        "configuration_update",
        "item_reference",
    ] = "message"
    id: str | None = None
    status: str | None = None
    phase: str | None = None
    role: Literal["system", "developer", "user", "assistant"] = "user"
    content: str | list[MessagePart | AgentPart] = ""
    summary: list[dict[str, Any]] | None = None
    encrypted_content: str | None = None
    call_id: str = ""
    name: str = ""
    arguments: str | dict[str, Any] = "{}"
    """JSON text; of a search for tools an object."""
    input: str = ""
    """What a custom tool was given."""
    output: str | list[MessagePart] = ""
    namespace: str | None = None
    tools: list[AnyTool] | None = None
    """Tools that are declared here, or that a search has found."""
    execution: Literal["client", "server"] | None = None
    """Who searched for tools."""
    author: str = ""
    recipient: str = ""
    """The agent that a message of another is for."""
    reasoning: ItemReasoning | None = None
    """What an update of the configuration sets; the last one holds, also above the request's own fields."""
    text: ItemText | None = None
    """The same."""
    # These say where an item is from, and reach no model.
    caller: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    provider_data: dict[str, Any] | None = None
    internal_chat_message_metadata_passthrough: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        check_parts(self, self.type, _ITEM_PARTS)
        if self.type == "message" and self.role != "assistant":
            check_parts(self, self.type, {self.type: ("content",)})
        if (self.reasoning is None and self.text is None) == (self.type == "configuration_update"):
            raise ValueError("reasoning and text belong to a configuration_update, and every one has one of them")
        return self


class OpenaiItem(BaseModel):
    """A client's record of what OpenAI's servers did between two items; the model is not shown it."""

    type: Annotated[
        str,
        Field(
            pattern="^(web_search_call|file_search_call|code_interpreter_call|image_generation_call"
            "|program|program_output|mcp_(call|list_tools|approval_request|approval_response))$"
        ),
    ]


_NO_TURN = ("additional_tools", "configuration_update")
"""Items that say something about the replies after them, and are no turns."""
_CALLS = ("function_call", "custom_tool_call", "tool_search_call")


def chat_turns(items: Iterable[Item | OpenaiItem], instructions: str | None) -> list[dict[str, Any]]:
    """The turns of a chat. Raises Refusal for an item that would have to be in a store."""
    turns: list[dict[str, Any]] = [{"role": "system", "content": instructions}] if instructions else []
    thinking = ""
    for number, item in enumerate(items):
        if isinstance(item, OpenaiItem) or was_hosted(item) or item.type in _NO_TURN:
            continue
        if item.type == "item_reference":
            what = (
                f"input.{number} refers to a stored item, and nothing is stored here. Send the item itself; "
                "clients do so where store is false."
            )
            raise Refusal(400, what, param=f"input.{number}", code="unsupported")
        if item.type == "reasoning":
            thinking = _text(item.content) or "".join(str(part.get("text", "")) for part in item.summary or [])
        elif item.type in _CALLS:
            # Text and the calls after it are one turn, as they were one reply.
            if thinking or not turns or turns[-1]["role"] != "assistant":
                turns.append(_said("", thinking))
            turns[-1].setdefault("tool_calls", []).append(_call(item))
            thinking = ""
        elif item.type == "message" and item.role == "assistant":
            turns.append(_said(_text(item.content), thinking))
            thinking = ""
        else:
            turns.append(_input_turn(item))
    if not turns:
        turns.append({"role": "user", "content": ""})
    return turns


def _call(item: Item) -> dict[str, Any]:
    """A call as a part of an assistant's turn."""
    name = "tool_search" if item.type == "tool_search_call" else shown_name(item.name, item.namespace)
    arguments = json.dumps({"input": item.input}) if item.type == "custom_tool_call" else item.arguments
    return {"id": item.call_id, "function": {"name": name, "arguments": arguments}}


def _input_turn(item: Item) -> dict[str, Any]:
    """A turn that the model did not write: what a tool gave, another agent's message, or a message."""
    if item.type in ("function_call_output", "custom_tool_call_output"):
        return {"role": "tool", "tool_call_id": item.call_id, "content": _text(item.output)}
    if item.type == "tool_search_output":
        found = [client.shown_name for _, client, _ in functions("", item.tools or [])]
        return {"role": "tool", "tool_call_id": item.call_id, "content": json.dumps({"tools": found})}
    if item.type == "agent_message":
        return {"role": "user", "content": f"[{item.author} to {item.recipient}]\n{_text(item.content)}"}
    return {"role": item.role, "content": _text(item.content)}


def _said(text: str, thinking: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text} | ({"reasoning_content": thinking} if thinking else {})


def was_hosted(item: Item | OpenaiItem) -> bool:
    """Whether the item says what OpenAI's own servers did."""
    if isinstance(item, OpenaiItem):
        return True
    return item.type in ("tool_search_call", "tool_search_output") and item.execution != "client"


def _text(content: str | Sequence[MessagePart | AgentPart]) -> str:
    return content if isinstance(content, str) else "".join(part.said or "" for part in content)
