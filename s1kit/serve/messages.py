"""The bodies of Anthropic's `/v1/messages` and `count_tokens`, and the same request as a chat body.

A request that says nothing about thinking gets a reply without thinking blocks, as programs that read `content[0].text`
expect; the model still thinks, and it counts within `max_tokens`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from s1kit.serve.fields import Effort, PositiveCount, StopString, ThinkingFields, ThinkingSwitch, Wire, check_parts
from s1kit.serve.refusals import Refusal


class TextSource(Wire):
    """A document that is text; other kinds are refused."""

    type: Literal["text"]
    media_type: str | None = None
    data: str

    @property
    def said(self) -> str:
        """The text."""
        return self.data


class BlocksSource(Wire):
    """A document of text blocks."""

    type: Literal["content"]
    content: str | list[SystemBlock]

    @property
    def said(self) -> str:
        """The text."""
        return self.content if isinstance(self.content, str) else "\n".join(block.text for block in self.content)


class ToolChange(Wire):
    """The tool that a block adds or removes."""

    type: Literal["tool_reference", "tool_definition"]
    name: str = ""
    definition: MessageTool | None = None

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        if (self.definition is None) == (self.type == "tool_definition"):
            raise ValueError("definition belongs to a tool_definition, and every one has it")
        return self


_BLOCK_PARTS = {
    "text": ("text",),
    "thinking": ("thinking",),
    "tool_use": ("id", "name"),
    "tool_result": ("tool_use_id",),
    "tool_reference": ("tool_name",),
}


class Block(Wire):
    """One content block of a turn."""

    type: Literal[
        "text",
        "thinking",
        "redacted_thinking",
        "tool_use",
        "tool_result",
        "document",
        "search_result",
        "tool_reference",
        "tool_addition",
        "tool_removal",
        "compaction",
    ]
    source: TextSource | BlocksSource | str | None = None
    """What a document holds, or where a search result is from."""
    title: str | None = None
    context: str | None = None
    text: str = ""
    thinking: str = ""
    signature: str | None = None
    data: str | None = None
    id: str = ""
    name: str = ""
    input: dict[str, Any] = Field(default_factory=dict)
    tool_use_id: str = ""
    tool_name: str = ""
    """The tool that a search for tools has found."""
    tool: ToolChange | None = None
    tool_changes: list[Block] | None = None
    """Tools that came and went in what a compaction made shorter."""
    content: str | list[Block] = ""
    encrypted_content: str | None = None
    """What Anthropic's servers keep in a compaction beside its text."""
    is_error: bool | None = None
    cache_control: dict[str, Any] | None = None
    citations: list[Any] | dict[str, Any] | None = None
    """Citations of an earlier reply, or a request for some in the next, which no model here can give."""
    caller: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        check_parts(self, self.type, _BLOCK_PARTS)
        if (self.source is None) == (self.type in ("document", "search_result")):
            raise ValueError("source belongs to a document or a search result, and every one has it")
        if self.source is not None and isinstance(self.source, str) != (self.type == "search_result"):
            raise ValueError("source of a search result is a text, of a document an object")
        if (self.tool is None) == (self.type in ("tool_addition", "tool_removal")):
            raise ValueError("tool belongs to a change of the tools, and every one has it")
        return self

    @property
    def said(self) -> str:
        """The text that the model is shown."""
        if self.type == "tool_reference":
            return f"Tool available: {self.tool_name}\n"
        if self.type == "compaction":
            return _text(self.content)
        if self.source is None:
            return self.text
        if isinstance(self.source, str):
            return "\n".join(filter(None, (self.title, self.source, _text(self.content)))) + "\n"
        return "\n".join(filter(None, (self.title, self.context, self.source.said))) + "\n"


class AnthropicBlock(BaseModel):
    """A client's record of what Anthropic's servers did, such as a search; the model is not shown it."""

    type: Annotated[
        str,
        Field(
            pattern="^(server_tool_use|mcp_tool_use|mcp_tool_result|mcp_tool_listing|container_upload|fallback"
            "|(web_search|web_fetch|tool_search|advisor|(bash_|text_editor_)?code_execution)\\w*_result)$"
        ),
    ]


class TurnOutput(Wire):
    """What a system turn sets for the replies that follow it."""

    effort: Effort | None = None


class Turn(Wire):
    role: Literal["user", "assistant", "system"]
    """What a system turn says is added to the system prompt, wherever it stands."""
    content: str | list[Block | AnthropicBlock] = ""
    output_config: TurnOutput | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.output_config is not None and self.role != "system":
            raise ValueError(f"output_config belongs to a turn of role system, not {self.role}")
        if "content" not in self.model_fields_set and self.output_config is None:
            raise ValueError("content is missing; give a string")
        return self


class SystemBlock(Wire):
    type: Literal["text"]
    text: str
    cache_control: dict[str, Any] | None = None


