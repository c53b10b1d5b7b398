"""What a request may ask of the vLLM plugin in `vllm_xargs`, read strictly. Imports no vLLM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from s1kit.errors import InputError, nearest
from s1kit.forcing import UNLIMITED, ThinkingBudget
from s1kit.request import Request

FIELDS = (
    "max_thinking_tokens",
    "min_thinking_tokens",
    "num_waits",
    "wait",
    "closing_phrase",
    "answer_tokens",
    "loop_guard",
)
"""Ours. Other keys belong to other plugins, unless they nearly are one of these."""

REQUEST_FIELD = "s1kit_request"
"""Set by the engine `vllm:`, which hands its plans over in memory."""

_DEFAULT_ANSWER_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Asked:
    """The budget of one vLLM request."""

    budget: ThinkingBudget
    answer_tokens: int
    wait: str | tuple[str, ...] | None
    closing_phrase: str | None
    loop_guard: bool

    def request(self, temperature: float, seed: int) -> Request:
        """As the rest of the package knows it; the prompt is vLLM's."""
        return Request(
            question="",
            budget=self.budget,
            answer_tokens=self.answer_tokens,
            temperature=temperature,
            seed=seed,
            wait=self.wait,
            closing_phrase=self.closing_phrase,
            loop_guard=self.loop_guard,
        )


def read_fields(arguments: Mapping[str, Any], max_tokens: int | None) -> Asked | None:
    """The budget in a request's extra arguments; None when it asks for none. Raises InputError.

    `max_tokens` is vLLM's bound on the whole output: thinking, delimiters and answer must fit into it.
    """
    ours = {k: v for k, v in arguments.items() if k in FIELDS}
    for key in arguments.keys() - ours.keys():
        if any(word in key for word in ("thinking", "num_wait")) and key != "thinking_token_budget":
            raise InputError(f"unknown field {key!r}", where="vllm_xargs", fix=nearest(key, FIELDS))
    if not ours:
        return None
    most = _whole(ours, "max_thinking_tokens", -1)
    try:
        budget = ThinkingBudget(
            UNLIMITED if most == -1 else most, _whole(ours, "min_thinking_tokens", 0), _whole(ours, "num_waits", 0)
        )
    except ValueError as error:
        raise InputError(str(error), where="vllm_xargs") from error
    answer = _whole(ours, "answer_tokens", _DEFAULT_ANSWER_TOKENS)
    if max_tokens is not None and most != -1 and most + answer > max_tokens:
        raise InputError(
            f"max_thinking_tokens {most} and answer_tokens {answer} do not fit into max_tokens, which is {max_tokens}",
            where="vllm_xargs",
            fix=f"Raise max_tokens to {most + answer + 16} (16 for the delimiters), or lower the others.",
        )
    return Asked(
        budget, answer, _wait(ours.get("wait")), _text(ours, "closing_phrase"), bool(ours.get("loop_guard", True))
    )


def _whole(values: Mapping[str, Any], name: str, default: int) -> int:
    value = values.get(name, default)
    if type(value) is not int:
        raise InputError(f"{name} is {value!r}, not a whole number", where=f"vllm_xargs.{name}", fix="Give an integer.")
    return value


def _text(values: Mapping[str, Any], name: str) -> str | None:
    value = values.get(name)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{name} is {value!r}, not a text", where=f"vllm_xargs.{name}", fix="Give a string.")
    return value


def _wait(value: Any) -> str | tuple[str, ...] | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        return tuple(value)
    raise InputError(f"wait is {value!r}", where="vllm_xargs.wait", fix="Give a string, or a list used in turn.")
