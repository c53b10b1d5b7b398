"""Tool calls in an answer, in the form that the Hermes, Qwen2.5 and Qwen3 templates teach:

    <tool_call>{"name": …, "arguments": …}</tool_call>

Reads a stream piece by piece, so that a call is never shown as text. What is not well formed stays text.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

OPEN, CLOSE = "<tool_call>", "</tool_call>"


def speaks_tools(chat_template: str | None) -> bool:
    """Whether a chat template shows tools to the model and teaches the form that is read here."""
    return chat_template is not None and OPEN in chat_template and "tools" in chat_template


class ToolCallReader:
    """Splits answer text into content and tool calls.

    >>> reader = ToolCallReader()
    >>> reader.feed("Hi <tool")
    ('Hi ', [])
    """

    def __init__(self) -> None:
        self._held = ""
        self._inside = False

    def feed(self, text: str) -> tuple[str, list[dict[str, Any]]]:
        """The content that is certain by now, and the calls that are complete."""
        self._held += text
        content, calls = "", []
        while True:
            mark = CLOSE if self._inside else OPEN
            before, found, after = self._held.partition(mark)
            if not found:
                break
            if self._inside:
                call = _read_call(before)
                if call is None:
                    content += OPEN + before + CLOSE
                else:
                    calls.append(call)
            else:
                content += before
            self._inside, self._held = not self._inside, after
        if not self._inside:
            keep = _possible_start(self._held)
            content += self._held[: len(self._held) - keep]
            self._held = self._held[len(self._held) - keep :]
        return content, calls

    def finish(self) -> tuple[str, list[dict[str, Any]]]:
        """What was held back. A call that was never closed counts if it is whole."""
        held, inside = self._held, self._inside
        self._held, self._inside = "", False
        if not inside:
            return held, []
        call = _read_call(held)
        return ("", [call]) if call is not None else (OPEN + held, [])


def _possible_start(text: str) -> int:
    """How many characters at the end of `text` may be the beginning of a call."""
    return next((n for n in range(min(len(OPEN) - 1, len(text)), 0, -1) if OPEN.startswith(text[-n:])), 0)


def _read_call(text: str) -> dict[str, Any] | None:
    try:
        call = json.loads(text)
    except ValueError:
        return None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    arguments = call.get("arguments", call.get("parameters", {}))
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {
        "id": "call_" + secrets.token_hex(12),
        "type": "function",
        "function": {"name": call["name"], "arguments": text},
    }