class MessageTool(Wire):
    type: Literal["custom"] | None = None
    name: Annotated[str, Field(min_length=1, max_length=200)]
    description: str | None = None
    input_schema: dict[str, Any]
    strict: bool | None = None
    cache_control: dict[str, Any] | None = None
    # These say how a client calls and streams, not what is generated.
    eager_input_streaming: bool | None = None
    defer_loading: bool | None = None
    """A tool that is to be searched for is shown like the others: nothing here could search for it."""
    allowed_callers: list[str] | None = None
    input_examples: list[dict[str, Any]] | None = None

    def as_chat(self) -> dict[str, Any]:
        """The tool in OpenAI's words."""
        spec = {"name": self.name, "description": self.description, "parameters": self.input_schema}
        return {"type": "function", "function": spec | ({"strict": True} if self.strict else {})}


class AnthropicTool(BaseModel):
    """A tool that Anthropic's own servers run; the model here is not told of it."""

    type: Annotated[str, Field(pattern="^(web_search|web_fetch|code_execution|tool_search|advisor|mcp)_")]


class OutputFormat(Wire):
    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(Wire):
    effort: Effort | None = None
    """The same as `reasoning_effort`; `thinking.budget_tokens` counts for more."""
    format: OutputFormat | None = None
    task_budget: dict[str, Any] | None = None
    """What Anthropic's models are told of the tokens of a whole task; left out."""


class MessageToolChoice(Wire):
    type: Literal["auto", "none", "any", "tool"]
    name: str | None = None
    """Name of the tool that must be called, for type `tool`."""
    disable_parallel_tool_use: bool | None = None

    def as_chat(self) -> str | dict[str, Any]:
        """The choice in OpenAI's words."""
        if self.type == "tool":
            return {"type": "function", "function": {"name": self.name or ""}}
        return {"any": "required"}.get(self.type, self.type)


class MessageThinking(ThinkingSwitch):
    type: Literal["enabled", "disabled", "adaptive", "auto", "between_tools"]  # type: ignore[assignment]
    """`between_tools`: the model thinks after the results of tools, and not before a first answer."""


