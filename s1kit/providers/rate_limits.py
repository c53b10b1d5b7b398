"""What a throttle learns from: limits in headers, tokens a minute, rounds of replies, and vLLM's own queue."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from s1kit.providers.bodies import error_message
from s1kit.providers.chat import Problem

SECONDS_BETWEEN_QUEUE_READINGS = 2.0


@dataclass(frozen=True)
class SeenLimit:
    """A provider's limit as its headers tell it; None where they do not."""

    limit: float | None
    remaining: int | None
    reset_seconds: float | None


def limit_in_headers(headers: Mapping[str, str], what: str) -> SeenLimit | None:
    """OpenAI's `x-ratelimit-limit-requests` and Anthropic's `anthropic-ratelimit-requests-limit`, and the like for
    tokens, all by the minute.

    >>> limit_in_headers({"x-ratelimit-limit-requests": "60", "x-ratelimit-reset-requests": "1m2.5s"}, "requests")
    SeenLimit(limit=60.0, remaining=None, reset_seconds=62.5)
    """
    for limit, remaining, reset in (
        (f"x-ratelimit-limit-{what}", f"x-ratelimit-remaining-{what}", f"x-ratelimit-reset-{what}"),
        (
            f"anthropic-ratelimit-{what}-limit",
            f"anthropic-ratelimit-{what}-remaining",
            f"anthropic-ratelimit-{what}-reset",
        ),
    ):
        if limit in headers or remaining in headers:
            left = _float(headers.get(remaining, ""))
            return SeenLimit(
                _float(headers.get(limit, "")), None if left is None else int(left), seconds_in(headers.get(reset, ""))
            )
    return None


_FIRST_MOMENT = 1e9
"""In seconds since 1970 that is in 2001; no duration is so long."""


def seconds_in(text: str) -> float | None:
    """A duration such as `6m0s`, `250ms` or `1.5`, or the time until a moment, in RFC 3339 or in seconds since 1970.

    >>> seconds_in("6m0s"), seconds_in("250ms"), seconds_in("1.5"), seconds_in("soon")
    (360.0, 0.25, 1.5, None)
    """
    text = text.strip()
    if (plain := _float(text)) is not None:
        if plain >= _FIRST_MOMENT:  # a moment since 1970, in seconds or milliseconds
            plain = (plain / 1000.0 if plain >= _FIRST_MOMENT * 1000 else plain) - time.time()
        return max(0.0, plain)
    if "T" in text:
        try:
            return max(0.0, (datetime.fromisoformat(text) - datetime.now(UTC)).total_seconds())
        except (ValueError, TypeError):
            return None
    seconds, number = 0.0, ""
    rest = text.replace("ms", "u")
    for sign in rest:
        if sign.isdigit() or sign == ".":
            number += sign
        elif sign in "hmsu" and number:
            seconds += float(number) * {"h": 3600.0, "m": 60.0, "s": 1.0, "u": 0.001}[sign]
            number = ""
        else:
            return None
    return seconds if rest and not number else None


def _float(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value == value and value not in (float("inf"), float("-inf")) else None


def retry_after(headers: Mapping[str, str], body: Any) -> float | None:
    """Seconds a server asks to wait: `retry-after-ms`, `Retry-After` (seconds or a date), Gemini's RetryInfo, or what
    the message says."""
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
    if (reset := _reset_in(headers, error)) is not None or (reset := _in_fields(error)) is not None:
        return reset
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict) and isinstance(detail.get("retryDelay"), str):
            return seconds_in(detail["retryDelay"])
    return _asked_for(error_message(body))


_UNIT = r"ms|milli\w*|[smhdw]|sec\w*|min\w*|h(?:ou)?rs?|days?|weeks?"
_DURATION = rf"\d+(?:\.\d+)? ?(?:{_UNIT})(?![a-z])"
_ASKED_FOR = re.compile(
    rf"\b(?:try again|retry|available(?: again)?|resets?) (?:in|after) (?:about )?"
    rf"({_DURATION}(?:(?:,? and |, ?| ?){_DURATION})*)",
    re.IGNORECASE,
)
_LENGTHS = {"ms": 0.001, "mi": 60.0, "m": 60.0, "s": 1.0, "se": 1.0, "h": 3600.0, "d": 86400.0, "w": 604_800.0}
"""Seconds of a unit by its first letters."""
_MOMENT = re.compile(
    r"(?:resets?|try again|available(?: again)?) (?:at|after|on) "
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?)(?: ?(Z|UTC|[+-]\d\d:?\d\d))?"
    r"|(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) ?重置",
    re.IGNORECASE,
)
_BEIJING = timezone(timedelta(hours=8))
_SAID_IN_BEIJING = ("usage limit reached for", "limit exhausted", "重置")
"""Z.ai's and Zhipu's messages state the time of Beijing without saying so."""


