"""Total readers of JSON of any shape: what every wire shares. Nothing here raises, whatever the types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from s1kit.providers.chat import Reply, WireFormat
from s1kit.records import FinishReason

MAX_TOKENS = 10**9
"""A count of tokens beyond this is no count."""

_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "stop_token": "stop",
    "end_turn": "stop",
    "end": "stop",
    "complete": "stop",
    "completed": "stop",
    "finished": "stop",
    "done": "stop",
    "tool_calls": "stop",
    "tool_use": "stop",
    "function_call": "stop",
    "normal": "stop",
    "stop_str": "stop",
    "eot": "stop",
    "endoftext": "stop",
    "end_of_text": "stop",
    "end_of_turn": "stop",
    "success": "stop",
    "succeeded": "stop",
    "finish": "stop",
    "end_of_sequence": "stop",
    "stop_word": "stop",
    "eod": "stop",
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "max_length": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "incomplete": "length",
    "token_limit": "length",
    "max_new_tokens": "length",
    "context_length": "length",
    "context_length_exceeded": "length",
    "context_window_exceeded": "length",
    "max_completion_tokens": "length",
    "max_tokens_reached": "length",
    "token_limit_reached": "length",
    "length_limit": "length",
    "context_limit": "length",
    "pause_turn": "length",  # Anthropic's, of a turn that it would go on with
    "compaction": "length",
    "error_limit": "length",
    "time_limit": "length",
    "content_filter": "refused",
    "content_filtered": "refused",
    "sensitive": "refused",
    "refusal": "refused",
    "safety": "refused",
    "recitation": "refused",
    "blocklist": "refused",
    "prohibited_content": "refused",
    "spii": "refused",
    "language": "refused",
    "image_safety": "refused",
    "model_armor": "refused",
    "content-filter": "refused",
    "content_policy": "refused",
    "content_policy_violation": "refused",
    "blocked": "refused",
    "filtered": "refused",
    "flagged": "refused",
    "prohibited": "refused",
    "no_image": "refused",
    "image_recitation": "refused",
    "image_prohibited_content": "refused",
    "escalation": "refused",
    "error_toxic": "refused",
    "moderation": "refused",
    "guardrail_intervened": "refused",
}
"""Finish reasons, in lower case, of OpenAI, Anthropic, Gemini, TGI, Mistral, Zhipu, Cohere, Bedrock and others."""


_SAYS_NOTHING = ("", "null", "none", "unknown", "finish_reason_unspecified")


def finish_of(reason: Any) -> tuple[FinishReason, str]:
    """A finish reason in our terms, and a note where the server gave none or an unknown one.

    >>> finish_of("STOP"), finish_of("eos_token"), finish_of(["x"])
    (('stop', ''), ('stop', ''), ('malformed', "the finish reason is ['x']"))
    """
    if reason is None or (isinstance(reason, str) and reason.strip().lower() in _SAYS_NOTHING):
        return "stop", "the server gave no finish reason"
    if isinstance(reason, str) and (known := _FINISH.get(reason.strip().lower())) is not None:
        return known, ""
    return "malformed", f"the finish reason is {str(reason)[:80]!r}" if isinstance(reason, str) else (
        f"the finish reason is {str(reason)[:80]}"
    )


SUMMARY = "the thinking is the provider's summary of it"


def hidden_thinking(tokens: int | None, who: str = "the server") -> str:
    """The note of a reply whose thinking was paid for and is nowhere in it."""
    return f"{who} does not show its thinking ({'unknown' if tokens is None else tokens} tokens)"


def is_hidden(note: str) -> bool:
    """Whether a note is that of `hidden_thinking`.

    >>> is_hidden(hidden_thinking(13))
    True
    """
    return "does not show its thinking (" in note


def read_reply(wire: WireFormat, body: Mapping[str, Any]) -> Reply:
    """A body as a reply. Whatever the wire cannot make sense of is a malformed reply that says so."""
    if "not_json" in body:
        return Reply(finish_reason="malformed", note="the reply is not JSON")
    try:
        reply = wire.read(body)
    except Exception as error:  # noqa: BLE001 - the body is paid for and kept, and may have any shape
        return Reply(finish_reason="malformed", note=f"the reply cannot be read: {type(error).__name__}")
    if not reply.note.isascii() or reply.tool_calls or not (is_clean(reply.thinking) and is_clean(reply.answer)):
        return _cleaned(reply)
    return reply


def _cleaned(reply: Reply) -> Reply:
    thinking, answer, note = clean(reply.thinking), clean(reply.answer), clean(reply.note)
    if (thinking, answer) != (reply.thinking, reply.answer):
        note = f"{note}; half characters are replaced" if note else "half characters are replaced"
    return replace(reply, thinking=thinking, answer=answer, note=note, tool_calls=_clean_calls(reply.tool_calls))


def _clean_calls(calls: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(clean(json.dumps(call, ensure_ascii=False))) for call in calls)


def clean(text: str) -> str:
    """The text without lone surrogates, which JSON can carry and no file can."""
    return text if is_clean(text) else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def is_clean(text: str) -> bool:
    """Whether UTF-8 can hold the text."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def count(mapping: Any, *names: str) -> int | None:
    """The first of the fields that is a number of tokens: not negative, at most MAX_TOKENS; None where none is.

    >>> count({"a": -1, "b": "12", "c": 3.0}, "a", "b")
    12
    """
    if not isinstance(mapping, dict):
        return None
    for name in names:
        value = mapping.get(name)
        if value is None:
            continue
        if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 12:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if 0 <= value <= MAX_TOKENS:  # neither NaN nor an infinity is
            return int(value)
    return None


def dollars(mapping: Any, name: str) -> float | None:
    """A field in dollars, from 0 to a million; None for anything else."""
    value = mapping.get(name) if isinstance(mapping, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < 1e6 else None


def text_of(value: Any, depth: int = 4) -> str:
    """Text in any nesting of strings, lists of parts, and parts with `text`; everything else is left out."""
    if isinstance(value, str):
        return value
    if depth and isinstance(value, list):
        return "".join(text_of(part, depth - 1) for part in value)
    if depth and isinstance(value, Mapping):
        return text_of(value.get("text"), depth - 1)
    return ""


def dict_of(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def list_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def output_limit(body: Mapping[str, Any]) -> int:
    """The most tokens that a request's body allows for, over all replies it asks for.

    Read from the body as it is sent, so that `extra = {n = 8}` counts.

    >>> output_limit({"max_tokens": 100, "n": 5})
    500
    """
    config = dict_of(body.get("generationConfig"))
    limits = [count(body, name) for name in ("max_tokens", "max_completion_tokens", "max_output_tokens")]
    limits.append(count(config, "maxOutputTokens"))
    replies = [count(body, name) for name in ("n", "best_of", "num_generations")]
    replies.append(count(config, "candidateCount"))
    return max((n for n in limits if n is not None), default=0) * max((n for n in replies if n), default=1)
