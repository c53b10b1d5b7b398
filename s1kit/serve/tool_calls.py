"""Incremental parser of tool calls in an answer; a call is never shown as text.

What is not well formed stays text. How each family writes calls is in `tool_styles`.
"""

from __future__ import annotations

import json
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Call = dict[str, Any]


class AnswerReader(ABC):
    """Splits the text of one answer into content and tool calls."""

    def __init__(self) -> None:
        self._held = ""
        """What may still become a call."""

    def feed(self, text: str) -> tuple[str, list[Call]]:
        """The content that is certain by now, and the calls that are complete."""
        self._held += text
        content: list[str] = []
        calls: list[Call] = []
        while self._step(content, calls):
            pass
        return "".join(content), calls

    @abstractmethod
    def _step(self, content: list[str], calls: list[Call]) -> bool:
        """Read up to the next mark; False when more text is needed."""

    @abstractmethod
    def finish(self) -> tuple[str, list[Call]]:
        """What was held back."""


@dataclass(frozen=True, slots=True)
class ToolStyle:
    """How one family writes calls."""

    open: str
    """What a call begins with."""
    close: str
    """What it ends with; empty: the answer's end."""
    read: Callable[[str], list[Call] | None]
    """The calls in the text between the two; None where it is not well formed."""
    only_at_start: bool = False
    """Whether calls are the whole answer or none of it."""
    arguments_key: str = ""
    """Name of the arguments in a call that is JSON; empty where calls cannot be held to a grammar."""
    make_reader: Callable[[], AnswerReader] | None = None
    """Reads an answer that `ToolCallReader` cannot read."""
    shared_end: str = ""
    """What a thinking format's end delimiter is cut to, where it goes on to say that an answer follows, not a call."""
    stops: tuple[str, ...] = ()
    """Tokens that end a call and with it the reply."""

    def reader(self) -> AnswerReader:
        """A reader of one answer."""
        return ToolCallReader(self) if self.make_reader is None else self.make_reader()


class ToolCallReader(AnswerReader):
    """Splits answer text into content and tool calls.

    >>> reader = ToolStyle("<tool_call>", "</tool_call>", lambda text: None).reader()
    >>> reader.feed("Hi <tool")
    ('Hi ', [])
    """

    def __init__(self, style: ToolStyle) -> None:
        super().__init__()
        self._style = style
        self._inside = False
        self._is_text = False
        """Whether all that follows is content, whatever it looks like."""
        self._follows_call = False
        """White space after a call separates it from the next and is no content."""

    def feed(self, text: str) -> tuple[str, list[Call]]:
        return (text, []) if self._is_text else super().feed(text)

    def _step(self, content: list[str], calls: list[Call]) -> bool:
        style = self._style
        if self._inside:
            end = _close_of(self._held, style.close) if style.close else -1
            if end < 0:
                return False
            self._take(content, calls, end)
            return True
        if style.only_at_start:
            self._begin(content)
            return False
        before, opened, after = self._held.partition(style.open)
        if opened:
            if before.strip() or not self._follows_call:
                content.append(before)
            self._inside, self._held = True, after
            return True
        sure = len(self._held) - possible_start(self._held, style.open)
        if self._follows_call and not self._held[:sure].strip():
            return False
        content.append(self._held[:sure])
        self._held, self._follows_call = self._held[sure:], False
        return False

    def _take(self, content: list[str], calls: list[Call], end: int) -> None:
        """The body of a call ends at `end`."""
        style = self._style
        body, self._held = self._held[:end], self._held[end + len(style.close) :]
        self._inside = False
        found = style.read(body)
        self._follows_call = found is not None
        if found is None:
            content.append(style.open + body + style.close)
        else:
            calls.extend(found)

    def _begin(self, content: list[str]) -> None:
        """Where calls are the whole answer: decide by how it begins."""
        begun = self._held.lstrip()
        if not begun or self._style.open.startswith(begun):
            return
        if begun.startswith((self._style.open, "{")):
            self._inside = True
        else:
            content.append(self._held)
            self._held, self._is_text = "", True

    def finish(self) -> tuple[str, list[Call]]:
        """What was held back. A call that was never closed counts if it is whole."""
        style, held, inside = self._style, self._held, self._inside
        self._held, self._inside = "", False
        if not inside:
            return "" if self._follows_call and not held.strip() else held, []
        found = style.read(held.lstrip().removeprefix(style.open) if style.only_at_start else held)
        if found is not None:
            return "", found
        if style.only_at_start:
            return held, []
        end = held.find(style.close) if style.close else -1
        if end < 0:
            return style.open + held, []
        # The close stood in what looked like a string: the call ended there after all.
        content: list[str] = []
        calls: list[Call] = []
        self._held = held
        self._take(content, calls, end)
        while self._step(content, calls):
            pass
        text, more = self.finish()
        return "".join(content) + text, [*calls, *more]


def possible_start(text: str, mark: str) -> int:
    """How many characters at the end of `text` may be the beginning of a mark."""
    return next((n for n in range(min(len(mark) - 1, len(text)), 0, -1) if mark.startswith(text[-n:])), 0)


_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def _close_of(text: str, close: str) -> int:
    """The index at which the closing mark begins, one inside a JSON string not counted; -1 when it is not there yet.

    >>> _close_of('{"x": "</end>"}</end>', "</end>")
    15
    """
    if not text.lstrip().startswith("{"):
        return text.find(close)
    at = 0
    while (string := _STRING.search(text, at)) is not None:
        found = text.find(close, at, string.start())
        if found >= 0:
            return found
        at = string.end()
    # A string that is still open hides what follows.
    opened = text.find('"', at)
    return text.find(close, at, opened if opened >= 0 else len(text))


def loaded(text: str | bytes) -> Any:
    """The JSON value in a text; None where there is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def new_call(name: str, arguments: Any) -> Call:
    """A call in OpenAI's form."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {
        "id": "call_" + secrets.token_hex(12),
        "type": "function",
        "function": {"name": name, "arguments": text},
    }


def given_to(call: Call) -> Any:
    """The arguments of a call as the JSON value that they are; an empty object where they are none."""
    try:
        return json.loads(call["function"]["arguments"])
    except (ValueError, RecursionError):
        return {}


def arguments_of(text: str) -> dict[str, Any]:
    """The arguments of an earlier call as the object that chat templates go through.

    What is no object, such as a call that was cut off, is shown to the model under a name that says so.

    >>> arguments_of('{"a": 1}'), arguments_of(""), arguments_of('{"a": ')
    ({'a': 1}, {}, {'invalid_arguments': '{"a": '})
    """
    parsed = loaded(text) if text.strip() else None
    if isinstance(parsed, dict):
        return parsed
    return {} if text.strip() in ("", "null") else {"invalid_arguments": text}
