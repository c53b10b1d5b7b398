"""Checks of the stage `evaluate`: models, benchmarks, settings, comparators, exit rules and the grader."""

from __future__ import annotations

import json
from glob import glob
from pathlib import Path

from s1kit.cli.preflight.faults import FaultCollector
from s1kit.cli.references import chat_template_of, check_engine, require
from s1kit.engines.options import check_dtype, read_reference
from s1kit.errors import InputError
from s1kit.executors import executor_of
from s1kit.forcing.formats import find_format
from s1kit.forcing.switches import check_switches
from s1kit.grade.load import find_grader
from s1kit.recipe import Evaluate, Recipe
from s1kit.stage import RECEIPT
from s1kit.train.reference import base_folder


def check_evaluate(recipe: Recipe, found: FaultCollector) -> None:
    from s1kit.analysis.settings import grid
    from s1kit.evaluate.auto import OWN
    from s1kit.evaluate.benchmarks import name_of
    from s1kit.evaluate.comparators import check_models, settings_of
    from s1kit.evaluate.published_numbers import read_numbers

    config = recipe.evaluate
    found.run(grid, config)
    found.run(executor_of, config)
    if config.model:
        how = {"format": config.format, "template": config.template, "dtype": config.dtype}
        found.model(check_engine, config.model, "evaluate.model", **how)
    else:
        found.run(check_dtype, config.dtype, "evaluate.dtype")
        found.run(find_format, config.format or "s1")
        found.run(_check_template, recipe)
    found.run(_check_answer_room, recipe)
    if config.baseline:
        found.model(check_engine, config.baseline, "evaluate.baseline", format="direct", dtype=config.dtype)
    if not config.model and "train" not in recipe.stages and not (recipe.folder / "train" / RECEIPT).exists():
        found.add("there is no model to evaluate", "evaluate.model", "Name one, or train in the same run.")
    if not config.benchmarks:
        found.add("no benchmark", "evaluate.benchmarks", 'Name one, for example ["tiny"].')
    for name in [name for n, name in enumerate(config.benchmarks) if name in config.benchmarks[:n]]:
        found.add(f"{name} stands twice", "evaluate.benchmarks", "Name it once.")
    if config.auto and (config.model or OWN not in config.auto):  # the model's own rule comes with the checkpoint
        found.run(_check_rules, config, recipe.seed)
    needs_formulas = [found.run(_check_benchmark, name, recipe) for name in config.benchmarks]
    found.run(_check_held_out, recipe)
    found.run(settings_of, config.comparators)
    found.run(check_models, config.comparators)
    found.run(read_numbers, config.comparators, [name_of(given) for given in config.benchmarks])
    for comparator in config.comparators:
        if comparator.file:
            found.run(_check_outputs, comparator.file)
    if config.grader:
        found.run(find_grader, config.grader)
    elif any(needs_formulas):
        found.run(require, "math_verify", "grading", "grade")


def _check_template(recipe: Recipe) -> None:
    """Switches for the checkpoint of this run are those of its base, and the one by which a trained opening is off."""
    switches = recipe.evaluate.template
    source = chat_template_of("hf", base_folder(recipe.train.base)[1]) if switches else None
    if source is not None:
        check_switches(switches, {"base": source, "trained": "{{ enable_thinking }}"}, "evaluate.template")


def _check_answer_room(recipe: Recipe) -> None:
    """The room of an answer is less than the context of a model whose files are here."""
    room = recipe.evaluate.answer_tokens
    read = read_reference(recipe.evaluate.model or recipe.train.base)
    if room is None or read.scheme not in ("hf", "tiny", "tiny-base"):
        return
    context = read.options.get("context_tokens")
    if context is None:
        # The packaged models are of one shape.
        path = Path(read.target or base_folder(read.scheme)[1]).expanduser() / "config.json"
        context = (
            json.loads(path.read_text(encoding="utf-8")).get("max_position_embeddings") if path.is_file() else None
        )
    if context is not None and room >= context:
        raise InputError(
            f"answer_tokens is {room:,}, and the model's context has {context:,} tokens",
            where="evaluate.answer_tokens",
            fix=f"Give fewer than {context:,}, so that a question and its thinking have room, too.",
        )


def _check_outputs(file: str) -> None:
    """The first row of published outputs can be read."""
    from s1kit.evaluate.published import read_published

    if next(iter(read_published(file, "")), None) is None:
        raise InputError("the file has no rows", where=file, fix="Give outputs on the benchmarks of this run.")


def _check_rules(config: Evaluate, seed: int) -> None:
    """The exit rules are there, and none was calibrated on a question of a benchmark on this machine."""
    from s1kit.evaluate.auto import load_rules, refuse_labels
    from s1kit.evaluate.benchmarks import is_on_hub, load_benchmarks

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


def _check_benchmark(name: str, recipe: Recipe) -> bool:
    """A benchmark on this machine is read whole; of one on the Hub it is known only whether it could be.

    True where its answers may be formulas, which are compared by math-verify: any but letters of options.
    """
    from s1kit.evaluate.benchmarks import is_on_hub, load_benchmarks
    from s1kit.grade import reference
    from s1kit.grade.choice import is_letter
    from s1kit.grade.several import named_letters

    if is_on_hub(name):
        require("datasets", f"reading {name} from the Hub", "hub")
        return True
    questions = load_benchmarks([name], recipe.evaluate.num_questions, recipe.seed)
    references = [reference(question) or "" for question in questions]
    return not all(is_letter(text) or named_letters(text) for text in references)
