"""Tool calls in an answer, in the forms that the families' chat templates teach.

| family | a call |
|---|---|
| Hermes, Qwen2.5, Qwen3 | `<tool_call>{"name": ..., "arguments": {...}}</tool_call>` |
| Qwen3-Coder | `<tool_call><function=NAME><parameter=KEY>value</parameter></function></tool_call>` |
| GLM-4.5 | `<tool_call>NAME<arg_key>KEY</arg_key><arg_value>value</arg_value></tool_call>` |
| Mistral | `[TOOL_CALLS][{"name": ..., "arguments": {...}}]` or `[TOOL_CALLS]NAME[ARGS]{...}`, to the end |
| Llama 3 | the whole answer is `{"name": ..., "parameters": {...}}`, perhaps after `<|python_tag|>` |

A stream is read piece by piece, so that a call is never shown as text. What is not well formed stays text.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

Call = dict[str, Any]


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

    def reader(self) -> ToolCallReader:
        """A reader of one answer."""
        return ToolCallReader(self)


def find_style(chat_template: str | None) -> ToolStyle | None:
    """The style that a chat template teaches; None where it does not show tools to the model."""
    if chat_template is None or "tools" not in chat_template:
        return None
    if "<tool_call>" in chat_template:
        if "<arg_key>" in chat_template:
            return GLM
        return replace(TAGS, arguments_key="") if "<function=" in chat_template else TAGS
    if "[TOOL_CALLS]" in chat_template:
        return MISTRAL
    if "<|python_tag|>" in chat_template or '"parameters"' in chat_template:
        return LLAMA
    return None


class ToolCallReader:
    """Splits answer text into content and tool calls.

    >>> reader = TAGS.reader()
    >>> reader.feed("Hi <tool")
    ('Hi ', [])
    """

    def __init__(self, style: ToolStyle) -> None:
        self._style = style
        self._held = ""
        self._inside = False
        self._is_text = False
        """Whether all that follows is content, whatever it looks like."""
        self._follows_call = False
        """White space after a call separates it from the next and is no content."""

    def feed(self, text: str) -> tuple[str, list[Call]]:
        """The content that is certain by now, and the calls that are complete."""
        if self._is_text:
            return text, []
        self._held += text
        content: list[str] = []
        calls: list[Call] = []
        while self._step(content, calls):
            pass
        return "".join(content), calls

    def _step(self, content: list[str], calls: list[Call]) -> bool:
        """Read up to the next mark; False when more text is needed."""
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
        sure = len(self._held) - _possible_start(self._held, style.open)
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


def _possible_start(text: str, mark: str) -> int:
    """How many characters at the end of `text` may be the beginning of a mark."""
    return next((n for n in range(min(len(mark) - 1, len(text)), 0, -1) if mark.startswith(text[-n:])), 0)


_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def _close_of(text: str, close: str) -> int:
    """Where the closing mark begins, one inside a JSON string not counted; -1 when it is not there yet.

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


def _read_tags(text: str) -> list[Call] | None:
    body = text.strip()
    if body.startswith("{"):
        return _calls_of(_json(body))
    return _read_function(body) if body.startswith("<function=") else None


def _read_glm(text: str) -> list[Call] | None:
    """A name, alone where the call has no arguments: which is a call in this family only."""
    body = text.strip()
    name, _, rest = body.partition("<arg_key>")
    if not re.fullmatch(r"[\w.-]+", name.strip()):
        return None
    pairs = re.findall(r"(?:^|<arg_key>)(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", rest, re.DOTALL)
    return [_call(name.strip(), {key.strip(): _value(value) for key, value in pairs})]


def _read_function(body: str) -> list[Call] | None:
    found = re.fullmatch(r"<function=([\w.-]+)>(.*?)(?:</function>)?", body, re.DOTALL)
    if found is None:
        return None
    pairs = re.findall(r"<parameter=([\w.-]+)>\n?(.*?)\n?(?:</parameter>|(?=<parameter=)|$)", found[2], re.DOTALL)
    return [_call(found[1], {key: _value(value) for key, value in pairs})]


def _read_mistral(text: str) -> list[Call] | None:
    body = text.strip()
    if body.startswith(("[{", "{")):
        return _calls_of(_json(body))
    calls = []
    for part in filter(None, body.split("[TOOL_CALLS]")):
        name, begun, rest = part.partition("{")
        arguments = _json(begun + rest)
        name = re.sub(r"\[(?:ARGS|CALL_ID).*", "", name, flags=re.DOTALL).strip()
        if not isinstance(arguments, dict) or not name:
            return None
        calls.append(_call(name, arguments))
    return calls or None


def _read_llama(text: str) -> list[Call] | None:
    found = [_calls_of(_json(part)) for part in text.removesuffix("<|eom_id|>").split("; ")]
    return [call for calls in found if calls for call in calls] if None not in found else None


TAGS = ToolStyle("<tool_call>", "</tool_call>", _read_tags, arguments_key="arguments")
GLM = ToolStyle("<tool_call>", "</tool_call>", _read_glm)
MISTRAL = ToolStyle("[TOOL_CALLS]", "", _read_mistral)
LLAMA = ToolStyle("<|python_tag|>", "", _read_llama, only_at_start=True, arguments_key="parameters")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _value(text: str) -> Any:
    """A parameter's value: JSON where it is, else the text itself."""
    parsed = _json(text)
    return text if parsed is None and text.strip() != "null" else parsed


def _calls_of(parsed: Any) -> list[Call] | None:
    entries = parsed if isinstance(parsed, list) else [parsed]
    if not entries or not all(isinstance(e, dict) and isinstance(e.get("name"), str) for e in entries):
        return None
    return [_call(e["name"], e.get("arguments", e.get("parameters", {}))) for e in entries]


def _call(name: str, arguments: Any) -> Call:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {
        "id": "call_" + secrets.token_hex(12),
        "type": "function",
        "function": {"name": name, "arguments": text},
    }


def arguments_of(text: str) -> Any:
    """The arguments of an earlier call as templates want them: an object, or the text where it is none."""
    parsed = _json(text)
    return parsed if isinstance(parsed, dict) else text
