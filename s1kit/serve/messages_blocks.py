"""The turns, content blocks and tools of Anthropic's `/v1/messages`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from s1kit.serve.fields import Effort, Wire, check_parts
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


def offered_tools(tools: Iterable[MessageTool | AnthropicTool], turns: Sequence[Turn]) -> dict[str, MessageTool]:
    """The tools at the end of the conversation, by name. Raises Refusal for a change of one that is not known."""
    known = {tool.name: tool for tool in tools if isinstance(tool, MessageTool)}
    offered = dict(known)
    for i, turn in enumerate(turns):
        for j, block in enumerate(blocks_of(turn.content)):
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


def chat_turns(turns: Sequence[Turn], system: str | list[SystemBlock] | None) -> list[dict[str, Any]]:
    """The turns of a chat."""
    instructions = [system] if isinstance(system, str) else [part.text for part in system or []]
    instructions += [_text(turn.content) for turn in turns if turn.role == "system"]
    found: list[dict[str, Any]] = [{"role": "system", "content": "\n".join(instructions)}] if any(instructions) else []
    for turn in turns:
        if turn.role == "system":
            continue
        blocks = blocks_of(turn.content)
        text = "".join(b.said for b in blocks)
        for b in blocks:
            if b.type == "tool_result":
                found.append({"role": "tool", "tool_call_id": b.tool_use_id, "content": _text(b.content)})
        calls = [
            {"id": b.id, "function": {"name": b.name, "arguments": json.dumps(b.input, ensure_ascii=False)}}
            for b in blocks
            if b.type == "tool_use"
        ]
        if turn.role == "assistant":
            thinking = "".join(b.thinking for b in blocks) or None
            said = {"role": "assistant", "content": text, "reasoning_content": thinking}
            found.append(said | ({"tool_calls": calls} if calls else {}))
        elif text or not any(b.type == "tool_result" for b in blocks):
            found.append({"role": "user", "content": text})
    return found


def blocks_of(content: str | Sequence[Block | AnthropicBlock]) -> list[Block]:
    if isinstance(content, str):
        return [Block(type="text", text=content)]
    return [block for block in content if isinstance(block, Block)]


def _text(content: str | Sequence[Block | AnthropicBlock]) -> str:
    return "".join(block.said for block in blocks_of(content))
