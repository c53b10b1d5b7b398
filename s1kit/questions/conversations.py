"""A row's whole conversation as a question: system message, turns, tools and their results, kept as they are.

The model's last message, where there is one, is the reference; what comes before it is asked. Read from OpenAI's form
(`messages` with `role` and `content`), ShareGPT's (`conversations` with `from` and `value`) and Gemini's (`contents`
with `role` and `parts`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from s1kit.errors import InputError
from s1kit.forcing.delimiters import split_thinking
from s1kit.questions.cells import parse_cell

COLUMNS = (
    *("messages", "conversations", "conversation", "prompt", "input", "dialogue", "dialog", "items", "turns"),
    *("contents", "chat", "context"),
)
"""Under which a row may hold a conversation."""
_ROLES = {
    "human": "user",
    "prompter": "user",
    "developer": "system",
    **dict.fromkeys(("gpt", "chatgpt", "model", "bing", "bard", "claude"), "assistant"),
}
"""Other names of the roles, those of ShareGPT, Gemini and OpenAssistant among them."""
_KNOWN = ("system", "user", "assistant", "tool")


def whole_conversation(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as an s1kit question, with `messages` and `tools` unless it is one message of a user.

    Raises InputError for a row without a conversation, an unknown role, and a conversation that asks nothing.
    """
    column = next((name for name in COLUMNS if _is_conversation(row.get(name), name)), None)
    if column is None:
        raise InputError(
            f"no column holds a conversation; the columns are {', '.join(map(str, row)) or 'none'}",
            where="conversation",
            fix="A conversation is a list of messages with role and content; leave conversation out for other rows.",
        )
    messages = [_message(message, column) for message in parse_cell(row[column], column)]
    reply = ""
    while messages and messages[-1]["role"] == "assistant":
        last = messages.pop()
        said = last.get("content")
        reply = said + reply if isinstance(said, str) and not last.get("tool_calls") else ""
    if not messages or not any(message["role"] == "user" for message in messages):
        raise InputError(
            f"the conversation in {column!r} asks nothing", where=column, fix="Leave the row out with keep."
        )
    tools = _tools(row.get("tools"))
    rest = {key: value for key, value in row.items() if key not in (column, "tools")}
    if reply and not any(rest.get(name) for name in ("solution", "answer", "final_answer")):
        rest["solution"] = split_thinking(reply).answer
    is_plain = len(messages) == 1 and not tools and set(messages[0]) == {"role", "content"}
    if is_plain and isinstance(messages[0]["content"], str):
        return {"question": rest | {"text": messages[0]["content"]}}
    return {"question": rest | {"text": transcript(messages), "messages": messages, "tools": tools}}


def transcript(messages: Sequence[Mapping[str, Any]]) -> str:
    """The conversation as one text, for whatever compares or shows questions."""
    parts = []
    for message in messages:
        content = message.get("content")
        said = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False) if content else ""
        calls = message.get("tool_calls")
        parts.append(f"{str(message['role']).capitalize()}: {said}" + (f"\n{json.dumps(calls)}" if calls else ""))
    return "\n\n".join(parts)


def _is_conversation(value: Any, column: str) -> bool:
    if isinstance(value, str) and not value.lstrip().startswith("["):
        return False
    try:
        value = parse_cell(value, column)
    except InputError:
        return False
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(message, Mapping) and ("role" in message or "from" in message) for message in value)
    )


def role_of(message: Mapping[str, Any]) -> tuple[str, str]:
    """A message's role in OpenAI's names where it is known, and as it stands in the message; empty where none does."""
    given = str(message.get("role", message.get("from", "")))
    return _ROLES.get(given.lower(), given.lower()), given


def content_of(message: Mapping[str, Any]) -> Any:
    """What a message says, in OpenAI's (`content`), ShareGPT's (`value`) or Gemini's (`parts`) form."""
    return next((message[name] for name in ("content", "value", "parts") if message.get(name) is not None), None)


def _message(given: Mapping[str, Any], column: str) -> dict[str, Any]:
    """A message in OpenAI's names. Fields without a value, as tables have them, are left out."""
    role, named = role_of(given)
    if role not in _KNOWN:
        raise InputError(
            f"a message in {column!r} is of the role {named!r}",
            where=column,
            fix=f"Known: {', '.join((*_KNOWN, *_ROLES))}.",
        )
    rest = {key: value for key, value in given.items() if key not in ("role", "from", "value", "content", "parts")}
    message = {"role": role, "content": content_of(given)}
    message |= {key: value for key, value in rest.items() if value is not None}
    if "tool_calls" in message:
        message["tool_calls"] = [_tool_call(call) for call in parse_cell(message["tool_calls"], "tool_calls") or []]
        if not message["tool_calls"]:
            del message["tool_calls"]
    if message["content"] is None and "tool_calls" not in message:
        raise InputError(f"a message in {column!r} has no content", where=column, fix="Correct the row.")
    return message


def _tool_call(call: Any) -> Any:
    """Some data sets keep the arguments as an object; the form has them as JSON text."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or isinstance(function.get("arguments"), str):
        return call
    arguments = json.dumps(function.get("arguments") or {}, ensure_ascii=False)
    return {**call, "type": "function", "function": {**function, "arguments": arguments}}


def _tools(given: Any) -> list[dict[str, Any]]:
    """The tools in OpenAI's form, from a list, JSON text, or bare function descriptions."""
    value = parse_cell(given, "tools") if given else []
    if not isinstance(value, list) or not all(isinstance(tool, Mapping) for tool in value):
        raise InputError(f"tools is {given!r:.60}, which is no list", where="tools", fix="Give a list of functions.")
    return [dict(tool) if "function" in tool else {"type": "function", "function": dict(tool)} for tool in value]
