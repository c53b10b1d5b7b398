"""The body of OpenAI's `/v1/responses`, and the same request as a chat body. Nothing is stored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from s1kit.serve.fields import (
    AsWord,
    Effort,
    JsonSchema,
    MessagePart,
    ReasoningSwitch,
    ThinkingFields,
    Total,
    Wire,
    check_parts,
)
from s1kit.serve.refusals import Refusal
from s1kit.serve.responses_reply import ResponseShape
from s1kit.serve.responses_tools import AnyTool, ToolTable, functions, hosted, shown_name, table


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


class ResponseChoice(Wire):
    """The one tool that must be called."""

    type: Literal["function", "custom"]
    name: str
    namespace: str | None = None


class AllowedResponseTool(BaseModel):
    """One of the tools that may be called; those that OpenAI's servers run are none here."""

    type: str
    name: str | None = None
    namespace: str | None = None


class AllowedResponseTools(Wire):
    """The tools that may be called."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[AllowedResponseTool], Field(min_length=1)]


class ResponseReasoning(ReasoningSwitch):
    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed", "none"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    """The older name of `summary`."""
    context: str | None = None
    """Which earlier thinking OpenAI's models see again; here the chat template decides."""
    mode: Literal["standard"] | None = None

    @property
    def wants_summary(self) -> bool:
        return (self.summary or self.generate_summary or "none") != "none"


