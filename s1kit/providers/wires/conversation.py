"""Conversations with several turns, tools and tool results, in OpenAI's terms, taken apart for the other wires.

A message is `{role, content}`, with `tool_calls` of an assistant and `tool_call_id` of a tool's result; its content is
a text or a list of text parts. What a wire has no place for is refused by name, never left out.
Source: platform.openai.com/docs/api-reference/chat/create.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from s1kit.errors import InputError
from s1kit.providers.chat import ChatRequest, Message
from s1kit.providers.wires.reading import dict_of, list_of, text_of

Role = Literal["system", "user", "assistant", "tool"]
_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_FIELDS = {
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "tool_calls"},
    "tool": {"role", "content", "tool_call_id"},
}


class ToolUse(NamedTuple):
    id: str
    name: str
    arguments: str
    """JSON text, as the model wrote it."""


class ChatTurn(NamedTuple):
    """One message, taken apart."""

    role: Role
    text: str
    calls: tuple[ToolUse, ...] = ()
    answers: str = ""
    """The id of the call that a tool's result answers."""


class ToolSpec(NamedTuple):
    name: str
    description: str
    parameters: dict[str, Any]
    strict: bool | None


def turns(messages: Sequence[Message], wire: str) -> list[ChatTurn]:
    """The messages for a wire that has its own form. Raises InputError for a part that the wire has no place for."""
    found = []
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        role = _ROLES.get(str(message.get("role")))
        if role is None:
            raise _no_place(f"the role {message.get('role')!r}", wire, where)
        known = _FIELDS[role]
        for name, value in message.items():
            if name not in known and value not in (None, "", [], {}):
                raise _no_place(f"the field {name!r} of a {role} message", wire, where)
        calls = tuple(_call(dict_of(call), wire, where) for call in list_of(message.get("tool_calls")))
        text = _text(message.get("content"), wire, where)
        found.append(ChatTurn(role, text, calls, str(message.get("tool_call_id") or "")))
    return found


def _text(content: Any, wire: str, where: str) -> str:
    for part in list_of(content):
        if isinstance(part, Mapping) and part.get("type", "text") not in ("text", "input_text", "output_text"):
            raise _no_place(f"a content part of type {part.get('type')!r}", wire, where)
    return text_of(content)


def _call(call: Mapping[str, Any], wire: str, where: str) -> ToolUse:
    function = dict_of(call.get("function"))
    if call.get("type", "function") != "function" or not isinstance(function.get("name"), str):
        raise _no_place(f"a tool call of type {call.get('type')!r}", wire, where)
    arguments = function.get("arguments", "{}")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return ToolUse(str(call.get("id") or ""), function["name"], text)


def arguments_of(call: ToolUse, wire: str) -> dict[str, Any]:
    """The arguments as an object, for wires that take no text. Raises InputError where they are none."""
    try:
        value = json.loads(call.arguments or "{}")
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise _no_place(f"arguments that are no JSON object, {call.arguments!r:.60},", wire, f"tool call {call.id}")
    return value


def tools(request: ChatRequest, wire: str) -> Iterator[ToolSpec]:
    """The tools that the model may call. Raises InputError for one that is no function."""
    for number, tool in enumerate(request.tools):
        function = dict_of(tool.get("function"))
        if tool.get("type") != "function" or not isinstance(function.get("name"), str):
            raise _no_place(f"a tool of type {tool.get('type')!r}", wire, f"tools[{number}]")
        parameters = function.get("parameters")
        yield ToolSpec(
            function["name"],
            text_of(function.get("description")),
            dict(parameters) if isinstance(parameters, Mapping) else {"type": "object", "properties": {}},
            function.get("strict"),
        )


class Format(NamedTuple):
    """What `extra.response_format` asks for."""

    kind: Literal["text", "json_object", "json_schema"]
    schema: dict[str, Any]
    name: str = "answer"
    strict: bool | None = None
    description: str = ""


def take_format(extra: Mapping[str, Any]) -> tuple[Format | None, dict[str, Any]]:
    """The format of the answer that the further fields ask for in OpenAI's terms, and the fields without it.

    Raises InputError for a format of another type, or without its schema.
    """
    rest = {name: value for name, value in extra.items() if name != "response_format"}
    if (given := extra.get("response_format")) is None:
        return None, rest
    asked = dict_of(given)
    kind = asked.get("type")
    if kind in ("text", "json_object"):
        return Format(kind, {}), rest
    schema = dict_of(asked.get("json_schema"))
    if kind != "json_schema" or not isinstance(schema.get("schema"), Mapping):
        raise InputError(
            f"response_format is {given!r:.80}",
            where="distill.extra.response_format",
            fix='Give { type = "json_schema", json_schema = { name = "...", schema = {...} } }, or another type.',
        )
    name, strict = str(schema.get("name") or "answer"), schema.get("strict")
    description = text_of(schema.get("description"))
    return Format("json_schema", dict(schema["schema"]), name, strict, description), rest


def no_format(wire: str, kind: str) -> InputError:
    return InputError(
        f"{wire} has no response_format of type {kind!r}",
        where="distill.extra.response_format",
        fix='Give a schema: type = "json_schema".',
    )


def _no_place(what: str, wire: str, where: str) -> InputError:
    return InputError(
        f"{wire} has no place for {what}", where=where, fix="Change the conversation, or ask a server of OpenAI's form."
    )


def call_of(id: Any, name: Any, arguments: Any) -> dict[str, Any]:
    """A tool call of a reply in OpenAI's form, whatever its types."""
    try:
        text = arguments if isinstance(arguments, str) else json.dumps({} if arguments is None else arguments)
    except (ValueError, TypeError, RecursionError):
        text = "{}"
    return {"id": text_of(id), "type": "function", "function": {"name": text_of(name), "arguments": text}}
