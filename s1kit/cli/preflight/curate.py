"""Checks of the stage `curate`: rules, selections, domains, students, and the grader."""

from __future__ import annotations

from s1kit.cli.preflight.collect import first_questions
from s1kit.cli.preflight.faults import FaultCollector
from s1kit.cli.preflight.room import check_prompts, check_reply, known_context
from s1kit.cli.references import check_chat, check_model, require
from s1kit.executors import executor_of
from s1kit.extensions import load_extension
from s1kit.grade.load import find_grader
from s1kit.recipe import Recipe


def check_curate(recipe: Recipe, found: FaultCollector) -> None:
    from s1kit.curate.curate import refuse_idle
    from s1kit.curate.quality import rules_of
    from s1kit.curate.selection import find_selector

    config = recipe.curate
    for rule in config.quality:
        found.run(rules_of, [rule])
    for name in [config.selection, *config.also]:
        found.run(find_selector, name)
    _check_domains(config.domains, found)
    for student in config.students:
        if found.model(check_model, student, "curate.students", format="direct") and not student.startswith("chat:"):
            found.run(_check_room, recipe, student)
    found.run(executor_of, config)
    found.run(refuse_idle, config)
    low, high = config.keep_band
    if not 0 <= low <= high <= 1:
        found.add(f"keep_band is [{low:g}, {high:g}]", "curate.keep_band", "Give two shares from 0 to 1, in order.")
    if config.judge:
        found.model(check_chat, config.judge, "curate.judge")
    if config.grader:
        found.run(find_grader, config.grader)
    elif config.students or "complete" in config.quality:
        found.run(require, "math_verify", "grading", "grade")


def _check_domains(reference: str, found: FaultCollector) -> None:
    from s1kit.curate.curate import check_domains

    if found.run(load_extension, reference, "domains", "curate.domains") is not None:
        return
    if not found.run(check_domains, reference) or reference in ("source", "offline"):
        return
    if found.model(check_model, reference, "curate.domains") and not reference.startswith("chat:"):
        found.run(_check_labeller, reference)


def _check_room(recipe: Recipe, student: str) -> None:
    """The first questions fit a student's context, and so does an attempt as long as the recipe says."""
    config = recipe.curate
    if (model := known_context(student, format="direct")) is None:
        return
    questions = [question.text for question in first_questions(recipe)]
    check_prompts(model, questions, f"curate.students = {student}")
    if "attempt_tokens" in config.stated:
        check_reply(model, questions, config.attempt_tokens, "curate.attempt_tokens")


def _check_labeller(reference: str) -> None:
    """The list of domains fits the context of the model that is to choose from it."""
    from s1kit.curate.labelling import rubric

    if (model := known_context(reference)) is not None:
        check_prompts(model, ["?"], f"curate.domains = {reference}", system=rubric())
