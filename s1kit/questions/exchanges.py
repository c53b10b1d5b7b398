"""The first exchange of a conversation: what the user asks, and what the model thinks and answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from s1kit.errors import InputError
from s1kit.questions.cells import parse_cell
from s1kit.questions.conversations import (
    KNOWN,
    calls_of,
    content_of,
    is_message,
    is_thought,
    role_of,
    text_of_part,
)
from s1kit.questions.media import kind_of_medium, needs_medium


class ChatParts(NamedTuple):
    """The parts of a conversation's first exchange."""

    system: str
    user: str
    assistant: str
    """Empty where the conversation ends with the user."""
    goes_on: bool
    """Whether more was asked after the first answer."""
    thinking: str = ""
    """The model's, where its message holds it in a field of its own."""


def chat_parts(value: Any, column: str) -> ChatParts | None:
    """The first exchange of a conversation in OpenAI's or ShareGPT's names: the user's message and what answered it.

    None where the value is neither a list of messages nor one message. Raises InputError for a conversation without a
    user, with an unknown role, or with contents that are no text.
    """
    messages = _messages_in(value, column)
    if messages is None:
        return None
    said: dict[str, list[str]] = {"system": [], "user": [], "assistant": []}
    num_users, thinking = 0, ""
    for message in messages:
        role, given = role_of(message)
        if role not in KNOWN:
            raise InputError(
                f"a message in {column!r} is of the role {given!r}",
                where=column,
                fix="Only what a user asks and a model answers can be read: --allow-rejects goes on without such rows.",
            )
        if role not in said or calls_of(message):
            raise InputError(
                f"the conversation in {column!r} has a message with a call of a tool or its result",
                where=column,
                fix="Take it whole, with its tools, by conversation = true; --allow-rejects goes on without such rows.",
            )
        if role == "assistant" and not num_users:
            continue  # ShareGPT's that begin with the model's greeting, or amid a conversation
        num_users += role == "user"
        if said["assistant"] and not (role == "assistant" and num_users == len(said["user"])):
            continue  # the first exchange is over
        content = content_of(message)
        if role == "assistant":
            thinking = thinking or _thinking_of(message, content)
            if isinstance(content, list):
                content = [part for part in content if not is_thought(part)]
            elif content is None and (thinking or "ground_truth" in message):
                content = ""
        said[role].append(text_of_content(content, column))
    if not said["user"]:
        raise InputError(
            f"the conversation in {column!r} has no message of the user",
            where=column,
            fix="Add one, or go on without such rows by --allow-rejects.",
        )
    user, assistant = "\n\n".join(said["user"]), "".join(said["assistant"])
    return ChatParts("\n".join(said["system"]), user, assistant, num_users > len(said["user"]), thinking)


def _messages_in(value: Any, column: str) -> list[dict[str, Any]] | None:
    """The messages of a cell, as a list or as text; None where it holds anything else."""
    if isinstance(value, str) and not re.match(r"\s*\[\s*\{", value):
        return None
    value = _with_roles(parse_cell(value, column), column)
    if isinstance(value, dict) and "role" in value and "content" in value:
        return [value]
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in value):
        return None
    return value if any(map(is_message, value)) else None


def _with_roles(value: Any, column: str) -> Any:
    """Turns without roles as messages: texts in turn (LIMA), or pairs of input and output (Capybara)."""
    if column not in ("conversation", "conversations") or not isinstance(value, list) or not value:
        return value
    if all(isinstance(turn, str) for turn in value):
        return [{"role": ("user", "assistant")[n % 2], "content": turn} for n, turn in enumerate(value)]
    if all(isinstance(turn, dict) and isinstance(turn.get("input"), str) and "output" in turn for turn in value):
        pairs = ((("user", turn["input"]), ("assistant", turn["output"])) for turn in value)
        return [{"role": role, "content": text} for pair in pairs for role, text in pair]
    return value


THINKING = ("reasoning_content", "thinking", "reasoning", "thinking_content")
"""Fields of a message, or columns of a row, that hold a model's thinking."""


def _thinking_of(message: dict[str, Any], content: Any) -> str:
    """The thinking of a model's message: a field of its own, or parts of its content."""
    given = (message.get(name) for name in THINKING)
    named = next((text for value in given if (text := value if isinstance(value, str) else _joined(value))), "")
    return named or _joined([part for part in content if is_thought(part)] if isinstance(content, list) else [])


def _joined(parts: Any) -> str:
    return "".join(text_of_part(part) or "" for part in parts) if isinstance(parts, list) else ""


def text_of_content(value: Any, column: str) -> str:
    """The text of a message. Raises InputError for content that is no text."""
    if isinstance(value, str):
        return value
    parts = value if isinstance(value, list) else [value]
    for part in parts:
        if isinstance(part, dict) and (kind := kind_of_medium(str(part.get("type")))):
            raise needs_medium(kind, column)
    if isinstance(value, list) and all(isinstance(part, str) or text_of_part(part) is not None for part in parts):
        return "".join(part if isinstance(part, str) else text_of_part(part) or "" for part in parts)
    raise InputError(
        f"a message in {column!r} is no text: {value!r:.60}",
        where=column,
        fix="Only text can be asked: correct the row, or go on without such rows by --allow-rejects.",
    )


ALPACA_REPLIES = ("output", "response", "completion")
"""Columns of the reply to an `instruction`."""
_NOTHING_GIVEN = ("<noinput>", "<no input>", "noinput", "no input", "n/a", "nan", "none")


def instructed(instruction: str, given: Any) -> str:
    """An instruction, and below it what it is about, where that is a text that says something.

    >>> instructed("Mend this.", "He finnished."), instructed("Say hello.", "<noinput>")
    ('Mend this.\\n\\nHe finnished.', 'Say hello.')
    """
    is_given = isinstance(given, str) and given.strip() and given.strip().lower() not in _NOTHING_GIVEN
    return f"{instruction}\n\n{given}" if is_given else instruction


def with_history(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """A row of Alpaca with its earlier turns (`history` of LLaMA-Factory) as messages; None where it has none.

    Raises InputError for a history that is no list of pairs.
    """
    instruction, turns = row.get("instruction"), parse_cell(row.get("history"), "history")
    if not isinstance(instruction, str) or not turns:
        return None
    if not isinstance(turns, list) or not all(isinstance(turn, list | tuple) and len(turn) == 2 for turn in turns):
        raise InputError(
            f"the earlier turns in 'history' are {turns!r:.60}",
            where="history",
            fix="Give them as a list of pairs of question and answer, or leave the column out.",
        )
    answered = next((name for name in ALPACA_REPLIES if name in row), "")
    roles = ("user", "assistant")
    last = (instructed(instruction, row.get("input")), row.get(answered))
    said = [turn for pair in (*turns, last) for turn in zip(roles, pair, strict=True) if turn[1] is not None]
    rest = {key: value for key, value in row.items() if key not in ("instruction", "input", "history", answered)}
    return {"messages": [{"role": role, "content": text} for role, text in said], **rest}
