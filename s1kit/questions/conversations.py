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
from s1kit.questions.media import kind_of_medium, needs_medium

COLUMNS = (
    *("messages", "conversations", "conversation", "prompt", "input", "dialogue", "dialog", "items", "turns"),
    *("contents", "chat", "context", "chat_messages"),
)
"""Under which a row may hold a conversation."""
WHOLE = "a conversation taken whole"
"""What the shape of its row is called."""
_ROLES = {
    "human": "user",
    "prompter": "user",
    "developer": "system",
    **dict.fromkeys(("gpt", "chatgpt", "model", "bing", "bard", "claude", "bot", "chatbot", "ai"), "assistant"),
    **dict.fromkeys(("function", "observation", "ipython", "function_response", "tool_response"), "tool"),
}
"""Other names of the roles, those of ShareGPT, Gemini, OpenAssistant, LLaMA-Factory and Llama among them."""
_CALLERS = ("function_call", "tool_call", "tool_calls")
"""Roles under which ShareGPT's form has a model's calls of tools, as JSON in place of what it says."""
KNOWN = ("system", "user", "assistant", "tool")
CONTENTS = ("content", "value", "parts", "text")
"""Names of what a message says: OpenAI's, ShareGPT's, Gemini's and LibreChat's."""
_SPEAKERS = ("role", "from", "sender")
"""Names of who says a message: OpenAI's, ShareGPT's, and that of the exports of Claude and LibreChat."""
TEXTS = ("text", "value", "content", "thinking")
"""Names of the text of one part of a message: the common one, those of LLaMA-Factory and axolotl, Anthropic's."""


