"""What a reply means before it is kept: an answer, or a problem with one request, with the account, or for a while.

Pure, total functions over a status and a body of any shape. Sources for the error formats:
platform.openai.com/docs/guides/error-codes, docs.anthropic.com/en/api/errors,
ai.google.dev/gemini-api/docs/troubleshooting, openrouter.ai/docs/api-reference/errors,
api-docs.deepseek.com/quick_start/error_codes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from s1kit.providers.chat import Problem, ProblemKind
from s1kit.providers.rate_limits import seconds_in

_CREDIT = (
    "insufficient_quota",
    "billing_hard_limit",
    "billing_not_active",
    "billing_error",
    "credit balance",
    "insufficient balance",
    "insufficient credit",
    "insufficient_credit",
    "exceeded_current_quota",
    "arrearage",
    "payment required",
)
"""Signs in a code or message that the account cannot pay. Gemini's plain "exceeded your current quota" is a rate."""
_LOCATION = ("unsupported_country", "location is not supported", "region is not supported", "not available in your")
_KEY = ("api_key_invalid", "api key not valid", "invalid_api_key", "incorrect api key", "authentication_error")
_ACCESS = ("key", "auth", "signature", "permission", "access", "token", "forbidden", "denied", "credential")
_CONTENT = ("content_filter", "content_policy", "data_inspection_failed", "responsible ai", "flagged", "moderation")
_RATE = ("rate_limit", "rate limit", "too many requests", "resource_exhausted")
_BUSY = ("overloaded", "unavailable", "timeout", "timed out", "internal", "server_error", "api_error", "try again")

_ERROR_FINISHES = {"error", "abort", "aborted", "cancelled", "canceled", "failed", "insufficient_system_resource"}
"""Finish reasons that say that the server gave up: the reply is no answer."""


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


def error_message(body: Any) -> str:
    """The message of an error body in any provider's shape, or an empty string."""
    error = body.get("error", body) if isinstance(body, dict) else None
    if isinstance(error, str):
        return error
    if isinstance(error, dict):
        for name in ("message", "detail", "msg"):
            if isinstance(error.get(name), str):
                return str(error[name])
    return ""


def kind_of_status(status: int, body: Any, text: str = "") -> ProblemKind:
    """What an error status says about asking again.

    Retriable: 408, 409, 425, 429 and 5xx. A 403 that is no JSON comes from a firewall in front and concerns this
    question, until it comes for every one.

    >>> kind_of_status(400, {"error": {"message": "Your credit balance is too low"}})
    'credit'
    >>> kind_of_status(403, None, "<html>Your request was blocked</html>")
    'request'
    """
    signs = (_dump(body) + " " + text).lower()
    if 300 <= status < 400:
        return "model"
    if status in (400, 401, 402, 403, 404, 422, 429) and any(sign in signs for sign in _CREDIT):
        return "credit"
    if status in (400, 403) and any(sign in signs for sign in _LOCATION):
        return "location"
    if status in (400, 403, 451) and any(sign in signs for sign in _CONTENT):
        return "refused"
    match status:
        case 403 if body is None or not any(sign in signs for sign in _ACCESS):
            return "request"
        case 401 | 403 | 407:
            return "key"
        case 402:
            return "credit"
        case 404:
            return "model"
        case 429:
            return "rate"
        case 408:
            return "timeout"
        case 409 | 425:
            return "server"
        case 400 if any(sign in signs for sign in _KEY):
            return "key"
        case _ if status >= 500:
            return "server"
        case _:
            return "request"


