"""Response bodies: parsed as JSON objects, and searched for the message of an error."""

from __future__ import annotations

import json
from typing import Any

from s1kit.providers.wires.streams import ContentAssembler


def parse_body(raw: bytes) -> dict[str, Any] | None:
    """The JSON object of a body, or None: byte order marks, UTF-16 and comment lines before it are let pass.

    Gemini and some gateways wrap an object into a list of one.
    """
    try:
        try:
            value = json.loads(raw.decode("utf-8"))
        except ValueError:  # UTF-16, a byte order mark, lone surrogates: `loads` knows them, but takes twice as long
            try:
                value = json.loads(raw)
            except ValueError:
                value = json.loads(_without_comments(raw))
    except (ValueError, RecursionError):
        return None
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    elif isinstance(value, list) and value and all(isinstance(v, dict) and "candidates" in v for v in value):
        chunks = ContentAssembler()  # Gemini's stream where a gateway has lost its `alt=sse`
        for chunk in value:
            chunks.add(chunk)
        value = chunks.body()
    return value if isinstance(value, dict) else None


def is_plain_object(raw: bytes) -> bool:
    """Whether a body can be kept as it came: one JSON object in UTF-8, so that it is read again as it was read."""
    try:
        raw.decode("utf-8")
    except ValueError:
        return False
    return raw.lstrip()[:1] == b"{"


def _without_comments(raw: bytes) -> bytes:
    """OpenRouter sends lines such as `: OPENROUTER PROCESSING` while a model thinks."""
    if not raw.lstrip().startswith(b":"):
        raise ValueError("no comment lines")
    return b"\n".join(line for line in raw.split(b"\n") if not line.lstrip().startswith(b":"))


_TOLD_IN = ("error", "base_resp", "fault", "errors", "detail", "Error", "ErrorMsg", "Response")
"""Where an error stands in a body: of most, of MiniMax, of Apigee, of Cloudflare, of FastAPI, of Hunyuan."""
_TOLD_AS = ("message", "detail", "msg", "error_msg", "error_message", "status_msg", "faultstring", "Message", "Msg")


def error_message(body: Any, depth: int = 3) -> str:
    """The message of an error body in any provider's shape, or an empty string.

    >>> error_message({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}, "choices": None})
    'insufficient balance'
    >>> error_message({"detail": [{"loc": ["body", "top_k"], "msg": "Extra inputs are not permitted"}]})
    'body.top_k: Extra inputs are not permitted'
    """
    if isinstance(body, list):
        return error_message(body[0], depth) if body else ""
    if not isinstance(body, dict):
        return ""
    if isinstance(place := body.get("loc"), list) and isinstance(body.get("msg"), str):  # FastAPI's, of one field
        return f"{'.'.join(map(str, place))}: {body['msg']}"
    for name in _TOLD_IN:
        inner = body.get(name)
        if isinstance(inner, str) and inner:
            return inner
        if depth and (text := error_message(inner, depth - 1)):
            return text
    return next((body[name] for name in _TOLD_AS if isinstance(body.get(name), str)), "")
