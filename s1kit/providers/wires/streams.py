"""Streamed replies: events put together into the body that would have come unstreamed.

So a streamed reply is judged, kept and read by the same code as any other. Sources: html.spec.whatwg.org (server-sent
events), platform.openai.com/docs/api-reference/chat/streaming, platform.claude.com/docs/en/build-with-claude/streaming,
ai.google.dev/api/generate-content (streamGenerateContent).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from s1kit.providers.wires.argument_pieces import with_whole_calls
from s1kit.providers.wires.finish import finish_name, finish_of
from s1kit.providers.wires.reading import dict_of, list_of

CUT = "s1kit_cut"
"""Field of a body whose stream ended before the reply was whole."""


class ChatAssembler:
    """Chunks of chat completions, in any dialect: deltas are merged field by field, so that no field is lost."""

    def __init__(self) -> None:
        self.is_whole = self.has_text = False
        self._rest: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._messages: dict[int, dict[str, Any]] = {}

    def end(self) -> None:
        self.is_whole = True

    def add(self, event: Mapping[str, Any]) -> None:
        for name, value in event.items():
            if name == "usage" and isinstance(value, Mapping):  # in parts, or with zeros after all is told
                told = dict_of(self._rest.get(name))
                self._rest[name] = {**told, **{n: v for n, v in value.items() if v or n not in told}}
            elif name != "choices" and value is not None:
                self._rest[name] = value
        if event.get("error") or dict_of(event.get("x_groq")).get("error"):
            self.is_whole = True
        for position, choice in enumerate(map(dict_of, list_of(event.get("choices")))):
            index = choice.get("index")
            index = index if type(index) is int else position
            known = self._choices.setdefault(index, {"index": index})
            known.update((name, v) for name, v in choice.items() if name not in _MERGED and v is not None)
            has_ended = bool(reason := finish_name(choice.get("finish_reason")))
            if has_ended:
                self.is_whole = True
                if not (
                    known.get("finish_reason") and finish_of(reason)[0] == "stop"
                ):  # a limit, then a gateway's stop
                    known["finish_reason"] = choice["finish_reason"]
            delta = dict_of(choice.get("delta"))
            message = self._messages.setdefault(index, {})
            _merge(message, delta)
            if isinstance(choice.get("text"), str) and not _says_something(delta):  # a chunk of a plain completion
                _merge(message, {"content": choice["text"]})
                self.has_text = True
            if isinstance(choice.get("message"), Mapping):
                _merge_message(message, choice["message"], has_ended=has_ended)
                self.has_text = True
            self.has_text = self.has_text or any(v for name, v in delta.items() if name != "role")

    def body(self) -> dict[str, Any]:
        choices = [
            {"message": _joined(self._messages[index])} | choice for index, choice in sorted(self._choices.items())
        ]
        return {**self._rest, "object": "chat.completion", "choices": choices}


def _says_something(delta: Mapping[str, Any]) -> bool:
    """Whether a delta brings more than who speaks. Together writes the same piece beside it as `text`."""
    return any(value for name, value in delta.items() if name not in ("role", "token_id"))


_MERGED = ("delta", "message", "text", "finish_reason", "index")
_WHOLE_EACH_TIME = {"role", "id", "type", "name", "index", "format", "signature"}
"""Fields of a delta that a chunk repeats instead of continuing, or sends empty (Mistral's names of functions)."""


def _merge(into: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Texts are gathered in lists of pieces, to be joined once: joining each time takes quadratic time."""
    for name, value in delta.items():
        known = into.get(name)
        if value is None or (value == "" and known and name in _WHOLE_EACH_TIME):
            into.setdefault(name, None)
        elif isinstance(value, str) and name not in _WHOLE_EACH_TIME:
            if isinstance(known, _Pieces):
                known.append(value)
            elif isinstance(known, list):  # Mistral: thinking comes as parts, the answer after it as plain text
                _merge_part(known, {"type": "text", "text": value})
            else:
                into[name] = _Pieces([value])
        elif isinstance(value, Mapping):
            inner: dict[str, Any] = known if isinstance(known, dict) else {}
            into[name] = inner
            _merge(inner, value)
        elif isinstance(value, list):
            if isinstance(known, _Pieces):
                known = [{"type": "text", "text": known}] if any(known) else []
            parts: list[Any] = known if isinstance(known, list) else []
            into[name] = parts
            for part in value:
                _merge_part(parts, part)
        else:
            into[name] = value


def _merge_message(into: dict[str, Any], message: Mapping[str, Any], *, has_ended: bool) -> None:
    """A message in place of a delta: some servers send all that was said so far, some the next piece, and some the
    whole once more at the end."""
    for name, value in message.items():
        known = into.get(name)
        if isinstance(known, _Pieces) and isinstance(value, str) and value:
            so_far = "".join(known)
            if value.startswith(so_far) or (has_ended and len(value) >= len(so_far)):
                into[name] = _Pieces([value])
            else:
                known.append(value)
        elif isinstance(known, list) and not isinstance(known, _Pieces) and isinstance(value, list):
            into[name] = value or known
        else:
            _merge(into, {name: value})


def _merge_part(parts: list[Any], part: Any) -> None:
    """A part continues the one of its index (tool calls, reasoning details), without an index the last, if its type is
    the same and its id, where it has one; else it is new."""
    if not isinstance(part, Mapping):
        parts.append(part)
        return
    index = part.get("index")
    known = [p for p in parts if isinstance(p, dict) and p.get("index") == index] if index is not None else parts[-1:]
    same = known[-1] if known and isinstance(known[-1], dict) else None
    is_new = same is None or part.get("type") not in (None, same.get("type"))
    if is_new or same is None or (same.get("id") and part.get("id") not in (None, "", same["id"])):
        parts.append(same := {})
    _merge(same, part)


class _Pieces(list[str]):
    """A text that is still growing."""


def _said_once(pieces: list[str]) -> str:
    """The text that pieces amount to. Some servers send all of it so far in each (MiniMax), or once more at the end.

    >>> _said_once(["The sum", "The sum is four.", "The sum is four. Indeed."]), _said_once(["4", "4"])
    ('The sum is four. Indeed.', '44')
    """
    last = next((piece for piece in reversed(pieces) if piece), "")
    text = "".join(pieces)
    if len(last) < _NO_CHANCE or len(set(last)) < 3:
        return text
    said = [piece for piece in pieces if piece]
    if 2 * len(last) == len(text) and text[: len(last)] == last and len(said) > 1:
        return last
    is_growing = len(said) > 2 or len(said[0]) >= _NO_CHANCE
    if is_growing and all(later.startswith(piece) for piece, later in pairwise(said)):
        return last
    return text


_NO_CHANCE = 16
"""Characters that no two pieces of a text have in common by chance."""


def _joined(value: Any) -> Any:
    if isinstance(value, _Pieces):
        return _said_once(value)
    if isinstance(value, dict):
        return {name: _joined(inner) for name, inner in value.items()}
    return [_joined(inner) for inner in value] if isinstance(value, list) else value


_BLOCK_OF = {"thinking_delta": "thinking", "text_delta": "text", "input_json_delta": "tool_use"}


class MessageAssembler:
    """Events of Anthropic's messages: a message, its blocks, their deltas."""

    def __init__(self) -> None:
        self.is_whole = self.has_text = False
        self._message: dict[str, Any] = {}
        self._error: Any = None
        self._blocks: dict[int, dict[str, Any]] = {}
        self._place: dict[int, int] = {}
        """Where the block is that an event's index means."""

    def end(self) -> None:
        self.is_whole = True

    def add(self, event: Mapping[str, Any]) -> None:
        index = event.get("index")
        index = index if type(index) is int else 0
        match event.get("type"):
            case "message_start":
                self._start(dict_of(event.get("message")))
            case "content_block_start":
                # Some gateways count all blocks as the first.
                self._place[index] = index if index not in self._blocks else max(self._blocks) + 1
                _merge(self._block(index), dict_of(event.get("content_block")))
            case "content_block_delta":
                self._grow(self._block(index), dict_of(event.get("delta")))
            case "message_delta":
                self._message.update((n, v) for n, v in dict_of(event.get("delta")).items())
                usage = {n: v for n, v in dict_of(event.get("usage")).items() if v is not None}
                self._message["usage"] = {**dict_of(self._message.get("usage")), **usage}
                self.is_whole = self.is_whole or self._message.get("stop_reason") is not None
            case "message_stop":
                self.is_whole = True
            case "error":
                self.is_whole, self._error = True, event.get("error") or "an error without a message"
            case _ if event.get("error"):
                self.is_whole, self._error = True, event["error"]
            case "message":  # some gateways send the whole message as one event
                self._message.update(event)
                self._blocks = {n: dict(dict_of(block)) for n, block in enumerate(list_of(event.get("content")))}
                self.is_whole = True

    def _start(self, message: Mapping[str, Any]) -> None:
        if self._message.get("id") != message.get("id"):
            # A gateway whose upstream broke off has begun anew; the first attempt is no part of the reply.
            self._blocks, self._place = {}, {}
        self._message.update(message)

    def _grow(self, block: dict[str, Any], delta: Mapping[str, Any]) -> None:
        if "type" not in block and (kind := _BLOCK_OF.get(str(delta.get("type")))):  # its start is missing
            block["type"] = kind
        _merge(block, {n: v for n, v in delta.items() if n != "type"})
        self.has_text = True

    def _block(self, index: int) -> dict[str, Any]:
        return self._blocks.setdefault(self._place.get(index, index), {})

    def body(self) -> dict[str, Any]:
        blocks = [_with_input(_joined(block)) for _, block in sorted(self._blocks.items())]
        body = {"type": "message", **self._message, "content": blocks}
        return body if self._error is None else body | {"error": self._error}


def _with_input(block: dict[str, Any]) -> dict[str, Any]:
    """A block whose input came in pieces of JSON text, with what they make; text that is no JSON stays one."""
    if not isinstance(text := block.pop("partial_json", None), str) or not text:
        return block
    try:
        return {**block, "input": json.loads(text)}
    except (ValueError, RecursionError):
        return {**block, "input": text}


class ContentAssembler:
    """Chunks of Gemini's streamGenerateContent: each is a response with the next parts of its candidates."""

    def __init__(self) -> None:
        self.is_whole = self.has_text = False
        self._rest: dict[str, Any] = {}
        self._candidates: dict[int, dict[str, Any]] = {}
        self._parts: dict[int, list[Any]] = {}

    def end(self) -> None:
        self.is_whole = True

    def add(self, event: Mapping[str, Any]) -> None:
        for name, value in event.items():
            if name != "candidates" and value is not None:
                self._rest[name] = value
        if event.get("error") or dict_of(event.get("promptFeedback")).get("blockReason"):
            self.is_whole = True
        for position, candidate in enumerate(map(dict_of, list_of(event.get("candidates")))):
            index = candidate.get("index")
            index = index if type(index) is int else position
            known = self._candidates.setdefault(index, {"index": index})
            known.update((n, v) for n, v in candidate.items() if n not in ("content", "index") and v is not None)
            if candidate.get("finishReason") is not None:
                self.is_whole = True
            parts = list_of(dict_of(candidate.get("content")).get("parts"))
            self._parts.setdefault(index, []).extend(parts)
            self.has_text = self.has_text or bool(parts)

    def body(self) -> dict[str, Any]:
        candidates = [
            {"content": {"role": "model", "parts": with_whole_calls(self._parts[index])}} | candidate
            for index, candidate in sorted(self._candidates.items())
        ]
        return {**self._rest, "candidates": candidates} if candidates else dict(self._rest)