def problem_in(body: dict[str, Any] | None, raw: bytes) -> Problem | None:
    """The problem that a reply with status 2xx tells of, or None where it is an answer or a refusal.

    An answer has choices or output (OpenAI), candidates or a blocked prompt (Gemini), or a list of content (Anthropic).
    Whatever else a 2xx holds (an error object, HTML, nothing, half a body, an unknown shape) was produced by no model:
    it is worth asking again, and is no data.
    """
    if body is None:
        start = " ".join(raw[:120].decode("utf-8", "replace").split())
        text = f"the reply is not JSON: {start!r}" if start else "the reply is empty"
        return Problem("server", text, status=200, may_be_charged=start[:1] in ("{", "["))
    error = body.get("error")
    if error or body.get("type") == "error":
        return _problem_of_error(body if not error else {"error": error})
    if isinstance(choices := body.get("choices"), list) and choices:
        choice = choices[0]
        if not isinstance(choice, dict):
            return Problem("server", "the reply's choice is no object", status=200)
        if choice.get("error"):
            return _problem_of_error({"error": choice["error"]})
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason.lower() in _ERROR_FINISHES:
            return Problem(
                "server", f"the server broke off: finish_reason is {reason!r}", status=200, may_be_charged=True
            )
        if not isinstance(choice.get("message"), dict) and not isinstance(choice.get("text"), str):
            return Problem("server", "the reply has no message", status=200, may_be_charged=True)
        return None
    if isinstance(candidates := body.get("candidates"), list) and candidates and isinstance(candidates[0], dict):
        return None
    feedback = body.get("promptFeedback")
    if isinstance(feedback, dict) and feedback.get("blockReason"):
        return None
    if body.get("type") == "message" and isinstance(body.get("content"), list):
        return None
    if isinstance(output := body.get("output"), dict) and isinstance(output.get("message"), dict):
        return None  # Bedrock
    if isinstance(output := body.get("output"), list) and "status" in body:
        status = body["status"]
        if status == "incomplete" or (status == "completed" and output):
            return None
        text = f"the response is {status!r:.40} with {len(output)} items of output"
        return Problem("server", text, status=200, may_be_charged=isinstance(body.get("usage"), dict))
    names = ", ".join(sorted(map(str, body))[:6]) or "nothing"
    text = f"the reply has no choices, output, candidates or content; it has {names}"
    has_usage = isinstance(body.get("usage"), dict) or isinstance(body.get("usageMetadata"), dict)
    return Problem("server", text, status=200, may_be_charged=has_usage)


def _problem_of_error(body: Mapping[str, Any]) -> Problem:
    """An error object inside a reply with status 2xx: by the status it names, else by its words."""
    error = body.get("error")
    text = error_message(body) or _dump(error)[:300]
    status = _status_in(error)
    signs = _dump(body).lower()
    kind: ProblemKind
    if status:
        kind = kind_of_status(status, dict(body), text)
    elif any(sign in signs for sign in _CREDIT):
        kind = "credit"
    elif any(sign in signs for sign in _KEY):
        kind = "key"
    elif any(sign in signs for sign in _LOCATION):
        kind = "location"
    elif any(sign in signs for sign in _RATE):
        kind = "rate"
    elif any(sign in signs for sign in _BUSY):
        kind = "server"
    elif any(sign in signs for sign in _CONTENT):
        kind = "refused"
    elif "invalid_request" in signs:
        kind = "request"
    else:
        kind = "server"
    return Problem(kind, text or "an error without a message", status=status or 200, retry_after=retry_after({}, body))


def _status_in(error: Any) -> int:
    """The HTTP status that an error object names, 0 if none."""
    if not isinstance(error, dict):
        return 0
    for name in ("code", "status", "status_code"):
        value = error.get(name)
        if isinstance(value, str) and value.isdecimal() and len(value) == 3:
            value = int(value)
        if type(value) is int and 400 <= value <= 599:
            return value
    return 0


def retry_after(headers: Mapping[str, str], body: Any) -> float | None:
    """Seconds a server asks to wait: `retry-after-ms`, `Retry-After` (seconds or a date), or Gemini's RetryInfo."""
    if (text := headers.get("retry-after-ms")) and (milliseconds := seconds_in(text)) is not None:
        return milliseconds / 1000.0
    if text := headers.get("retry-after", "").strip():
        if (seconds := seconds_in(text)) is not None:
            return seconds
        try:
            return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
        except (ValueError, TypeError, OverflowError):
            return None
    error = body.get("error") if isinstance(body, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict) and isinstance(detail.get("retryDelay"), str):
            return seconds_in(detail["retryDelay"])
    return None


def _dump(value: Any) -> str:
    try:
        return json.dumps(value)[:4000] if value is not None else ""
    except (ValueError, TypeError, RecursionError):
        return ""
