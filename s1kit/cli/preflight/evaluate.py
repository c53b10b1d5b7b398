"""Checks of the stage `evaluate`: models, benchmarks, settings, comparators, exit rules and the grader."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from glob import glob
from pathlib import Path
from typing import Any

from s1kit.cli.preflight.faults import FaultCollector
from s1kit.cli.preflight.room import check_prompts, check_reply, known_context
from s1kit.cli.references import chat_template_of, check_engine, require
from s1kit.engines.references import check_dtype
from s1kit.errors import InputError
from s1kit.executors import executor_of
from s1kit.forcing.formats import find_format
from s1kit.forcing.switches import check_switches
from s1kit.grade.load import find_grader
from s1kit.recipe import Evaluate, Recipe
from s1kit.records import Question
from s1kit.stage import is_finished
from s1kit.train.reference import base_folder


def check_evaluate(recipe: Recipe, found: FaultCollector) -> None:
    from s1kit.analysis.settings import grid
    from s1kit.evaluate.benchmarks import is_on_hub, name_of
    from s1kit.evaluate.comparators import check_models, settings_of
    from s1kit.evaluate.exit_rules import OWN
    from s1kit.evaluate.published_numbers import read_numbers

    config = recipe.evaluate
    found.run(grid, config)
    found.run(executor_of, config)
    _check_models(recipe, found)
    if not config.benchmarks:
        found.add("no benchmark", "evaluate.benchmarks", 'Name one, for example ["tiny"].')
    for name in [name for n, name in enumerate(config.benchmarks) if name in config.benchmarks[:n]]:
        found.add(f"{name} stands twice", "evaluate.benchmarks", "Name it once.")
    if config.auto and (config.model or OWN not in config.auto):  # the model's own rule comes with the checkpoint
        found.run(_check_rules, config, recipe.seed)
    questions = [q for name in config.benchmarks for q in found.run(_check_benchmark, name, recipe) or []]
    found.run(_check_held_out, recipe)
    found.run(settings_of, config.comparators)
    found.run(check_models, config.comparators)
    found.run(read_numbers, config.comparators, [name_of(given) for given in config.benchmarks])
    for comparator in config.comparators:
        if comparator.file:
            found.run(_check_outputs, comparator.file)
    if not found.faults:  # what is no model, or no setting, has no room either
        found.run(_check_room, recipe, [question.text for question in questions], found)
    if config.grader:
        found.run(find_grader, config.grader)
    elif any(map(is_on_hub, config.benchmarks)) or not all(map(_asks_for_a_letter, questions)):
        found.run(require, "math_verify", "grading", "grade")


def _check_models(recipe: Recipe, found: FaultCollector) -> None:
    """Check the model and the baseline; without a model, the settings for the checkpoint that this run trains."""
    config = recipe.evaluate
    if config.model:
        how = {"format": config.format, "template": config.template, "dtype": config.dtype}
        found.model(check_engine, config.model, "evaluate.model", **how)
    else:
        found.run(check_dtype, config.dtype, "evaluate.dtype")
        found.run(find_format, config.format or "s1")
        found.run(_check_template, recipe)
    if config.baseline:
        found.model(check_engine, config.baseline, "evaluate.baseline", format="direct", dtype=config.dtype)
    if not config.model and "train" not in recipe.stages and not is_finished(recipe.folder, "train"):
        found.add("there is no model to evaluate", "evaluate.model", "Name one, or train in the same run.")


def _check_template(recipe: Recipe) -> None:
    """Switches for the checkpoint of this run are those of its base, and the one by which a trained opening is off."""
    switches = recipe.evaluate.template
    source = chat_template_of("hf", base_folder(recipe.train.base)[1]) if switches else None
    if source is not None:
        check_switches(switches, {"base": source, "trained": "{{ enable_thinking }}"}, "evaluate.template")


def _check_room(recipe: Recipe, questions: Sequence[str], found: FaultCollector) -> None:
    """Prompts, budgets and answers fit the models whose files are here. What a setting is said to be, it is."""
    from s1kit.analysis.settings import DIRECT, grid
    from s1kit.evaluate.decode import answer_room, direct_room

    config = recipe.evaluate
    how: dict[str, Any] = {"format": config.format, "template": config.template}
    reference = config.model
    if not reference and is_finished(recipe.folder, "train"):
        reference = f"hf:{recipe.folder / 'train' / 'checkpoint'}"
    elif not reference and not recipe.train.tokenizer:
        # The checkpoint of this run will have its base's tokenizer. What is no base is said where it is trained.
        with suppress(InputError):
            reference = ":".join(base_folder(recipe.train.base))
        # Its switches are judged with its template, which training may add to.
        how |= {"format": config.format or recipe.train.format, "template": {}}
    model = known_context(reference, **how) if reference else None
    if model is not None:
        answer = answer_room(config, model.context_tokens)
        check_reply(model, questions, answer, "evaluate.answer_tokens", others=model.delimiter_tokens + 1)
        settings = [setting for setting, _ in grid(config) if setting.method != DIRECT]
        least = max(setting.min_tokens for setting in settings)
        needed = model.delimiter_tokens + answer
        where = "evaluate.min_tokens" if least else "evaluate.model" if config.model else "train.base"
        found.run(check_prompts, model, questions, where, room=needed + least)
        most = max((setting.max_tokens or 0 for setting in settings), default=0)
        found.run(check_reply, model, questions, most, "evaluate.max_tokens", others=needed)
    if config.baseline and (baseline := known_context(config.baseline, format="direct")) is not None:
        found.run(check_prompts, baseline, questions, "evaluate.baseline")
        if config.direct_tokens is not None:
            room = direct_room(config, baseline.context_tokens)
            found.run(check_reply, baseline, questions, room, "evaluate.direct_tokens")


def _check_outputs(file: str) -> None:
    """The first row of published outputs can be read."""
    from s1kit.evaluate.published_outputs import read_published

    if next(iter(read_published(file, "")), None) is None:
        raise InputError("the file has no rows", where=file, fix="Give outputs on the benchmarks of this run.")


def _check_rules(config: Evaluate, seed: int) -> None:
    """The exit rules are there, and none was calibrated on a question of a benchmark on this machine."""
    from s1kit.evaluate.benchmarks import is_on_hub, load_benchmarks
    from s1kit.evaluate.exit_rules import load_rules, refuse_labels

    here = [name for name in config.benchmarks if not is_on_hub(name)]
    refuse_labels(load_rules(config, config.model), load_benchmarks(here, config.num_questions, seed) if here else [])


def _check_held_out(recipe: Recipe) -> None:
    """A file that is trained on and evaluated on measures memory."""
    if "train" not in recipe.stages:
        return
    trained = {path.resolve() for s in recipe.collect.sources if s.path for path in map(Path, glob(s.path))}
    for name in recipe.evaluate.benchmarks:
        path = Path(name)
        if path.is_file() and path.resolve() in trained and name not in recipe.collect.against:
            raise InputError(
                f"{name} is both a source of the training questions and a benchmark",
                where="evaluate.benchmarks",
                fix="Keep some questions in a file of their own, and name that one here and in collect.against.",
            )


def _check_benchmark(name: str, recipe: Recipe) -> list[Question]:
    """The questions of a benchmark on this machine; of one on the Hub it is known only whether it could be read."""
    from s1kit.evaluate.benchmarks import is_on_hub, load_benchmarks

    if is_on_hub(name):
        require("datasets", f"reading {name} from the Hub", "hub")
        return []
    return load_benchmarks([name], recipe.evaluate.num_questions, recipe.seed)


def _asks_for_a_letter(question: Question) -> bool:
    """Whether the answer is a letter of an option. Any other may be a formula, which math-verify compares."""
    from s1kit.grade import reference
    from s1kit.grade.choice import is_letter, last_letter, options
    from s1kit.grade.several import named_letters

    text, choices = reference(question) or "", options(question.text)
    return is_letter(text, choices) or bool(named_letters(text, last=last_letter(choices)))
