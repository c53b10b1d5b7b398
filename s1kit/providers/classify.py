"""What a reply means before it is kept: an answer, or a problem with one request, with the account, or for a while.

Pure, total functions over a status and a body of any shape. Sources for the error formats:
platform.openai.com/docs/guides/error-codes, docs.anthropic.com/en/api/errors,
ai.google.dev/gemini-api/docs/troubleshooting, openrouter.ai/docs/api-reference/errors,
api-docs.deepseek.com/quick_start/error_codes.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from s1kit.providers.chat import Problem, ProblemKind
from s1kit.providers.rate_limits import seconds_in
from s1kit.providers.wires.reading import count, finish_of

_CREDIT = (
    "insufficient_quota",
    "billing_hard_limit",
    "billing_not_active",
    "billing_error",
    "credit balance",
    "insufficient balance",
    "insufficient credit",
    "insufficient_credit",
    "credit limit",  # Together's
    "credit_limit",
    "exceeded_current_quota",
    "arrearage",
    "overdue",
    "payment required",
    "specified api usage limit",  # Anthropic's, of the month
    "monthly limit",
    "spending limit",
    "spend limit",
    "out of credits",
    "any credits",  # xAI
    "key limit exceeded",  # OpenRouter's limit of one key
    "free-models-per-day",
    "budget_exceeded",  # LiteLLM's proxy
    "budget has been exceeded",
    "out of call volume",  # Azure
    "allocationquota.freetier",  # DashScope
    "requires billing",  # Google Cloud
    "billing_disabled",
    "billing to be enabled",
    "no resource package",  # Zhipu
    "please recharge",
    "余额不足",
    "欠费",
    "trial key",  # Cohere, by the month
    "account is suspended",  # Fireworks
    "account suspended",
    "has been suspended",
    "has been restricted",  # Groq
    "organization_restricted",
    "good standing",
)
"""Signs in a code or message that the account cannot pay. Gemini's plain "exceeded your current quota" is a rate."""
_LIMIT_OF_ZERO = re.compile(r"quota[^{}]{0,300}limit: 0(?![\d.])")
"""Gemini's quota of a model that the account's plan does not have: no wait helps."""
_LOCATION = ("unsupported_country", "location is not supported", "region is not supported", "not available in your")
_KEY = (
    *("api_key_invalid", "api key not valid", "invalid_api_key", "incorrect api key", "authentication_error"),
    *("invalidapikey", "invalid api-key", "api secret key", "login fail", "access token invalid", "无效的令牌"),
    *("not authenticated", "unauthenticated", "unauthorized"),
)
_MODEL = ("model_not_found", "model not found", "model does not exist", "no such model", "model_not_exist")
_ACCESS = ("key", "auth", "signature", "permission", "access", "token", "forbidden", "denied", "credential")
_CONTENT = (
    *("content_filter", "content_policy", "data_inspection_failed", "responsible ai", "flagged", "moderation"),
    *("new_sensitive", "contentfilter"),  # MiniMax, Zhipu
)
_RATE = ("rate_limit", "rate limit", "too many requests", "resource_exhausted", "qps request limit")
_BUSY = ("overloaded", "unavailable", "timeout", "timed out", "internal", "server_error", "api_error", "try again")

_ERROR_FINISHES = {
    *("error", "abort", "aborted", "cancelled", "canceled", "failed", "insufficient_system_resource"),
    *("network_error", "server_error", "engine_overloaded", "user_cancel"),
    *("internal_error", "model_error", "timeout", "overloaded", "unavailable", "interrupted"),
}
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


_TOLD_IN = ("error", "base_resp", "fault", "errors", "detail")
"""Where an error stands in a body: of most, of MiniMax, of Apigee, of Cloudflare, of FastAPI."""
_TOLD_AS = ("message", "detail", "msg", "error_msg", "error_message", "status_msg", "faultstring")


