"""Total readers of JSON of any shape: what every wire shares. Nothing here raises, whatever the types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s1kit.records import Usage

MAX_TOKENS = 10**9
"""A count of tokens beyond this is no count."""

SUMMARY = "the thinking is the provider's summary of it"


def hidden_thinking(tokens: int | None, who: str = "the server") -> str:
    """The note of a reply whose thinking was paid for and is nowhere in it."""
    return f"{who} does not show its thinking ({'unknown' if tokens is None else tokens} tokens)"


def notes(*said: str) -> str:
    """What there is to say about a reply, in one note.

    >>> notes("", "a", "b")
    'a; b'
    """
    return "; ".join(filter(None, said))


def is_hidden(note: str) -> bool:
    """Whether a note is that of `hidden_thinking`.

    >>> is_hidden(hidden_thinking(13))
    True
    """
    return "does not show its thinking (" in note


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


def reported_cost(usage: Any) -> float | None:
    """OpenRouter's `usage.cost`; with a key of the user's own at the provider, that is the fee beside the real cost."""
    cost = dollars(usage, "cost")
    if cost is None or dict_of(usage).get("is_byok") is not True:
        return cost
    return cost + (dollars(dict_of(usage).get("cost_details"), "upstream_inference_cost") or 0.0)


def whole_usage(given: int, beside: int, cached: int, output: int, thinking: int, total: int) -> Usage:
    """The tokens of a call by the fields of a server that may leave some of them out of a sum; its total tells.

    `given`: input; `beside`: input that some servers count within it and others beside it. `output` may leave
    `thinking` out: it certainly does where it is the smaller of the two.

    >>> whole_usage(given=100, beside=20, cached=0, output=5, thinking=0, total=125).input_tokens
    120
    """
    if beside and total >= given + beside + output:
        given += beside
    output = max(output, total - given, output + thinking if thinking > output else 0)
    return Usage(input_tokens=given, output_tokens=output, cached_input_tokens=min(cached, given))


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
    limits.append(count(body.get("inferenceConfig"), "maxTokens"))  # Bedrock
    replies = [count(body, name) for name in ("n", "best_of", "num_generations")]
    replies.append(count(config, "candidateCount"))
    return max((n for n in limits if n is not None), default=0) * max((n for n in replies if n), default=1)
