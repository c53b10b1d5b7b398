"""What every engine with a tokenizer of its own has in common: it checks a request before it decodes anything."""

from __future__ import annotations

from typing import Any

from s1kit.formats import ThinkingFormat
from s1kit.plan import Plan, make_plan
from s1kit.request import Request
from s1kit.tokens import TokenFormat


class Planned:
    """The base of engines that hold `tokens` and `context_tokens`. Knows nothing about decoding."""

    tokens: TokenFormat
    context_tokens: int

    @property
    def tokenizer(self) -> Any:
        return self.tokens.tokenizer

    @property
    def format(self) -> ThinkingFormat:
        return self.tokens.format

    def plan(self, request: Request) -> Plan:
        """The request, resolved; InputError when it cannot be honoured."""
        return make_plan(request, self.tokens, self.context_tokens)
