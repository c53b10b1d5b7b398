"""What a request may ask of the vLLM plugin in `vllm_xargs`, read strictly. Imports no vLLM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from s1kit.errors import InputError, nearest
from s1kit.forcing import UNLIMITED, ThinkingBudget
from s1kit.forcing.plan import Plan, make_plan
from s1kit.forcing.request import Request
from s1kit.forcing.token_format import TokenFormat

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

_OTHER_NAMES = (
    "thinking_token_budget",
    "thinking_budget",
    "thinking_budget_tokens",
    "budget",
    "budget_tokens",
    "reasoning_effort",
    "reasoning",
    "thinking",
    "enable_thinking",
)
"""Names for a budget elsewhere; here they would be ignored, so they are refused."""
_PLACES = {
    "budget.max_tokens": "max_thinking_tokens",
    "budget.min_tokens": "min_thinking_tokens",
    "budget.num_waits": "num_waits",
    "request.answer_tokens": "answer_tokens",
    "request.wait": "wait",
    "request.closing_phrase": "closing_phrase",
}


@dataclass(frozen=True, slots=True)
class BudgetFields:
    """The budget of one vLLM request."""

    budget: ThinkingBudget
    answer_tokens: int | None
    """Kept for the answer; None: by the room there is, as `s1kit serve` does."""
    wait: str | tuple[str, ...] | None
    closing_phrase: str | None
    loop_guard: bool

    def plan(
        self,
        tokens: TokenFormat,
        context_tokens: int,
        prompt: Sequence[int],
        max_tokens: int | None,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Plan:
        """The plan for a prompt within vLLM's bounds; thinking is opened first where the prompt leaves it closed.

        `max_tokens` is vLLM's bound on the whole output: what is opened, thinking, delimiters and answer must fit into
        it. Raises InputError, naming the field of `vllm_xargs`.
        """
        opening = list(tokens.open_ids)
        whole = [*prompt] if list(prompt[-len(opening) :]) == opening else [*prompt, *opening]
        room = context_tokens if max_tokens is None else min(context_tokens, len(prompt) + max_tokens)
        request = Request(
            question="",
            budget=self.budget,
            answer_tokens=self.answer_tokens or self._reserve(tokens, room - len(whole)),
            temperature=temperature,
            seed=seed,
            wait=self.wait,
            closing_phrase=self.closing_phrase,
            loop_guard=self.loop_guard,
        )
        try:
            plan = make_plan(request, tokens, room, whole)
            # Where no size of the answer was stated, it may take what thinking leaves.
            return plan if self.answer_tokens else replace(plan, completion_tokens=room - len(whole))
        except InputError as error:
            if error.where == "request.answer_tokens" and self.answer_tokens is None:
                what = f"max_tokens is {max_tokens}, which leaves no room for an answer after the end of thinking"
                raise InputError(what, where="max_tokens", fix="Raise it, or shorten the prompt.") from error
            place = _PLACES.get(error.where)
            if place is None:
                raise
            what = error.what.replace(error.where.rpartition(".")[2], place, 1)
            raise InputError(what, where=f"vllm_xargs.{place}", fix=error.fix) from error

    def _reserve(self, tokens: TokenFormat, room: int) -> int:
        """Tokens kept for an answer of no stated size: what it needs at least, more where thinking is unbounded."""
        closing = tokens.format.closing_phrase if self.closing_phrase is None else self.closing_phrase
        least = len(tokens.phrase_ids(closing, "request.closing_phrase")) + 1
        if self.budget.max_tokens != UNLIMITED:
            return least
        close = len(tokens.lead_ids) + len(tokens.end_ids)
        return max(least, min(room // 4, 1024, room - close - self.budget.min_tokens))


def asks(arguments: Mapping[str, Any] | None) -> bool:
    """Whether a request's extra arguments have any that the plugin reads."""
    return bool(arguments) and any(key in FIELDS or key == REQUEST_FIELD for key in arguments or ())


