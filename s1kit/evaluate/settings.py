"""The grid of settings that a recipe asks for. It knows numbers; never questions or engines."""

from __future__ import annotations

from collections.abc import Iterable

from s1kit.errors import InputError
from s1kit.forcing import ThinkingBudget
from s1kit.recipe import Evaluate
from s1kit.records import Setting

DIRECT = "direct"
"""The method of a model that answers without thinking, in its own chat format."""

FORCING = "budget_forcing"


def grid(config: Evaluate) -> list[tuple[Setting, int]]:
    """Each setting with its number of repeats, without repetition, in the order of the report.

    Every budget is evaluated without waits and with the most waits, every number of waits under the largest budget.
    The draws of the majority vote are the repeats of one sampled setting without waits.
    """
    _check(config)
    largest = max(config.max_tokens, default=None)
    budgets: list[int | None] = [*sorted(set(config.max_tokens))] or [None]
    waits = sorted(set(config.num_waits)) or [0]
    sequential = [
        Setting(max_tokens=budget, num_waits=num, wait=config.wait)
        for budget in budgets
        for num in dict.fromkeys([0, waits[-1]])
    ]
    sequential += [Setting(max_tokens=largest, num_waits=num, wait=config.wait) for num in waits]
    cells = dict.fromkeys(sequential, config.repeats)
    if config.votes:
        draw = Setting(max_tokens=largest, wait=config.wait, temperature=config.vote_temperature)
        cells[draw] = max(max(config.votes), cells.get(draw, 0))
    if config.baseline:
        cells[Setting(method=DIRECT, max_tokens=0, model=config.baseline)] = 1
    return list(cells.items())


def _check(config: Evaluate) -> None:
    if config.repeats > 1:
        raise InputError(
            f"evaluate.repeats is {config.repeats}, but greedy decoding repeats itself",
            where="recipe",
            fix="Set evaluate.repeats to 1.",
        )
    for name, values in (("max_tokens", config.max_tokens), ("num_waits", config.num_waits), ("votes", config.votes)):
        lowest = 1 if name == "votes" else 0
        for value in values:
            if value < lowest:
                raise InputError(f"evaluate.{name} holds {value}", where="recipe", fix=f"Give {lowest} or more.")
        if len(set(values)) < len(values):
            repeated = sorted(v for v in set(values) if values.count(v) > 1)
            raise InputError(f"evaluate.{name} repeats {repeated[0]}", where="recipe", fix="Name each setting once.")


def budget_of(setting: Setting) -> ThinkingBudget | None:
    """The thinking budget of a setting; None where it has no upper bound of its own."""
    if setting.max_tokens is None:
        if setting.num_waits or setting.min_tokens:
            raise InputError(
                "waits and a minimum need an upper bound",
                where="evaluate.max_tokens",
                fix="Name the largest thinking budget in tokens.",
            )
        return None
    return ThinkingBudget(setting.max_tokens, setting.min_tokens, setting.num_waits)


def families(settings: Iterable[Setting]) -> list[list[Setting]]:
    """Settings that may share one thinking pass: they differ only in budget and number of waits."""
    groups: dict[Setting, list[Setting]] = {}
    for setting in settings:
        key = setting.model_copy(update={"max_tokens": None, "num_waits": 0})
        groups.setdefault(key, []).append(setting)
    return list(groups.values())


def trunk_of(family: Iterable[Setting]) -> Setting:
    """The setting whose thinking holds that of all others of the family: the largest budget and the most waits."""
    settings = list(family)
    unbounded = any(s.max_tokens is None for s in settings)
    largest = None if unbounded else max(s.max_tokens or 0 for s in settings)
    return settings[0].model_copy(update={"max_tokens": largest, "num_waits": max(s.num_waits for s in settings)})
