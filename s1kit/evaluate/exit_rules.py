"""Settings under which thinking is left when its answer is settled, by rules of `s1kit calibrate`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from s1kit.adaptive.rule import ExitRule, load_rule, read_rule
from s1kit.analysis.settings import AUTO
from s1kit.errors import InputError
from s1kit.recipe import Evaluate
from s1kit.records import Question, Setting

OWN = "model"
"""Entry of `evaluate.auto` for the rule that lies beside the model's own files."""


def load_rules(config: Evaluate, model: str) -> list[ExitRule]:
    """The rules that `evaluate.auto` names. Raises InputError where one is not there, or not for this engine."""
    rules = [load_rule(_folder(model) if name == OWN else Path(name)) for name in config.auto]
    for rule in rules:
        refuse_unmeasured(rule, model)
    return rules


def auto_settings(config: Evaluate, rules: Iterable[ExitRule]) -> list[tuple[Setting, int]]:
    """A setting for each rule, without waits and with the most of `num_waits`, and its number of repeats."""
    waits = dict.fromkeys([0, max(config.num_waits, default=0)])
    settings = [
        Setting(
            method=AUTO,
            max_tokens=rule.max_tokens,
            num_waits=num,
            wait=config.wait,
            temperature=config.temperature,
            target=rule.said,
        )
        for rule in rules
        for num in waits
    ]
    return list(dict.fromkeys(settings, config.repeats).items())


def rule_of(setting: Setting) -> ExitRule:
    """The rule that `auto_settings` made a setting from, without its promise."""
    assert setting.max_tokens is not None
    return read_rule(setting.target, setting.max_tokens)


def refuse_labels(rules: Sequence[ExitRule], questions: Sequence[Question]) -> None:
    """Raises InputError where a rule was calibrated on questions that are evaluated, whose labels it has used."""
    for rule in rules:
        labels = set(rule.calibrated.question_ids) if rule.calibrated is not None else set()
        if shared := [q for q in questions if q.id in labels]:
            raise InputError(
                f"{len(shared)} of {len(questions)} questions are among the {len(labels)} that the exit rule was "
                f"calibrated on, the first is {shared[0].text[:60]!r}",
                where="evaluate.auto",
                fix="Calibrate on other questions, e.g. of a training set.",
            )


def refuse_unmeasured(rule: ExitRule, model: str) -> None:
    """Raises InputError where a rule looks at probabilities and the reference is of an engine that has none."""
    if rule.sure is not None and model.startswith(("vllm:", "llama.cpp:", "completions:", "scripted:")):
        raise InputError(
            f"a rule leaves thinking by the probability of the answer, which {model.partition(':')[0]}: does not say",
            where="evaluate.auto",
            fix="Use hf:, or a rule made with s1kit calibrate --rule stable or --rule agree.",
        )


def _folder(model: str) -> Path:
    folder = Path(model.partition(",")[0].removeprefix("hf:").removeprefix("vllm:"))
    if not folder.is_dir():
        raise InputError(
            f"{model!r} is no checkpoint folder, so no rule lies in it",
            where="evaluate.auto",
            fix="Name the file that s1kit calibrate wrote.",
        )
    return folder
