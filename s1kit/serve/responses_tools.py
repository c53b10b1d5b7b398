"""The tools of `/v1/responses`: what the model is shown of them, and what the client knows a call as.

A client's tool is a function, a text tool (`custom`), a search for more tools, or one of the first two in a namespace.
The model is shown functions with names of their own; a call is given back under the client's names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from s1kit.serve.fields import Wire
from s1kit.serve.refusals import Refusal

ToolName = Annotated[str, Field(min_length=1, max_length=200)]


@dataclass(frozen=True, slots=True)
class ClientTool:
    """A tool as the client knows it."""

    kind: Literal["function", "custom", "tool_search"]
    name: str
    namespace: str | None = None

    @property
    def shown_name(self) -> str:
        """Its name to the model."""
        return shown_name(self.name, self.namespace)


def shown_name(name: str, namespace: str | None) -> str:
    """The model's name of a tool.

    >>> shown_name("read", "mcp__files"), shown_name("read", "mcp__files__"), shown_name("read", None)
    ('mcp__files__read', 'mcp__files__read', 'read')
    """
    return name if namespace is None else f"{namespace.removesuffix('__')}__{name}"


class _Declared(Wire):
    """What says how a client calls and finds a tool, not what is generated."""

    allowed_callers: list[str] | None = Field(default=None, exclude=True)
    defer_loading: bool | None = Field(default=None, exclude=True)
    """A tool that is to be searched for is shown like the others: nothing here could search for it."""
    output_schema: dict[str, Any] | None = Field(default=None, exclude=True)
    is_async: Literal[False] | None = Field(default=None, alias="async", exclude=True)


class ResponseTool(_Declared):
    type: Literal["function"]
    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def as_function(self) -> dict[str, Any]:
        """The tool as a chat's function."""
        return self.model_dump(exclude={"type"}, exclude_none=True)


class CustomTool(_Declared):
    """A tool that takes one text. The model is shown a function with the parameter `input`."""

    type: Literal["custom"]
    name: ToolName
    description: str | None = None
    format: dict[str, Any] | None = None
    """What the text should look like; told to the model, and not enforced."""

    def as_function(self) -> dict[str, Any]:
        """The tool as a function, which models know how to call."""
        form = json.dumps(self.format) if self.format and self.format.get("type") != "text" else ""
        described = "\n".join(filter(None, (self.description, form and f"The input has this form: {form}")))
        parameters = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
        return {"name": self.name, "description": described, "parameters": parameters}


class Namespace(Wire):
    """Tools that share a first name, such as those of one MCP server."""

    type: Literal["namespace"]
    name: ToolName
    description: str | None = None
    tools: list[ResponseTool | CustomTool] = Field(default_factory=list)


class SearchTool(Wire):
    """A search for more tools, which the client does. The model is shown a function `tool_search`."""

    type: Literal["tool_search"]
    execution: Literal["client"]
    description: str | None = None
    parameters: dict[str, Any] | None = None

    def as_function(self) -> dict[str, Any]:
        """The tool as a chat's function."""
        found = {"name": "tool_search", "description": self.description or "Finds more tools."}
        return found | {"parameters": self.parameters or {"type": "object"}}


class OpenaiTool(BaseModel):
    """A tool that OpenAI's own servers run; the model here is not told of it."""

    type: Annotated[
        str,
        Field(
            pattern="^(web_search|file_search|code_interpreter|image_generation|mcp"
            "|programmatic_tool_calling$|tool_search$)"
        ),
    ]
    execution: Literal["server"] | None = None


AnyTool = ResponseTool | CustomTool | Namespace | SearchTool | OpenaiTool


def hosted(where: str, tools: Iterable[AnyTool]) -> Iterator[str]:
    """The tools that the model is not told of, as a reply lists them."""
    for i, tool in enumerate(tools):
        if isinstance(tool, OpenaiTool):
            yield f"{where}.{i} ({tool.type})"


def functions(where: str, tools: Iterable[AnyTool]) -> Iterator[tuple[str, ClientTool, dict[str, Any]]]:
    """The path, the client's name and the function of every tool that the client runs."""
    for i, tool in enumerate(tools):
        if isinstance(tool, Namespace):
            for j, inner in enumerate(tool.tools):
                client = ClientTool(inner.type, inner.name, tool.name)
                yield f"{where}.{i}.tools.{j}", client, inner.as_function() | {"name": client.shown_name}
        elif isinstance(tool, SearchTool):
            yield f"{where}.{i}", ClientTool("tool_search", "tool_search"), tool.as_function()
        elif not isinstance(tool, OpenaiTool):
            yield f"{where}.{i}", ClientTool(tool.type, tool.name), tool.as_function()


@dataclass(frozen=True, slots=True)
class ToolTable:
    """The tools that the model may call, by the names that it is shown."""

    known: dict[str, ClientTool]
    shown: dict[str, dict[str, Any]]
    """The functions."""

    def client_tool(self, called: str) -> ClientTool:
        """The tool that the model means by a name: that name, or one in a namespace that nobody else has."""
        if called in self.known:
            return self.known[called]
        meant = [tool for tool in self.known.values() if tool.name == called]
        return meant[0] if len(meant) == 1 else ClientTool("function", called)


def table(found: Iterable[tuple[str, ClientTool, dict[str, Any]]]) -> ToolTable:
    """All tools by name; of one that is declared again, such as by a second search, the last declaration holds.

    Raises Refusal where two different tools have one name to the model.
    """
    known: dict[str, ClientTool] = {}
    shown: dict[str, dict[str, Any]] = {}
    for where, client, function in found:
        name = client.shown_name
        if known.setdefault(name, client) != client:
            what = f"{where}.name: two different tools are {name!r} to the model. Rename one."
            raise Refusal(400, what, param=f"{where}.name", code="invalid_value")
        shown[name] = function
    return ToolTable(known, shown)
