"""Which kind of problem the status and the words of an error tell of.

Sources for the error formats: platform.openai.com/docs/guides/error-codes, docs.anthropic.com/en/api/errors,
ai.google.dev/gemini-api/docs/troubleshooting, openrouter.ai/docs/api-reference/errors,
api-docs.deepseek.com/quick_start/error_codes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from s1kit.providers.bodies import error_message
from s1kit.providers.chat import Problem, ProblemKind
from s1kit.providers.rate_limits import retry_after

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
    "top up",
    "insufficient_user_quota",  # New API's gateways
    "额度不足",
    "余额不足",
    "欠费",
    "trial key",  # Cohere, by the month
    "account is suspended",  # Fireworks
    "account suspended",
    "has been suspended",
    "has been restricted",  # Groq
    "organization_restricted",
    "good standing",
    "not enough balance",  # Novita
    "balance is insufficient",  # SiliconFlow
    "account balance is $",  # Chutes
    "setlimitexceeded",  # Ark's limit that the user set
    "resourcepackexhausted",  # Hunyuan
    "organization has been disabled",  # Anthropic
    "requires a subscription",  # Ollama
    "tokens per day limit exceeded",  # Cerebras; Groq's "on tokens per day" rolls on within minutes
    "workspace api usage limit",  # Anthropic
    "usage limit reached for",  # Z.ai, of hours or a week
    "使用上限",
    "usage limit, upgrade",  # Ollama
    "wait or upgrade",
    "usage_limit_reached",  # Codex
    "customer_verification_required",  # Vercel
    "verified account",  # Neon
    "credits are depleted",  # Gemini
    "spending cap",
)
"""Signs in a code or message that the account cannot pay. Gemini's plain "exceeded your current quota" is a rate."""
_SESSION = (
    *("usage limit reached", "usage limit has been reached", "usage_limit_reached", "hit your usage limit", "使用上限"),
    *("session usage limit", "hourly usage limit", "weekly usage limit", "monthly limit exhausted"),
)
"""Signs of a plan whose hours or week are used up, which comes back by itself: a rate where the reply says when."""
_LIMIT_OF_ZERO = re.compile(r"quota[^{}]{0,300}limit: 0(?![\d.])")
"""Gemini's quota of a model that the account's plan does not have: no wait helps."""
_QUOTA_OF_THE_DAY = re.compile(r'"quotaid": ?"[^"]*perday')
"""Gemini's quota of the day, whose RetryInfo names seconds all the same."""
_OF_THE_DAY = re.compile(r"\b[tr]pd\b|\bper[ -]day\b|\bdaily\b|每日|每天|当日|今日")
"""A quota of the day. Where the reply says when it comes back, it is waited for."""
_NO_CREDIT_SIGN = "error-code#token-limit"
"""DashScope's address of its limit by the minute, which it tells of in the words of a quota that is spent."""
_LOCATION = ("unsupported_country", "location is not supported", "region is not supported", "not available in your")
_KEY = (
    *("api_key_invalid", "api key not valid", "invalid_api_key", "incorrect api key", "authentication_error"),
    *("invalidapikey", "invalid api-key", "api secret key", "login fail", "access token invalid", "无效的令牌"),
    *("not authenticated", "unauthenticated", "unauthorized"),
    *("invalid api key", "authfailure", "appidnoautherror"),  # MiniMax, Hunyuan, Spark
)
_MODEL = (
    *("model_not_found", "model not found", "model does not exist", "no such model", "model_not_exist"),
    *("model_not_supported", "not a chat model", "deploymentnotfound", "modelnotopen", "does not have access to model"),
    *("model_not_available", "model identifier is invalid"),  # Together, Bedrock
    "on-demand throughput",  # Bedrock: the model is asked for through an inference profile
    *("invalid_model", "not a valid model", "decommissioned"),  # Mistral, OpenRouter, Groq
    *("invalid model name", "model_deprecated", "plain http request"),  # LiteLLM, SambaNova, nginx of a wrong base URL
    *("no models loaded", "模型不存在"),  # LM Studio, Zhipu
)
_ACCESS = ("key", "auth", "signature", "permission", "access", "token", "forbidden", "denied", "credential")
_CONTENT = (
    *("content_filter", "content_policy", "data_inspection_failed", "responsible ai", "flagged", "moderation"),
    *("new_sensitive", "contentfilter"),  # MiniMax, Zhipu
    *("content filter", "content management policy", "usage policy", "usage policies", "safety policy"),
    *("usage guidelines", "safety_check"),  # xAI
    *("hooks_failed", "guardrail_intervened", "blocked due to security"),  # Portkey, WSO2, Cloudflare
    *("content exists risk", "considered high risk", "censorship"),  # DeepSeek, Moonshot, StepFun
    *("sensitivecontent", "riskdetection", "datainspectionfailed", "审核不通过"),  # Ark, DashScope, Spark
)
_TOO_LONG = (
    *("context length", "context_length", "context size", "context window", "prompt is too long", "tokens to keep"),
    "invalid params",  # MiniMax
)
"""Signs that an error is this request's, where no status says so."""
_PASSES = (
    *("degraded function", "has crashed"),  # NVIDIA, LM Studio
    # Groq of its own model's text, which it quotes: a call or JSON that is not as it should be
    *("could not be parsed", "tool_use_failed", "json_validate_failed", "failed_generation"),
)
"""Signs of faults of the server or of this sample that it tells of as if they were the request's."""
_RATE = ("rate_limit", "rate limit", "too many requests", "resource_exhausted", "qps request limit")
_BUSY = (
    *("overloaded", "unavailable", "timeout", "timed out", "internal", "server_error", "api_error", "try again"),
    "the server had an error",
)