def error_message(body: Any, depth: int = 3) -> str:
    """The message of an error body in any provider's shape, or an empty string.

    >>> error_message({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}, "choices": None})
    'insufficient balance'
    """
    if isinstance(body, list):
        return error_message(body[0], depth) if body else ""
    if not isinstance(body, dict):
        return ""
    for name in _TOLD_IN:
        inner = body.get(name)
        if isinstance(inner, str) and inner:
            return inner
        if depth and (text := error_message(inner, depth - 1)):
            return text
    return next((body[name] for name in _TOLD_AS if isinstance(body.get(name), str)), "")


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
    # First: what is refused for its content is often quoted.
    if status in (400, 403, 451) and any(sign in signs for sign in _CONTENT):
        return "refused"
    if 400 <= status < 500 and _cannot_pay(signs):
        return "credit"
    if status in (400, 403) and any(sign in signs for sign in _LOCATION):
        return "location"
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
        case 400 if any(sign in signs for sign in _MODEL):
            return "model"
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
        return _problem_of_error(body)
    if isinstance(choices := body.get("choices"), list) and choices:
        choice = choices[0]
        if not isinstance(choice, dict):
            return Problem("server", "the reply's choice is no object", status=200)
        if choice.get("error"):
            return _problem_of_error({"error": choice["error"]})
        if nothing := _nothing_in(body):
            return nothing
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason.lower() in _ERROR_FINISHES:
            return Problem(
                "server", f"the server broke off: finish_reason is {reason!r}", status=200, may_be_charged=True
            )
        if not isinstance(choice.get("message"), dict) and not isinstance(choice.get("text"), str):
            return Problem("server", "the reply has no message", status=200, may_be_charged=True)
        return None
    if isinstance(candidates := body.get("candidates"), list) and candidates and isinstance(candidates[0], dict):
        return _nothing_in(body)
    feedback = body.get("promptFeedback")
    if isinstance(feedback, dict) and feedback.get("blockReason"):
        return None
    if body.get("type") == "message" and isinstance(body.get("content"), list):
        return _nothing_in(body)
    if isinstance(output := body.get("output"), dict) and isinstance(output.get("message"), dict):
        return None  # Bedrock
    if isinstance(output := body.get("output"), list) and "status" in body:
        status = body["status"]
        if status == "incomplete" or (status == "completed" and output):
            return None
        text = f"the response is {status!r:.40} with {len(output)} items of output"
        return Problem("server", text, status=200, may_be_charged=isinstance(body.get("usage"), dict))
    has_usage = isinstance(body.get("usage"), dict) or isinstance(body.get("usageMetadata"), dict)
    if error_message(body):  # an error without a field of that name
        problem = _problem_of_error(body)
        problem.may_be_charged = has_usage
        return problem
    names = ", ".join(sorted(map(str, body))[:6]) or "nothing"
    text = f"the reply has no choices, output, candidates or content; it has {names}"
    return Problem("server", text, status=200, may_be_charged=has_usage)


_BROKEN_CALLS = {
    *("malformed_function_call", "unexpected_tool_call", "malformed_response", "other"),
    *("missing_thought_signature", "too_many_tool_calls"),
}
"""Finish reasons with which Gemini ends a reply that it could not make sense of itself."""


def _nothing_in(body: dict[str, Any]) -> Problem | None:
    """The problem of a reply that ended well and holds nothing, although the server says that it produced nothing.

    Servers send such under load, and Gemini where it cannot parse itself; asked again, most bring an answer. One that
    stays so is kept as it is.
    """
    reason = said = None
    usage = body.get("usage")
    if isinstance(choices := body.get("choices"), list):
        message = choices[0].get("message")
        reason, said = choices[0].get("finish_reason"), message if isinstance(message, dict) else True
        made = usage.get("completion_tokens") if isinstance(usage, dict) else None
    elif isinstance(candidates := body.get("candidates"), list):
        content = candidates[0].get("content")
        reason, said = candidates[0].get("finishReason"), content.get("parts") if isinstance(content, dict) else None
        counted = body.get("usageMetadata")
        made = 0 if str(reason).lower() in _BROKEN_CALLS else None
        if isinstance(counted, dict):  # what Gemini did not produce it does not count at all
            made = (count(counted, "candidatesTokenCount") or 0) + (count(counted, "thoughtsTokenCount") or 0)
    else:
        reason, said = body.get("stop_reason"), body.get("content")
        made = usage.get("output_tokens") if isinstance(usage, dict) else None
    if isinstance(said, dict):
        said = any(value for name, value in said.items() if name != "role")
    if said or type(made) is not int or made != 0 or finish_of(reason)[0] in ("refused", "length"):
        return None
    text = f"the reply is empty: no text and no tokens, finish reason {str(reason)[:40]!r}"
    return Problem("server", text, status=200, may_be_charged=True, partial=body)


def _cannot_pay(signs: str) -> bool:
    return any(sign in signs for sign in _CREDIT) or _LIMIT_OF_ZERO.search(signs) is not None


def _problem_of_error(body: Mapping[str, Any]) -> Problem:
    """An error object inside a reply with status 2xx: by the status it names, else by its words."""
    error = body.get("error")
    text = error_message(body) or _dump(error)[:300]
    status = _status_in(error) or _status_in({name: value for name, value in body.items() if name != "error"})
    signs = (_dump(body) + " " + text).lower()
    kind: ProblemKind
    if status:
        kind = kind_of_status(status, dict(body), text)
    elif _cannot_pay(signs):
        kind = "credit"
    elif any(sign in signs for sign in _KEY):
        kind = "key"
    elif any(sign in signs for sign in _MODEL):
        kind = "model"
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
    if (reset := _reset_in(headers, error)) is not None:
        return reset
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict) and isinstance(detail.get("retryDelay"), str):
            return seconds_in(detail["retryDelay"])
    return None


def _reset_in(headers: Mapping[str, str], error: Any) -> float | None:
    """OpenRouter's `X-RateLimit-Reset`, in milliseconds since 1970, as a header or within the error's metadata."""
    metadata = error.get("metadata") if isinstance(error, dict) else None
    told = metadata.get("headers") if isinstance(metadata, dict) else None
    moment = headers.get("x-ratelimit-reset") or (told.get("X-RateLimit-Reset") if isinstance(told, dict) else None)
    if not isinstance(moment, str | int) or not str(moment).isdecimal() or not 12 < len(str(moment)) < 15:
        return None
    return max(0.0, int(moment) / 1000.0 - time.time())


def _dump(value: Any) -> str:
    try:
        return json.dumps(value)[:4000] if value is not None else ""
    except (ValueError, TypeError, RecursionError):
        return ""