def whole_conversation(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as an s1kit question, with `messages` and `tools` unless it is one message of a user.

    Raises InputError for a row without a conversation, an unknown role, and a conversation that asks nothing.
    """
    row = thread(row) or row
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
    beside = next((name for name in ("system", "system_prompt") if isinstance(row.get(name), str) and row[name]), "")
    if beside and messages[0]["role"] != "system":  # LLaMA-Factory has it in a column of its own
        messages.insert(0, {"role": "system", "content": rest.pop(beside)})
    _number_calls(messages)
    if reply and not any(rest.get(name) for name in ("solution", "answer", "final_answer")):
        rest["solution"] = split_thinking(reply).answer
    is_plain = len(messages) == 1 and not tools and set(messages[0]) == {"role", "content"}
    if is_plain and isinstance(messages[0]["content"], str):
        question = rest | {"text": messages[0]["content"]}
    else:
        question = rest | {"text": transcript(messages), "messages": messages, "tools": tools}
    return {"question": question, "shape": f"{WHOLE} ({column})"}


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
        and all(isinstance(message, Mapping) and is_message(message) for message in value)
    )


def is_message(value: Mapping[str, Any]) -> bool:
    """Whether an object says who speaks."""
    return any(name in value for name in _SPEAKERS)


def thread(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The row of ChatGPT's export with its tree of messages as a list, to where it was left; None for another row."""
    nodes = row.get("mapping")
    at = row.get("current_node")
    if not isinstance(nodes, Mapping) or at not in nodes:
        return None
    messages: list[dict[str, Any]] = []
    while isinstance(node := nodes.get(at), Mapping):
        said, at = node.get("message") or {}, node.get("parent")
        parts = said.get("content", {}).get("parts")  # thoughts have none
        role = said.get("author", {}).get("role")
        if parts and any(parts) and role in ("user", "assistant"):
            messages.insert(0, {"role": role, "content": parts[0] if len(parts) == 1 else parts})
    return {key: value for key, value in row.items() if key != "mapping"} | {"messages": messages}


def role_of(message: Mapping[str, Any]) -> tuple[str, str]:
    """A message's role in OpenAI's names where it is known, and as it stands in the message; empty where none does."""
    if isinstance(is_user := message.get("isCreatedByUser"), bool):  # LibreChat names the model
        return ("user" if is_user else "assistant"), str(message.get("sender"))
    given = str(next((message[name] for name in _SPEAKERS if name in message), ""))
    role = given.lower()
    return "assistant" if role in _CALLERS else _ROLES.get(role, role), given


def content_of(message: Mapping[str, Any]) -> Any:
    """What a message says, under whichever of `CONTENTS`."""
    return next((message[name] for name in CONTENTS if message.get(name) is not None), None)


def text_of_part(part: Any) -> str | None:
    """The text of one part of a message's content; None for a part without."""
    if not isinstance(part, Mapping) or part.get("type") == "tool_call" or kind_of_medium(str(part.get("type"))):
        return None
    return next((text for name in TEXTS if isinstance(text := part.get(name), str)), None)


def is_thought(part: Any) -> bool:
    """Whether a part of a message's content is thinking, in Anthropic's form, LLaMA-Factory's or Gemini's."""
    return isinstance(part, Mapping) and (part.get("type") in ("thinking", "reasoning") or part.get("thought") is True)


def calls_of(message: Mapping[str, Any]) -> list[Any]:
    """The calls of tools of a message: in a field of its own, among its parts, or in place of what it says."""
    if calls := parse_cell(message.get("tool_calls"), "tool_calls"):
        return list(calls)
    content = content_of(message)
    if str(message.get("role", message.get("from", ""))).lower() in _CALLERS:
        texts = [content]
    else:
        parts = content if isinstance(content, list) else []
        texts = [part.get("value") for part in parts if isinstance(part, Mapping) and part.get("type") == "tool_call"]
    found = [parse_cell(text, "tool_calls") for text in texts]
    return [call for calls in found for call in (calls if isinstance(calls, list) else [calls])]


def _message(given: Mapping[str, Any], column: str) -> dict[str, Any]:
    """A message in OpenAI's names. Fields without a value, as tables have them, are left out."""
    role, named = role_of(given)
    if role not in KNOWN:
        raise InputError(
            f"a message in {column!r} is of the role {named!r}",
            where=column,
            fix=f"Known: {', '.join((*KNOWN, *_ROLES, *_CALLERS))}.",
        )
    known = ("role", "from", "tool_calls", *CONTENTS)
    rest = {key: value for key, value in given.items() if key not in known and "sender" not in given}
    calls = [_tool_call(call) for call in calls_of(given)]
    content, thinking = _said(None if named.lower() in _CALLERS else content_of(given), column)
    message = {"role": role, "content": content} | ({"reasoning_content": thinking} if thinking else {})
    message |= {key: value for key, value in rest.items() if value is not None}
    if calls:
        message["tool_calls"] = calls
    if message["content"] is None and not calls:
        raise InputError(f"a message in {column!r} has no content", where=column, fix="Correct the row.")
    return message


def _said(content: Any, column: str) -> tuple[Any, str]:
    """What a message says, without the thinking and the calls among its parts, and its thinking.

    Parts in LLaMA-Factory's form become one text; those of others stay as they are.
    """
    parts = [part for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []
    if not any(isinstance(part.get("value"), str) for part in parts):
        return content, ""
    if kind := next(filter(None, (kind_of_medium(str(part.get("type"))) for part in parts)), ""):
        raise needs_medium(kind, column)
    texts = [text_of_part(part) or "" for part in parts if not is_thought(part)]
    return "".join(texts) or None, "".join(text_of_part(part) or "" for part in parts if is_thought(part))


def _tool_call(call: Any) -> Any:
    """A call in OpenAI's form: some data sets keep the arguments as an object, or the function without its wrapper."""
    call = dict(call) if isinstance(call, Mapping) else call
    if isinstance(call, dict) and "function" not in call and isinstance(call.get("name"), str):
        call = {"function": {"name": call["name"], "arguments": call.get("arguments")}}
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or isinstance(function.get("arguments"), str):
        return call
    arguments = json.dumps(function.get("arguments") or {}, ensure_ascii=False)
    return {**call, "type": "function", "function": {**function, "arguments": arguments}}


def _number_calls(messages: Sequence[dict[str, Any]]) -> None:
    """Gives calls and results of tools the ids by which OpenAI's form joins them, where a data set has none."""
    waiting: list[str] = []
    number = 0
    for message in messages:
        for call in message.get("tool_calls", ()):
            if isinstance(call, dict):
                number += 1
                waiting.append(call.setdefault("id", f"call_{number}"))
        if message["role"] == "tool" and waiting:
            told = message.setdefault("tool_call_id", waiting[0])
            waiting = [id for id in waiting if id != told]


def _tools(given: Any) -> list[dict[str, Any]]:
    """The tools in OpenAI's form, from a list, JSON text, or bare function descriptions."""
    value = parse_cell(given, "tools") if given else []
    if not isinstance(value, list) or not all(isinstance(tool, Mapping) for tool in value):
        raise InputError(f"tools is {given!r:.60}, which is no list", where="tools", fix="Give a list of functions.")
    return [dict(tool) if "function" in tool else {"type": "function", "function": dict(tool)} for tool in value]
