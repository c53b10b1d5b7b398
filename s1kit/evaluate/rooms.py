"""How many tokens an answer may take: what the recipe says, or what fits the model and suffices for real answers."""

from __future__ import annotations

from s1kit.recipe import Evaluate

ANSWER_TOKENS = 1024
"""Answers of instruct models to GSM8K and MATH stay below it, all but about one in a hundred."""
_CONTEXT_SHARE = 4
"""One part in so many of a short context is kept for the answer; thinking gets the rest."""


def answer_room(config: Evaluate, context_tokens: int | None) -> int:
    """Tokens kept for the answer after thinking."""
    if config.answer_tokens is not None:
        return config.answer_tokens
    return ANSWER_TOKENS if context_tokens is None else max(1, min(ANSWER_TOKENS, context_tokens // _CONTEXT_SHARE))


def direct_room(config: Evaluate, context_tokens: int | None) -> int:
    """Tokens that an answer without thinking may take: it reasons inside its answer, so it gets the room of both.

    More than the context holds is lowered to what it holds, request by request.
    """
    if config.direct_tokens is not None:
        return config.direct_tokens
    answer = answer_room(config, context_tokens)
    if config.max_tokens:
        return max(config.max_tokens) + answer
    return answer if context_tokens is None else context_tokens
