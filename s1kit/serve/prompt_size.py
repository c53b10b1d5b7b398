"""Refuses prompts that cannot fit by their number of characters, before they are tokenised."""

from __future__ import annotations

from functools import lru_cache

from s1kit.forcing.formats import Tokenizer
from s1kit.serve.decoding import Backend
from s1kit.serve.refusals import Refusal

_SURELY_TOKENISED = 1 << 16
"""Characters below which it costs less to count the tokens."""


@lru_cache(maxsize=8)
def longest_token(tokenizer: Tokenizer) -> int:
    """An upper bound of the characters of one token: byte-level vocabularies write each byte as a character."""
    return max(map(len, tokenizer.get_vocab()), default=1)


def check_length(backend: Backend, text: str, param: str) -> None:
    """Raises Refusal (400) where a text of this length has more tokens than the context, whatever its characters."""
    if len(text) <= _SURELY_TOKENISED:
        return
    # Tokenizers are hashed by identity, which the protocol does not say.
    least = len(text) // longest_token(backend.tokens.tokenizer)  # type: ignore[arg-type]
    if least > backend.context_tokens:
        raise Refusal(
            400,
            f"{param}: the prompt is {len(text)} characters long, which are at least {least} tokens, and the context "
            f"of {backend.model} has {backend.context_tokens}. Send less.",
            param=param,
            code="context_length_exceeded",
        )
