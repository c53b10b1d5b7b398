"""Limits as providers' headers tell them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime


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


def seconds_in(text: str) -> float | None:
    """A duration such as `6m0s`, `250ms` or `1.5`, or the time until an RFC 3339 moment.

    >>> seconds_in("6m0s"), seconds_in("250ms"), seconds_in("1.5"), seconds_in("soon")
    (360.0, 0.25, 1.5, None)
    """
    text = text.strip()
    if (plain := _float(text)) is not None:
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
