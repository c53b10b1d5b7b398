"""Answers held to a grammar, by llguidance: a mask of the ids that may come next, for the answer only.

A grammar is text in llguidance's dialect of Lark, or what its `grammar_from_json_schema` makes of a JSON schema.
A grammar does not keep a model from repeating itself inside a string, a list or a sequence of calls for ever; an answer
that does is closed: strings, lists and objects end as soon as the grammar lets them.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

from s1kit.errors import InputError, MissingExtra
from s1kit.forcing.repetition import CHECK_EVERY, is_looping
from s1kit.forcing.token_format import TokenFormat

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ENDS = ["".join(marks) for size in (1, 2, 3) for marks in product('"]}', repeat=size)]
_TIERS = (
    [text for text in _ENDS if text.startswith('"')],
    [text for text in _ENDS if not text.startswith('"')],
    [",", ",\n", ', "', ',"'],
)
"""What brings JSON to its end, best first: a quote ends a string, in which brackets are text; a comma ends a number."""


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
        self._preferred = (stops, *(self._single(texts) for texts in _TIERS))
        self._size, self._kinds = vocabulary_size, tokens.id_kinds

    def matcher(self, grammar: str) -> AnswerMatcher:
        """A matcher at the beginning of one answer."""
        return AnswerMatcher(self._matcher(self._tokenizer, grammar), self._size, self._preferred, self._kinds)

    def _single(self, texts: list[str]) -> list[int]:
        """The ids of the texts that are one token."""
        found = [self._tokenizer.tokenize_str(text) for text in texts]
        return [ids[0] for ids in found if len(ids) == 1]


class AnswerMatcher:
    """Follows one answer through its grammar."""

    def __init__(
        self, matcher: Any, vocabulary_size: int, preferred: tuple[list[int], ...], kinds: Mapping[int, str]
    ) -> None:
        """`preferred`: ids that bring an answer to its end, the best first; `kinds`: as `is_looping` has them."""
        self._matcher, self._size, self._preferred, self._kinds = matcher, vocabulary_size, preferred, kinds
        self._ids: list[int] = []
        self.is_closing = False
        """Whether the answer went in circles and is being closed."""

    def allowed(self) -> NDArray[np.bool_]:
        """Which ids may come next, `[vocabulary]`; the stops only where the answer is complete."""
        import numpy as np

        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        found = np.unpackbits(bits, bitorder="little")[: self._size].astype(bool)
        if self.is_closing:
            for ids in self._preferred:
                if found[ids].any():
                    closing = np.zeros_like(found)
                    closing[ids] = found[ids]
                    return closing
        return found

    def accept(self, token: int) -> None:
        """Advance the grammar by one sampled id."""
        self._matcher.consume_token(token)
        self._ids.append(token)
        if not self.is_closing and len(self._ids) % CHECK_EVERY == 0:
            self.is_closing = is_looping(self._ids, self._kinds)


def _library() -> Any:
    try:
        import llguidance
    except ModuleNotFoundError as error:
        raise MissingExtra("structured output", "llguidance", extra="grammar") from error
    return llguidance
