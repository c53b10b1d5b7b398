"""The grid of settings that a recipe asks for. It knows numbers; never questions or engines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from s1kit.errors import InputError
from s1kit.forcing import UNLIMITED, ThinkingBudget
from s1kit.recipe import Evaluate
from s1kit.records import Setting

FORCING = "budget_forcing"
PROBE = "probe"
"""Budget forcing at regular points, asked only to see when the answer stops changing."""
DIRECT = "direct"
"""A model that answers without thinking, in its own chat format."""
AUTO = "auto"
"""Thinking that is left when its answer is settled."""
REJECTION = "rejection_sampling"
TOKEN_CONTROL, STEP_CONTROL, CLASS_CONTROL = "token_control", "step_control", "class_control"
CHAT = "chat"
"""A remote model, which decides itself how long it thinks."""
FILE = "file"
"""Outputs that somebody published."""

TOKENS_PER_STEP = 100
"""What a step is taken to need, when a number of steps is forced or its control is measured (s1 paper, section 5.2)."""


def grid(config: Evaluate) -> list[tuple[Setting, int]]:
    """Each setting that an engine fills with its number of repeats, without repetition, in the order of the report.

    Every budget is evaluated without waits and with the most waits, every number of waits under the largest budget.
    The draws of the majority vote are the repeats of one sampled setting without waits.
    """
    _check(config)
    _refuse_idle(config)
    cells = dict.fromkeys([*_sequential(config), *_instructed(config)], config.repeats)
    largest = max(config.max_tokens, default=None)
    if config.votes:
        draw = Setting(max_tokens=largest, wait=config.wait, temperature=config.vote_temperature)
        cells[draw] = max(max(config.votes), cells.get(draw, 0))
    for limit in sorted(config.rejection):
        cells[Setting(method=REJECTION, max_tokens=limit, temperature=config.vote_temperature)] = 1
    if config.probe_every and largest:
        for budget in range(config.probe_every, largest + 1, config.probe_every):
            cells[Setting(method=PROBE, max_tokens=budget, wait=config.wait)] = 1
    if config.baseline:
        cells[Setting(method=DIRECT, max_tokens=0, model=config.baseline)] = 1
    for setting in cells:
        budget_of(setting)
    return list(cells.items())


def _sequential(config: Evaluate) -> list[Setting]:
    common = {"wait": config.wait, "temperature": config.temperature}
    largest = max(config.max_tokens, default=None)
    budgets: list[int | None] = [*sorted(set(config.max_tokens))] or [None]
    waits = sorted(set(config.num_waits)) or [0]
    ends = list(dict.fromkeys([0, waits[-1]]))
    out = [Setting(max_tokens=budget, num_waits=num, **common) for budget in budgets for num in ends]
    out += [Setting(max_tokens=largest, num_waits=num, **common) for num in waits]
    return out + [Setting(max_tokens=largest, min_tokens=least, **common) for least in sorted(config.min_tokens)]


def _instructed(config: Evaluate) -> list[Setting]:
    """Settings that ask for a length in the question, each alone and with budget forcing."""
    largest = max(config.max_tokens, default=None)
    wanted: list[tuple[str, str, int | None]] = [
        *((TOKEN_CONTROL, str(n), n) for n in sorted(config.token_control)),
        *((STEP_CONTROL, str(n), n * TOKENS_PER_STEP) for n in sorted(config.step_control)),
        *((CLASS_CONTROL, name, largest) for name in config.class_control),
    ]
    out = []
    for method, target, limit in wanted:
        for forced in dict.fromkeys([None, limit]):
            out.append(Setting(method=method, target=target, max_tokens=forced, temperature=config.temperature))
    return out


def target_range(setting: Setting) -> tuple[float, float]:
    """The range of thinking tokens that a setting requests, both ends inclusive; control is measured against it."""
    high = float("inf") if setting.max_tokens is None else float(setting.max_tokens)
    if setting.method == TOKEN_CONTROL:
        high = float(setting.target)
    elif setting.method == STEP_CONTROL:
        high = float(setting.target) * TOKENS_PER_STEP
    return float(setting.min_tokens), high


def waits_name(num: int) -> str:
    """`no Wait`, `1 Wait`, `2 Waits`."""
    return "no Wait" if num == 0 else f"{num} Wait{'s' if num > 1 else ''}"


def said(setting: Setting, is_stated: bool = True) -> str:
    """The name of a setting in tables and figures; `is_stated` as in `limit_name`.

    >>> said(Setting(max_tokens=256, num_waits=2))
    '256 tokens, 2 Waits'
    >>> said(Setting(method="token_control", target="64", max_tokens=64))
    'asked for 64 tokens, forced'
    """
    method = setting.method
    limit = limit_name(setting, is_stated)
    waits = f", {waits_name(setting.num_waits)}" if setting.num_waits else ""
    if method == FORCING:
        least = f", at least {setting.min_tokens:,}" if setting.min_tokens else ""
        text = f"{limit}{least}{waits}"
    elif method == AUTO:
        text = f"auto within {limit}: {setting.target}{waits}"
    elif method == PROBE:
        text = f"answer probed at {limit}"
    elif method == REJECTION:
        text = f"drawn until within {limit}"
    elif method in CONTROLS:
        text = f"asked for {setting.target} {CONTROLS[method]}{'' if setting.max_tokens is None else ', forced'}"
    elif method == DIRECT:
        text = f"{setting.model}, answering directly"
    else:
        effort = f", effort {setting.target}" if setting.target else ""
        return f"{setting.model.removeprefix('chat:')}{effort}"
    return f"{text}, temperature {setting.temperature:g}" if setting.temperature else text


CONTROLS = {TOKEN_CONTROL: "tokens", STEP_CONTROL: "steps", CLASS_CONTROL: "thinking"}
"""The methods that ask for a length in the question, and what they ask for."""


def limit_name(setting: Setting, is_stated: bool = True) -> str:
    """`1,024 tokens`, `no limit`; where logs do not state their budgets, `budget not stated`."""
    if setting.max_tokens is None:
        return "no limit" if is_stated else "budget not stated"
    return f"{setting.max_tokens:,} tokens"


def _check(config: Evaluate) -> None:
    if config.repeats > 1 and config.temperature == 0:
        raise InputError(
            f"evaluate.repeats is {config.repeats}, but greedy decoding repeats itself",
            where="recipe",
            fix="Set evaluate.repeats to 1, or evaluate.temperature above 0.",
        )
    lists: list[tuple[str, Sequence[int], int]] = [
        ("max_tokens", config.max_tokens, 0),
        ("num_waits", config.num_waits, 0),
        ("min_tokens", config.min_tokens, 1),
        ("votes", config.votes, 1),
        ("token_control", config.token_control, 1),
        ("step_control", config.step_control, 1),
        ("rejection", config.rejection, 1),
    ]
    for name, values, lowest in lists:
        for value in values:
            if value < lowest:
                raise InputError(f"evaluate.{name} holds {value}", where="recipe", fix=f"Give {lowest} or more.")
        if len(set(values)) < len(values):
            repeated = sorted(v for v in set(values) if values.count(v) > 1)
            raise InputError(f"evaluate.{name} repeats {repeated[0]}", where="recipe", fix="Name each setting once.")


def _refuse_idle(config: Evaluate) -> None:
    """Raises InputError for settings that the others leave without effect."""
    has_waits = "num_waits" in config.model_fields_set  # [0] turns them off for this run
    if not has_waits and not config.min_tokens:
        config.refuse_idle("evaluate", {"wait"}, "where no stop is replaced", "set num_waits or min_tokens")
    if not config.baseline and not config.is_off("baseline"):
        config.refuse_idle("evaluate", {"direct_tokens"}, "without a baseline", "name one")
    largest = max(config.max_tokens, default=0)
    if config.probe_every is not None and config.probe_every > largest:
        why = f"beyond the largest budget, {largest}" if largest else "without max_tokens"
        config.refuse_idle("evaluate", {"probe_every"}, why, "raise max_tokens")


def budget_of(setting: Setting) -> ThinkingBudget:
    """The thinking budget of a setting; without an upper bound of its own, as much as there is room for."""
    largest = UNLIMITED if setting.max_tokens is None else setting.max_tokens
    try:
        return ThinkingBudget(largest, setting.min_tokens, setting.num_waits)
    except ValueError as error:
        raise InputError(str(error), where=said(setting), fix="Correct evaluate.min_tokens.") from error


def families(settings: Iterable[Setting]) -> list[list[Setting]]:
    """Settings that may share one thinking pass: they differ only in budget and number of waits."""
    groups: dict[Setting, list[Setting]] = {}
    for setting in settings:
        method = FORCING if setting.method == PROBE else setting.method
        key = setting.model_copy(update={"method": method, "max_tokens": None, "num_waits": 0})
        groups.setdefault(key, []).append(setting)
    return list(groups.values())


def parent_of(family: Iterable[Setting]) -> Setting:
    """The setting whose thinking holds that of all others of the family: the largest budget and the most waits."""
    settings = sorted(family, key=lambda s: s.method == PROBE)
    unbounded = any(s.max_tokens is None for s in settings)
    largest = None if unbounded else max(s.max_tokens or 0 for s in settings)
    return settings[0].model_copy(update={"max_tokens": largest, "num_waits": max(s.num_waits for s in settings)})
