"""Answers held to a grammar, by llguidance: a mask of the ids that may come next, for the answer only.

A grammar is text in llguidance's dialect of Lark, or what its `grammar_from_json_schema` makes of a JSON schema.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from s1kit.errors import InputError, MissingExtra
from s1kit.forcing.token_format import TokenFormat

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def check_grammar(grammar: str) -> None:
    """Raises InputError where llguidance cannot use the grammar, MissingExtra where it is not installed."""
    complaint = _library().LLMatcher.validate_grammar(grammar, None)
    if complaint:
        raise InputError(
            f"the grammar cannot be used: {str(complaint).splitlines()[0]}",
            where="request.answer_grammar",
            fix="Correct it, or leave it out.",
        )


class Grammars:
    """Makes the matchers of one model's requests; the vocabulary is read once."""

    def __init__(self, tokens: TokenFormat, vocabulary_size: int) -> None:
        """`tokens` need a fast tokenizer of transformers; `vocabulary_size` is the number of ids that are sampled."""
        self._matcher = _library().LLMatcher
        from llguidance.hf import from_tokenizer

        stops = sorted(tokens.answer_stop_ids)
        self._tokenizer = from_tokenizer(tokens.tokenizer, n_vocab=vocabulary_size, eos_token=stops)
        self._size = vocabulary_size

    def matcher(self, grammar: str) -> AnswerMatcher:
        """A matcher at the beginning of one answer."""
        return AnswerMatcher(self._matcher(self._tokenizer, grammar), self._size)


class AnswerMatcher:
    """Follows one answer through its grammar."""

    def __init__(self, matcher: Any, vocabulary_size: int) -> None:
        self._matcher, self._size = matcher, vocabulary_size

    def allowed(self) -> NDArray[np.bool_]:
        """Which ids may come next, `[vocabulary]`; the stops only where the answer is complete."""
        import numpy as np

        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        return np.unpackbits(bits, bitorder="little")[: self._size].astype(bool)

    def accept(self, token: int) -> None:
        """Advance the grammar by one sampled id."""
        self._matcher.consume_token(token)


def _library() -> Any:
    try:
        import llguidance
    except ModuleNotFoundError as error:
        raise MissingExtra("structured output", "llguidance", extra="grammar") from error
    return llguidance
