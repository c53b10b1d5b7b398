"""Maps the thinking fields of a request to one budget, or to an error that names the field.

Pure: knows fields and numbers, nothing of engines or sockets.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, get_args

from s1kit.errors import InputError
from s1kit.forcing import ThinkingBudget
from s1kit.serve.fields import Effort, ThinkingFields
from s1kit.serve.refusals import Refusal

EFFORTS: Mapping[str, int] = {
    "none": 0,
    "minimal": 128,
    "low": 1024,
    "medium": 2048,
    "high": 4096,
    "xhigh": 8192,
    "max": -1,
}
"""Thinking tokens by `reasoning_effort`; -1: the room there is. The finite ones are those of LiteLLM 1.109."""


class Fit(NamedTuple):
    """A budget in the room there is."""

    budget: ThinkingBudget
    answer_tokens: int
    """Kept for the answer."""
    completion_tokens: int | None
    """Bounds thinking, delimiters and answer together: the answer gets what thinking leaves. None: it does not."""
    has_answer: bool = True
    """False: the total leaves room for thinking alone."""


@dataclass(frozen=True, slots=True)
class Dial:
    """What one request says about its thinking."""

    max_tokens: int | None
    """None: the room there is."""
    min_tokens: int
    num_waits: int
    wait: str | tuple[str, ...] | None
    closing_phrase: str | None
    answer_tokens: int | None
    """None: decided by the room there is."""
    shows_thinking: bool
    """Whether the reply carries the thinking text."""
    is_stated: bool
    """Whether any field asked for thinking or for none; otherwise the server's default holds."""
    is_auto: bool = False
    """Whether thinking is to be left when its answer is settled."""
    budget_field: str = "thinking_token_budget"
    """The field that set the maximum, for errors found later."""

    def fitted(self, room: int, close_tokens: int, closing_tokens: int, total: int | None) -> Fit:
        """The budget, and what the answer may take, within `room` tokens of context after the prompt.

        `total` bounds thinking, delimiters and answer together. An answer needs the closing phrase and one token.
        Raises Refusal, naming the field and the number to use, when no room for an answer is left.
        """
        if self.answer_tokens is not None and self.answer_tokens <= closing_tokens:
            raise Refusal(
                400,
                f"answer_tokens is {self.answer_tokens}, and the closing phrase alone takes {closing_tokens}. "
                f"Give at least {closing_tokens + 1}.",
                param="answer_tokens",
                code="no_room_for_answer",
            )
        limit = room if total is None else min(room, total)
        least_answer = max(self.answer_tokens or 1, closing_tokens + 1)
        most_thinking = limit - close_tokens - least_answer
        limit_name = "the context" if total is None or room < total else "max_tokens"
        if most_thinking < 0 and total is not None and self.answer_tokens is None and self.min_tokens <= total:
            beyond = room - close_tokens - least_answer
            if beyond >= self.min_tokens:
                # OpenAI's meaning of so small a total: it is spent on thinking, and the reply ends with "length".
                most = min(total, beyond, total if self.max_tokens is None else max(self.max_tokens, self.min_tokens))
                budget = ThinkingBudget(most, self.min_tokens, self.num_waits)
                return Fit(budget, least_answer, None, has_answer=False)
        if most_thinking < 0:
            field = "max_tokens" if limit_name == "max_tokens" else "messages"
            if self.answer_tokens and limit - close_tokens > closing_tokens:
                field = "answer_tokens"
            need = close_tokens + least_answer
            raise Refusal(
                400,
                f"{limit_name} leaves {limit} tokens, and an answer needs {need}: the end of thinking takes "
                f"{close_tokens}, the answer {least_answer}. "
                + (f"Give at least {need}." if limit_name == "max_tokens" else "Shorten the prompt."),
                param=field,
                code="context_length_exceeded" if limit_name == "the context" else "no_room_for_answer",
            )
        if self.max_tokens is not None:
            # A maximum is satisfied by fewer: the room applies, and the reply reports it.
            most = min(self.max_tokens, most_thinking)
        else:
            reserve = max(least_answer, min(limit // 4, 1024) if self.answer_tokens is None else 0)
            most = max(limit - close_tokens - reserve, self.min_tokens if self.min_tokens <= most_thinking else 0)
        if self.min_tokens > most:
            raise Refusal(
                400,
                f"min_thinking_tokens is {self.min_tokens}, and there is room for {most} thinking tokens. "
                f"Give at most {most}, or raise the maximum.",
                param="min_thinking_tokens",
                code="invalid_value",
            )
        budget = ThinkingBudget(most, min_tokens=self.min_tokens, num_waits=self.num_waits)
        if self.answer_tokens is not None:
            return Fit(budget, self.answer_tokens, None)
        return Fit(budget, limit - close_tokens - most, limit)


def read_dial(fields: ThinkingFields, efforts: Mapping[str, int], default: int | None = None) -> Dial:
    """One budget from all the names for it. `default` is the server's maximum where a request states none.

    Raises Refusal when two fields disagree, when a minimum is above the maximum, or when a field could have no effect.
    """
    stated = _stated_budgets(fields, efforts)
    for name, value in stated[1:]:
        if value != stated[0][1]:
            raise Refusal(
                400,
                f"{stated[0][0]} asks for {_spoken(stated[0][1])}, {name} for {_spoken(value)}. Give only one of them.",
                param=name,
                code="fields_disagree",
            )
    maximum = stated[0][1] if stated else (-1 if default is None else default)
    budget_field = stated[0][0] if stated else "thinking_token_budget"
    limit = budget_field if stated else "the server's default budget"
    remedy = "raise the maximum" if stated else f"give a {budget_field} above the default"
    minimum, waits = fields.min_thinking_tokens or 0, fields.num_waits or 0
    if 0 <= maximum < minimum:
        raise Refusal(
            400,
            f"min_thinking_tokens is {minimum}, above {limit}, which is {maximum}. Lower the minimum, or {remedy}.",
            param="min_thinking_tokens",
            code="fields_disagree",
        )
    if fields.wait is not None and not (minimum or waits):
        raise Refusal(
            400,
            "wait would never be used: num_waits and min_thinking_tokens are 0. Give one of them, or leave wait out.",
            param="wait",
            code="no_effect",
        )
    if waits and maximum == 0:
        raise Refusal(
            400,
            f"num_waits is {waits}, but {limit} is 0: no thinking to prolong. Leave num_waits out, or {remedy}.",
            param="num_waits",
            code="fields_disagree",
        )
    return Dial(
        max_tokens=None if maximum < 0 else maximum,
        min_tokens=minimum,
        num_waits=waits,
        wait=tuple(fields.wait) if isinstance(fields.wait, list) else fields.wait,
        closing_phrase=fields.closing_phrase,
        answer_tokens=fields.answer_tokens,
        shows_thinking=_shows_thinking(fields),
        is_stated=bool(stated or minimum or waits or fields.closing_phrase is not None or fields.budget),
        is_auto=fields.budget == "auto",
        budget_field=budget_field,
    )


def _stated_budgets(fields: ThinkingFields, efforts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Every field that states a maximum, with it; -1 is unlimited."""
    thinking, reasoning, switches = fields.thinking, fields.reasoning, fields.chat_template_kwargs
    said: list[tuple[str, bool | int | Effort | None]] = [
        ("thinking_token_budget", fields.thinking_token_budget),
        ("max_thinking_tokens", fields.max_thinking_tokens),
        ("thinking_budget_tokens", fields.thinking_budget_tokens),
        ("thinking_budget", fields.thinking_budget),
        ("enable_thinking", fields.enable_thinking),
    ]
    if thinking is not None:
        said += [
            ("thinking.type", thinking.type != "disabled"),
            ("thinking.budget_tokens", thinking.number),
            ("thinking.effort", thinking.effort),
        ]
    if reasoning is not None:
        said += [
            ("reasoning.enabled", reasoning.enabled),
            ("reasoning.max_tokens", reasoning.max_tokens),
            ("reasoning.effort", reasoning.effort),
        ]
    if switches is not None:
        names = ("enable_thinking", "thinking", "thinking_budget", "reasoning_effort")
        said += [(f"chat_template_kwargs.{name}", getattr(switches, name)) for name in names]
    said.append(("reasoning_effort", fields.reasoning_effort))
    stated = [(name, budget) for name, value in said if (budget := _budget(efforts, value, name)) is not None]
    if not stated and thinking is not None and thinking.type is not None:
        return [("thinking.type", -1)]
    if not stated and reasoning is not None and reasoning.enabled:
        return [("reasoning.enabled", -1)]
    return stated


def _budget(efforts: Mapping[str, int], value: bool | int | Effort | None, field: str) -> int | None:
    """The maximum that a field's value states: a number, an effort, none for thinking that is off."""
    if isinstance(value, bool):
        return None if value else 0
    return _effort(efforts, value, field) if isinstance(value, str) else value


def _effort(efforts: Mapping[str, int], effort: Effort, field: str) -> int:
    if effort not in efforts:
        raise Refusal(
            400,
            f"{field} is {effort!r}, which this server does not map to a budget. Known: {', '.join(efforts)}.",
            param=field,
            code="invalid_value",
        )
    return efforts[effort]


def _shows_thinking(fields: ThinkingFields) -> bool:
    stated = [("include_reasoning", fields.include_reasoning)]
    if fields.reasoning_format is not None:
        stated.append(("reasoning_format", False))
    if fields.reasoning is not None and fields.reasoning.exclude is not None:
        stated.append(("reasoning.exclude", not fields.reasoning.exclude))
    if fields.thinking is not None and fields.thinking.display is not None:
        stated.append(("thinking.display", fields.thinking.display != "omitted"))
    said = [(name, value) for name, value in stated if value is not None]
    if len({value for _, value in said}) > 1:
        raise Refusal(
            400,
            f"{said[0][0]} and {said[-1][0]} disagree. Give only one of them.",
            param=said[-1][0],
            code="fields_disagree",
        )
    return said[0][1] if said else True


def _spoken(budget: int) -> str:
    return "unlimited thinking" if budget < 0 else f"{budget} thinking tokens"


def read_efforts(path: Path | None = None, entries: tuple[str, ...] = ()) -> dict[str, int]:
    """The effort map: the built-in one, then a TOML or JSON file of `name = tokens`, then `name=tokens` entries.

    A file replaces the whole map; entries change single names. Raises InputError on an unknown name or a bad number.

    >>> read_efforts(entries=("low=512",))["low"]
    512
    """
    efforts = dict(EFFORTS)
    if path is not None:
        efforts = _checked(_load(path), where=str(path))
    for entry in entries:
        name, _, value = entry.partition("=")
        number = int(value) if value.lstrip("-").isdigit() else value
        efforts |= _checked({name: number}, where=f"--effort {entry}")
    return efforts


def _load(path: Path) -> object:
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise InputError(
            f"the effort map cannot be read: {error}", where=str(path), fix="Give lines such as: low = 1024"
        ) from error


def _checked(found: object, where: str) -> dict[str, int]:
    names = get_args(Effort)
    if not isinstance(found, dict):
        raise InputError("the effort map is not a table of names and numbers", where=where, fix="Give: low = 1024")
    for name, value in found.items():
        if name not in names:
            raise InputError(f"{name!r} is not an effort", where=where, fix=f"Known: {', '.join(names)}.")
        if type(value) is not int or value < -1:
            raise InputError(
                f"the budget of {name} is {value!r}", where=where, fix="Give a number of tokens, or -1 for no limit."
            )
    return dict(found)