class TextOptions(Wire):
    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ResponsesBody(ThinkingFields):
    """The body of `POST /v1/responses`."""

    model: str | None = None
    input: str | Annotated[list[Item | OpenaiItem], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Total | None = None
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int | None = None
    reasoning: ResponseReasoning | None = None
    text: TextOptions | None = None
    tools: list[AnyTool] | None = None
    tool_choice: Annotated[
        Literal["none", "auto", "required"] | ResponseChoice | AllowedResponseTools | None, AsWord
    ] = None
    parallel_tool_calls: bool | None = None
    user: Annotated[str, Field(max_length=1000)] | None = None
    # These cannot change what is generated.
    store: bool | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    safety_identifier: str | None = None
    client_metadata: dict[str, Any] | None = None
    stream_options: dict[str, Any] | None = None
    max_tool_calls: int | None = None
    """Bounds calls of tools that OpenAI's servers run."""
    top_logprobs: Annotated[int, Field(ge=0, le=0)] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    include: list[str] | None = None
    truncation: Literal["disabled", "auto"] | None = None
    """`auto` lets OpenAI's servers drop turns of a prompt that is too long; here such a prompt is refused."""
    context_management: list[dict[str, Any]] | None = None
    # What only OpenAI's servers do; the reply says that it was left out.
    moderation: dict[str, Any] | None = None
    access_programs: dict[str, Any] | None = None
    background_options: dict[str, Any] | None = None
    image: dict[str, Any] | None = None
    # OpenRouter's.
    provider: dict[str, Any] | None = None
    models: list[Any] | None = None
    plugins: list[Any] | None = None
    # What would need a store: refused by name.
    background: bool | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None
    prompt: dict[str, Any] | None = None

    @property
    def chat_names(self) -> dict[str, str]:
        """Names of a chat body to the names here, where they differ."""
        return {
            "max_completion_tokens": "max_output_tokens",
            "max_tokens": "max_output_tokens",
            "messages": "input",
            "response_format.json_schema": "text.format",
            "response_format": "text.format",
            "tools.function": "tools",
            "tool_choice.function": "tool_choice",
            "tool_choice.allowed_tools": "tool_choice",
        }

    @property
    def _items(self) -> list[Item | OpenaiItem]:
        return [Item(content=self.input)] if isinstance(self.input, str) else self.input

    @property
    def _tool_places(self) -> list[tuple[str, list[AnyTool]]]:
        """The places where tools are declared, and the tools."""
        places = [("tools", self.tools or [])]
        for i, item in enumerate(self._items):
            if isinstance(item, Item) and item.tools:
                places.append((f"input.{i}.tools", item.tools))
        return places

    def tool_table(self) -> ToolTable:
        """The tools that the model may call. Raises Refusal."""
        return table(one for where, tools in self._tool_places for one in functions(where, tools))

    @property
    def left_out(self) -> tuple[str, ...]:
        """Fields that were accepted and have no meaning here."""
        found = [name for where, tools in self._tool_places for name in hosted(where, tools)]
        found += [f"input.{i} ({item.type})" for i, item in enumerate(self._items) if _was_hosted(item)]
        found += ["text.verbosity"] if self.text and self.text.verbosity in ("low", "high") else []
        found += [name for name in _OF_OTHERS if getattr(self, name)]
        found += ["truncation"] if self.truncation == "auto" else []
        return (*found, *(f"include ({name})" for name in self.include or [] if not name.startswith("reasoning.")))

    @property
    def shape(self) -> ResponseShape:
        """What the reply repeats of the request, and how it shows thinking and calls."""
        kept = {"instructions", "max_output_tokens", "metadata", "parallel_tool_calls", "reasoning", "temperature"}
        kept |= {"text", "tool_choice", "tools", "top_p", "truncation", "user"}
        echo = self.model_dump(include=kept, exclude_none=True, by_alias=True)
        is_summary = self.reasoning is not None and self.reasoning.wants_summary
        return ResponseShape(echo, is_summary, self.tool_table())

    def as_chat(self) -> dict[str, Any]:
        """The request as a chat body. Raises Refusal for what would need a store of replies."""
        for name, why in _NEEDS_STORE.items():
            if getattr(self, name) not in (None, False):
                raise Refusal(400, f"{name}: {why}", param=name, code="unsupported")
        kept = {*ThinkingFields.model_fields, "model", "stream", "temperature", "top_p", "seed", "user"}
        kept |= {"parallel_tool_calls"}
        chat = self.model_dump(include=kept, exclude_none=True)
        for name in ("summary", "generate_summary", "context", "mode"):
            chat.get("reasoning", {}).pop(name, None)
        if shown := self.tool_table().shown:
            chat["tools"] = [{"type": "function", "function": function} for function in shown.values()]
        chat["tool_choice"] = self._tool_choice()
        updates = [item for item in self._items if isinstance(item, Item) and item.type == "configuration_update"]
        if efforts := [one.reasoning.effort for one in updates if one.reasoning and one.reasoning.effort]:
            chat["reasoning"] = {**chat.get("reasoning", {}), "effort": efforts[-1]}
        formats = [self.text.format if self.text else None, *(one.text.format for one in updates if one.text)]
        if (last := formats[-1]) is not None and last.type != "text":
            form = last.model_dump(by_alias=True, exclude_none=True)
            kind = form.pop("type")
            chat["response_format"] = {"type": kind} | ({"json_schema": form} if kind == "json_schema" else {})
        chat["messages"] = self._turns()
        # A message of the assistant at the end is history here, and the reply is another one.
        return chat | {"max_completion_tokens": self.max_output_tokens, "add_generation_prompt": True}

    def _tool_choice(self) -> str | dict[str, Any] | None:
        """The choice in a chat's words."""
        choice = self.tool_choice
        if isinstance(choice, ResponseChoice):
            return _named(choice)
        if isinstance(choice, AllowedResponseTools):
            allowed = [_named(tool) for tool in choice.tools if tool.type in ("function", "custom")]
            return {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode, "tools": allowed}}
        return choice

    def _turns(self) -> list[dict[str, Any]]:
        turns: list[dict[str, Any]] = []
        if self.instructions:
            turns.append({"role": "system", "content": self.instructions})
        thinking = ""
        for number, item in enumerate(self._items):
            if isinstance(item, OpenaiItem) or _was_hosted(item) or item.type in _NO_TURN:
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


_OF_OTHERS = (
    *("context_management", "moderation", "access_programs", "background_options", "image"),
    *("provider", "models", "plugins"),
)
"""Fields for what only OpenAI's servers and OpenRouter do."""
_NEEDS_STORE = {
    "previous_response_id": "replies are not stored here. Send the earlier turns in input.",
    "conversation": "replies are not stored here. Send the earlier turns in input.",
    "background": "replies are not stored here. Leave it out, and read the reply as a stream.",
    "prompt": "prompt templates are not stored here. Send instructions and input.",
}
_NO_TURN = ("additional_tools", "configuration_update")
"""Items that say something about the replies after them, and are no turns."""


_CALLS = ("function_call", "custom_tool_call", "tool_search_call")


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


def _was_hosted(item: Item | OpenaiItem) -> bool:
    """Whether the item says what OpenAI's own servers did."""
    if isinstance(item, OpenaiItem):
        return True
    return item.type in ("tool_search_call", "tool_search_output") and item.execution != "client"


def _named(tool: ResponseChoice | AllowedResponseTool) -> dict[str, Any]:
    return {"type": "function", "function": {"name": shown_name(tool.name or "", tool.namespace)}}


def _text(content: str | Sequence[MessagePart | AgentPart]) -> str:
    return content if isinstance(content, str) else "".join(part.said or "" for part in content)