def _asked_for(message: str) -> float | None:
    """The wait that a message asks for.

    >>> _asked_for("Please try again in 1m2.5s."), _asked_for("Please retry after 6 seconds."), _asked_for("Retry.")
    (62.5, 6.0, None)
    >>> _asked_for("You've hit your usage limit. Try again in 5 hours 30 minutes."), _asked_for("It resets in 2 days")
    (19800.0, 172800.0)
    """
    if found := _ASKED_FOR.search(message):
        parts = re.findall(rf"(\d+(?:\.\d+)?) ?({_UNIT})(?![a-z])", found[1], re.IGNORECASE)
        return sum(float(number) * _length(unit.lower()) for number, unit in parts)
    if (moment := _MOMENT.search(message)) is None:
        return None
    zone = (moment[2] or "").upper().replace("UTC", "Z")
    try:
        at = datetime.fromisoformat(f"{moment[1] or moment[3]}{zone}")
    except ValueError:  # the 31st of a month that has none
        return None
    if not zone:
        at = at.replace(tzinfo=_BEIJING if any(sign in message.lower() for sign in _SAID_IN_BEIJING) else UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def _length(unit: str) -> float:
    """Seconds of a unit, however it is written."""
    if unit.startswith("milli"):
        return 0.001
    return _LENGTHS.get(unit[:2]) or _LENGTHS[unit[:1]]


def _in_fields(error: Any) -> float | None:
    """The wait that fields of an error object state, such as Codex's `resets_in_seconds`."""
    if not isinstance(error, dict):
        return None
    for name in ("resets_in_seconds", "retry_after_seconds", "retry_after"):
        value = error.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _FIRST_MOMENT:
            return float(value)
    at = error.get("resets_at")
    return seconds_in(str(at)) if isinstance(at, int | float) and at >= _FIRST_MOMENT else None


def _reset_in(headers: Mapping[str, str], error: Any) -> float | None:
    """OpenRouter's `X-RateLimit-Reset`, in milliseconds since 1970, as a header or within the error's metadata."""
    metadata = error.get("metadata") if isinstance(error, dict) else None
    told = metadata.get("headers") if isinstance(metadata, dict) else None
    moment = headers.get("x-ratelimit-reset") or (told.get("X-RateLimit-Reset") if isinstance(told, dict) else None)
    if not isinstance(moment, str | int) or not str(moment).isdecimal() or not 12 < len(str(moment)) < 15:
        return None
    return max(0.0, int(moment) / 1000.0 - time.time())


@dataclass
class TokenBucket:
    """Tokens a minute; what replies take is known only afterwards, so it may run a debt and waits it out."""

    per_minute: float | None

    def __post_init__(self) -> None:
        self._level = self.per_minute or 0.0
        self._at: float | None = None

    def spend(self, tokens: int, now: float) -> None:
        if self.per_minute is not None:
            self._refill(now)
            self._level -= tokens

    def seconds_to_wait(self, now: float) -> float:
        if self.per_minute is None:
            return 0.0
        self._refill(now)
        return max(0.0, -self._level * 60.0 / self.per_minute)

    def learn(self, seen: SeenLimit, now: float) -> None:
        if seen.limit:
            if self.per_minute is None:
                self._level, self._at = seen.limit, now
            self.per_minute = seen.limit
        if seen.remaining is not None and self.per_minute is not None:
            self._level, self._at = min(self._level, float(seen.remaining)), now

    def _refill(self, now: float) -> None:
        assert self.per_minute is not None
        if self._at is not None:
            self._level = min(self.per_minute, self._level + (now - self._at) * self.per_minute / 60.0)
        self._at = now


class Rounds:
    """Compares rounds of replies, each about twice as many as were in flight.

    Tells whether more requests in flight bring more tokens a second, or only slower replies. Lengths of replies
    scatter widely, so a round is long and the thresholds are wide.
    """

    def __init__(self, now: float, limit: float) -> None:
        self._best: tuple[float, float, float] | None = None
        """Limit, tokens a second and seconds a token of the round that all later ones are held against."""
        self._age = 0
        self._begin(now, limit)

    def _begin(self, now: float, limit: float) -> None:
        self._start, self._limit, self._count, self._tokens, self._seconds = now, limit, 0, 0, 0.0

    def add(self, now: float, seconds: float, tokens: int, limit: float) -> float | None:
        """The limit to go back to, when this reply ends a round that was no better for being larger."""
        self._count += 1
        self._tokens += max(1, tokens)
        self._seconds += seconds
        span = now - self._start
        if self._count < max(40.0, 2 * self._limit) or span < 2.0:
            return None
        rate, slowness = self._tokens / span, self._seconds / self._tokens
        back: float | None = None
        self._age += 1
        if self._best is not None:
            best_limit, best_rate, best_slowness = self._best
            if self._limit > best_limit * 1.3 and rate < best_rate * 1.1 and slowness > best_slowness * 1.25:
                back = best_limit
        if self._best is None or rate > self._best[1] * 1.05 or self._limit < self._best[0] or self._age > 30:
            self._best, self._age = (self._limit, rate, slowness), 0
        self._begin(now, back if back is not None else limit)
        return back


_GAUGE = re.compile(r"^vllm:num_requests_(waiting|running)(?:\{[^}]*\})?\s+([0-9.e+]+)\s*$", re.MULTILINE)


async def watch_queue(read: Callable[[], Awaitable[bytes]], tell: Callable[[int, int], None]) -> None:
    """Poll a vLLM server's metrics and pass on how many requests wait and run: it takes every request without a 429.

    `read` gets the metrics; the polling ends when the server publishes no such gauge.
    """
    while True:
        try:
            text = (await read()).decode("utf-8", "replace")
        except Problem:
            return
        depth = queue_depth(text)
        if depth is None:
            return
        tell(*depth)
        await asyncio.sleep(SECONDS_BETWEEN_QUEUE_READINGS)


def queue_depth(metrics: str) -> tuple[int, int] | None:
    """Requests waiting and running, summed over the engines behind one server; None where there is no such gauge.

    >>> queue_depth('vllm:num_requests_waiting{model_name="m"} 3.0\\nvllm:num_requests_running{model_name="m"} 8.0')
    (3, 8)
    """
    sums = {"waiting": 0.0, "running": 0.0}
    gauges = _GAUGE.findall(metrics)
    for name, value in gauges:
        sums[name] += float(value)
    return (int(sums["waiting"]), int(sums["running"])) if gauges else None