class CountBody(ThinkingFields):
    """The body of `POST /v1/messages/count_tokens`."""

    model: str | None = None
    messages: Annotated[list[Turn], Field(min_length=1)]
    thinking: MessageThinking | None = None
    system: str | list[SystemBlock] | None = None
    tools: list[MessageTool | AnthropicTool] | None = None
    tool_choice: MessageToolChoice | None = None
    output_config: OutputConfig | None = None
    context_management: dict[str, Any] | None = None
    """How Anthropic's servers shorten a long conversation; here none is shortened, and the reply says so."""
    compaction: dict[str, Any] | None = None
    """The same."""
    fallbacks: list[Any] | str | None = None
    """Other models, for what the first refuses; left out."""
    container: str | dict[str, Any] | None = None
    """Where Anthropic's servers run code; left out."""
    diagnostics: dict[str, Any] | None = None
    """What Anthropic's servers are to tell of their caches; left out."""
    mcp_servers: list[Any] | None = None
    """Whose tools Anthropic's servers call; left out."""
    # These cannot change what is generated.
    cache_control: dict[str, Any] | None = None
    betas: list[str] | None = None
    inference_geo: str | None = None
    billing_policy: dict[str, Any] | None = None
    fallback_credit_token: str | dict[str, Any] | None = None
    speed: Literal["standard", "fast"] | None = None
    user_profile_id: str | None = None
    workspace_id: str | None = None
    thread: dict[str, Any] | None = None
    """A conversation that Anthropic's servers hold; refused."""
    output_format: OutputFormat | None = None
    """The older place of `output_config.format`."""

    @property
    def chat_names(self) -> dict[str, str]:
        """Names of a chat body to the names here, where they differ."""
        return {
            "stop": "stop_sequences",
            "reasoning_effort": "output_config.effort",
            "response_format.json_schema": "output_config.format",
            "response_format": "output_config.format",
            "tools.function": "tools",
            "tool_choice.function": "tool_choice",
        }

    @property
    def left_out(self) -> tuple[str, ...]:
        """Fields that were accepted and have no meaning here."""
        found = [name for name in _LEFT_OUT if getattr(self, name)]
        found += [f"tools.{i} ({t.type})" for i, t in enumerate(self.tools or []) if isinstance(t, AnthropicTool)]
        for i, turn in enumerate(self.messages):
            for j, block in enumerate(turn.content):
                if isinstance(block, AnthropicBlock):
                    found.append(f"messages.{i}.content.{j} ({block.type})")
        if self.output_config is not None and self.output_config.task_budget:
            found.append("output_config.task_budget")
        return (*found, "output_config.effort") if self._has_own_budget and self._effort else tuple(found)

    @property
    def _effort(self) -> str | None:
        """The last that was set."""
        stated = [self.output_config, *(turn.output_config for turn in self.messages)]
        return next((one.effort for one in reversed(stated) if one is not None and one.effort), None)

    @property
    def _output_format(self) -> OutputFormat | None:
        inside = self.output_config.format if self.output_config is not None else None
        return inside or self.output_format

    @property
    def _has_own_budget(self) -> bool:
        thinking = self.thinking
        return thinking is not None and (thinking.number is not None or self._thinking_type == "disabled")

    @property
    def _thinking_type(self) -> str | None:
        """The kind of thinking in the words of a chat, which do not depend on the turns."""
        kind = self.thinking.type if self.thinking is not None else None
        if kind != "between_tools":
            return kind
        is_after_tools = any(block.type == "tool_result" for block in _blocks(self.messages[-1].content))
        return "adaptive" if is_after_tools else "disabled"

    def _thinking(self) -> dict[str, Any]:
        """What is said about thinking, in the words of a chat. Raises Refusal for what would need a store."""
        if self.thread is not None:
            what = "thread: conversations are not stored here. Send all turns in messages."
            raise Refusal(400, what, param="thread", code="unsupported")
        stated = self.model_dump(include=set(ThinkingFields.model_fields), exclude_none=True)
        if "thinking" in stated:
            stated["thinking"]["type"] = self._thinking_type
        return stated

    def as_chat(self) -> dict[str, Any]:
        """The request as a chat body. Raises Refusal."""
        return self._thinking() | self._shared()

    def _shared(self) -> dict[str, Any]:
        shared: dict[str, Any] = {"model": self.model, "messages": self._turns()}
        if len(self.messages) > 1 and self.messages[-1].role == "assistant":
            # Anthropic's way of beginning the answer for the model.
            shared |= {"continue_final_message": True, "add_generation_prompt": False}
        if self._effort and not self._has_own_budget:
            shared["reasoning_effort"] = self._effort
        if (wanted := self._output_format) is not None:
            form = {"name": "output", "schema": wanted.schema_, "strict": True}
            shared["response_format"] = {"type": "json_schema", "json_schema": form}
        if tools := [tool.as_chat() for tool in self._offered().values()]:
            shared["tools"] = tools
        if self.tool_choice is not None:
            shared["tool_choice"] = self.tool_choice.as_chat()
            if self.tool_choice.disable_parallel_tool_use:
                shared["parallel_tool_calls"] = False
        return shared

    def _offered(self) -> dict[str, MessageTool]:
        """The tools at the end of the conversation, by name. Raises Refusal for a change of one that is not known."""
        known = {tool.name: tool for tool in self.tools or [] if isinstance(tool, MessageTool)}
        offered = dict(known)
        for i, turn in enumerate(self.messages):
            for j, block in enumerate(_blocks(turn.content)):
                for change in (block, *(block.tool_changes or [])):
                    if change.tool is None:
                        continue
                    added = change.tool.definition
                    name = change.tool.name if added is None else added.name
                    if added is not None:
                        known[name] = added
                    if name not in known:
                        where = f"messages.{i}.content.{j}.tool.name"
                        what = f"{where} is {name!r}, which no tool of the request is called. Declare it in tools."
                        raise Refusal(400, what, param=where, code="invalid_value")
                    if change.type == "tool_removal":
                        offered.pop(name, None)
                    else:
                        offered[name] = known[name]
        return offered

    def _turns(self) -> list[dict[str, Any]]:
        turns: list[dict[str, Any]] = []
        system = [self.system] if isinstance(self.system, str) else [part.text for part in self.system or []]
        system += [_text(turn.content) for turn in self.messages if turn.role == "system"]
        if any(system):
            turns.append({"role": "system", "content": "\n".join(system)})
        for turn in self.messages:
            if turn.role == "system":
                continue
            blocks = _blocks(turn.content)
            text = "".join(b.said for b in blocks)
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
    top_k: Annotated[int, Field(ge=-1)] | None = None
    seed: int | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None

    def as_chat(self) -> dict[str, Any]:
        more = self.model_dump(include={"max_tokens", "stream", "temperature", "top_p", "top_k", "seed"})
        thinking = self._thinking() or {"include_reasoning": False}
        return thinking | self._shared() | more | {"stop": self.stop_sequences}


_LEFT_OUT = ("context_management", "compaction", "fallbacks", "container", "diagnostics", "mcp_servers")
"""Fields for what only Anthropic's servers do."""


def _blocks(content: str | Sequence[Block | AnthropicBlock]) -> list[Block]:
    if isinstance(content, str):
        return [Block(type="text", text=content)]
    return [block for block in content if isinstance(block, Block)]


def _text(content: str | Sequence[Block | AnthropicBlock]) -> str:
    return "".join(block.said for block in _blocks(content))