def kind_of_status(status: int, body: Any, text: str = "", wait: float | None = None) -> ProblemKind:
    """What an error status says about asking again. `wait`: seconds that the reply asks to wait, where it does.

    Retriable: 408, 409, 421, 423, 424, 425, 429, 498, 499 and 5xx. A 403 that is no JSON comes from a firewall in front
    and concerns this question, until it comes for every one.

    >>> kind_of_status(400, {"error": {"message": "Your credit balance is too low"}})
    'credit'
    >>> kind_of_status(403, None, "<html>Your request was blocked</html>")
    'request'
    """
    if 300 <= status < 400:
        return "model"
    signs = (_dump(body) + " " + text).lower()
    by_words = _kind_by_words(status, signs, wait)
    if by_words is not None:
        return by_words
    if status >= 500:  # by its message alone: a gateway's details tell of its own account at its upstream
        return "credit" if body is not None and cannot_pay(text.lower()) else "server"
    if status == 403 and (body is None or not any(sign in signs for sign in (*_MODEL, *_ACCESS))):
        return "request"
    found = (kind for at, words, kind in _LATER if status in at and any(word in signs for word in words))
    return next(found, "request")


def _kind_by_words(status: int, signs: str, wait: float | None) -> ProblemKind | None:
    """What an error's words, in lower case, say whatever is usual for its status."""
    # First: what is refused for its content is often quoted.
    if status in (400, 403, 422, 424, 451) and any(sign in signs for sign in _CONTENT):
        return "refused"
    if status == 400 and any(sign in signs for sign in _PASSES):
        return "server"
    if status == 429 and _comes_back(signs, wait):
        return "rate"
    if 400 <= status < 500 and (cannot_pay(signs) or (status == 429 and _is_of_the_day(signs, wait))):
        return "credit"
    if status in (400, 403) and any(sign in signs for sign in _LOCATION):
        return "location"
    return None


_LATER: tuple[tuple[tuple[int, ...], tuple[str, ...], ProblemKind], ...] = (
    ((403,), _MODEL, "model"),
    ((401, 403), ("",), "key"),
    ((402,), ("",), "credit"),
    ((404, 405, 410), ("",), "model"),
    ((407,), ("",), "proxy"),
    ((408,), ("",), "timeout"),
    # 424: of TGI and Bedrock, whose model failed; 499: Google's CANCELLED, and of proxies whose upstream went away
    ((409, 421, 423, 424, 425, 499), ("",), "server"),
    ((429,), ("request too large",), "request"),
    ((429, 498), ("",), "rate"),  # 498: Groq's, of its tier without a reservation
    ((446,), ("",), "refused"),  # of gateways whose guardrail steps in
    ((451,), ("",), "location"),
    ((400,), _KEY, "key"),
    ((400,), _MODEL, "model"),
)
"""Statuses, words of which one is to be there, and what that says; the first that fits decides."""


def _is_of_the_day(signs: str, wait: float | None) -> bool:
    """Whether an error's words, in lower case, tell of a quota of the day and nothing of when it comes back."""
    if wait is not None or not any(word in signs for word in ("limit", "quota", "exceed", "too many", "限")):
        return False
    return _OF_THE_DAY.search(signs) is not None and retry_after({}, {"message": signs}) is None


def _comes_back(signs: str, wait: float | None) -> bool:
    """Whether an error's words, in lower case, tell of a plan that is used up until a time that the reply states."""
    return wait is not None and any(sign in signs for sign in _SESSION)


def cannot_pay(signs: str) -> bool:
    """Whether an error's words, in lower case, say that the account cannot pay, or not today."""
    if _NO_CREDIT_SIGN in signs:
        return False
    if any(sign in signs for sign in _CREDIT):
        return True
    return any(pattern.search(signs) is not None for pattern in (_LIMIT_OF_ZERO, _QUOTA_OF_THE_DAY))


def problem_of_error(body: Mapping[str, Any]) -> Problem:
    """An error object inside a reply with status 2xx: by the status it names, else by its words.

    What the model had written by then is left out of account: it may speak of money and keys.
    """
    body = {name: value for name, value in body.items() if name not in _WRITTEN}
    error, wait = body.get("error"), retry_after({}, body)
    text = error_message(body) or _dump(error)[:300]
    status = _status_in(error) or _status_in({name: value for name, value in body.items() if name != "error"})
    if status >= 500 and any(sign in text.lower() for sign in _CONTENT):
        kind: ProblemKind = "refused"  # OpenRouter tells of it as 502
    elif status:
        kind = kind_of_status(status, body, text, wait)
    else:
        signs = (_dump(body) + " " + text).lower()
        kind = "rate" if _comes_back(signs, wait) else _kind_of_words(signs, wait)
    return Problem(kind, text or "an error without a message", status=status or 200, retry_after=wait)


def _kind_of_words(signs: str, wait: float | None) -> ProblemKind:
    """What an error's words, in lower case, say about asking again, where no status does."""
    if cannot_pay(signs) or _is_of_the_day(signs, wait):
        return "credit"
    return next((kind for kind, words in _KINDS if any(word in signs for word in words)), "server")


_KINDS: tuple[tuple[ProblemKind, tuple[str, ...]], ...] = (
    ("server", _PASSES),
    ("key", _KEY),
    ("model", _MODEL),
    ("location", _LOCATION),
    ("request", _TOO_LONG),
    ("rate", _RATE),
    ("server", _BUSY),
    ("refused", _CONTENT),
    ("request", ("invalid_request",)),
)
"""The first that fits decides."""


_WRITTEN = ("choices", "candidates", "content", "output", "outputs", "results")


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


def _dump(value: Any) -> str:
    try:
        return json.dumps(value)[:4000] if value is not None else ""
    except (ValueError, TypeError, RecursionError):
        return ""