def read_fields(arguments: Mapping[str, Any]) -> BudgetFields | None:
    """The budget in a request's extra arguments; None when it asks for none. Raises InputError.

    >>> read_fields({"max_thinking_tokens": "many"})
    Traceback (most recent call last):
    ...
    s1kit.errors.InputError: max_thinking_tokens is 'many', not a whole number (vllm_xargs.max_thinking_tokens). \
Give an integer.
    """
    ours = {k: v for k, v in arguments.items() if k in FIELDS}
    for key in arguments.keys() - ours.keys():
        if key in _OTHER_NAMES:
            raise InputError(
                f"{key} is not read here",
                where=f"vllm_xargs.{key}",
                fix="Give max_thinking_tokens, a number of tokens.",
            )
        # Another plugin's own keys are none of our business, unless the request speaks to us.
        if get_close_matches(key, FIELDS, n=1, cutoff=0.75) or (ours and ("thinking" in key or "wait" in key)):
            raise InputError(f"unknown field {key!r}", where=f"vllm_xargs.{key}", fix=nearest(key, FIELDS))
    if not ours:
        return None
    if ours.keys() == {"wait"} or ours.keys() == {"closing_phrase"}:
        (only,) = ours
        raise InputError(
            f"{only} is given without a budget",
            where=f"vllm_xargs.{only}",
            fix="Give max_thinking_tokens or num_waits with it.",
        )
    most = _whole(ours, "max_thinking_tokens", -1)
    if most < -1:
        raise InputError(
            f"max_thinking_tokens is {most}",
            where="vllm_xargs.max_thinking_tokens",
            fix="Give 0 or more, or -1 for no limit.",
        )
    least = _whole(ours, "min_thinking_tokens", 0, at_least=0)
    num_waits = _whole(ours, "num_waits", 0, at_least=0)
    if most != -1 and least > most:
        raise InputError(
            f"min_thinking_tokens is {least}, above max_thinking_tokens, which is {most}",
            where="vllm_xargs.min_thinking_tokens",
            fix="Lower the minimum or raise the maximum.",
        )
    return BudgetFields(
        ThinkingBudget(UNLIMITED if most == -1 else most, least, num_waits),
        _whole(ours, "answer_tokens", 0, at_least=1) if "answer_tokens" in ours else None,
        _wait(ours.get("wait")),
        _text(ours, "closing_phrase"),
        _truth(ours, "loop_guard", default=True),
    )


def refuse_unforced(params: Any) -> None:
    """Raises InputError for parameters of vLLM that act on thinking and answer as if they were one text."""
    for name, value, fix in (
        ("structured_outputs", getattr(params, "structured_outputs", None), "Leave response_format out."),
        ("stop", getattr(params, "stop", None), "They would end thinking, too: cut the answer yourself."),
        ("stop_token_ids", getattr(params, "stop_token_ids", None), "They would end thinking, too."),
        ("min_tokens", getattr(params, "min_tokens", None), "Give vllm_xargs.min_thinking_tokens."),
    ):
        if value:
            raise InputError(
                f"{name} does not go together with a thinking budget in vLLM",
                where=name,
                fix=f"{fix} Or put s1kit serve --upstream in front, where it holds for the answer.",
            )


def _whole(values: Mapping[str, Any], name: str, default: int, at_least: int | None = None) -> int:
    value = values.get(name, default)
    where = f"vllm_xargs.{name}"
    if type(value) is not int:
        raise InputError(f"{name} is {value!r}, not a whole number", where=where, fix="Give an integer.")
    if at_least is not None and value < at_least:
        raise InputError(f"{name} is {value}, below {at_least}", where=where, fix=f"Give {at_least} or more.")
    return value


def _truth(values: Mapping[str, Any], name: str, default: bool) -> bool:
    value = values.get(name, default)
    # Over HTTP a truth value arrives as a number.
    if value not in (0, 1) or isinstance(value, str):
        raise InputError(f"{name} is {value!r}, neither true nor false", where=f"vllm_xargs.{name}", fix="Give 1 or 0.")
    return bool(value)


def _text(values: Mapping[str, Any], name: str) -> str | None:
    value = values.get(name)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{name} is {value!r}, not a text", where=f"vllm_xargs.{name}", fix="Give a string.")
    return value


def _wait(value: Any) -> str | tuple[str, ...] | None:
    if value is None or (isinstance(value, str) and value):
        return value
    if isinstance(value, list) and value and all(isinstance(v, str) and v for v in value):
        return tuple(value)
    raise InputError(
        f"wait is {value!r}", where="vllm_xargs.wait", fix="Give a text such as 'Wait', or a list of them used in turn."
    )
