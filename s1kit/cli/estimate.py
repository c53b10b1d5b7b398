"""`s1kit estimate`: what each stage of a recipe would take, before anything is spent. Only `--probe` asks a teacher."""

from __future__ import annotations

import argparse
import os
from itertools import islice

from s1kit.cli.variants import recipes_of
from s1kit.distill.drawing import places_a_question
from s1kit.engines.references import read_reference, with_dtype
from s1kit.errors import InputError
from s1kit.recipe import Recipe, Source, load_recipe
from s1kit.records import Question, Setting
from s1kit.stage import Run, is_finished

PROMPT_TOKENS = 150
"""A question with its chat template; s1K's average is near it."""

THINKING_TOKENS = 4700
"""Where a setting has no limit: s1K's average (Table 5 of the paper)."""

DECODING_SHARE = 0.1
"""Rough share of a card's peak that batched decoding reaches: it waits for memory."""


def main(given: argparse.Namespace) -> int:
    from s1kit.distill.estimate import estimate_distill, estimate_traces, is_decoded_here, num_requests
    from s1kit.train.estimate import estimate_train

    recipe = load_recipe(given.recipe, given.overrides)
    recipes = recipes_of(given.recipe, given.overrides, recipe)
    questions = num_questions(recipe)
    distill = estimate_distill(recipe) if given.probe else estimate_traces(recipe, questions)
    distill += [
        f"{each.teacher}: {decoding(each.teacher, num_requests(each, questions) * each.max_output_tokens, recipe)}"
        for each in recipe.distill.each
        if is_decoded_here(each)
    ]
    for name, lines in (
        (
            "collect",
            [f"{questions:,} questions" if questions else "questions unknown until collect has run; no GPU, no cost"],
        ),
        ("distill", distill),
        ("curate", estimate_attempts(recipe, questions)),
    ):
        if name in recipe.stages:
            print("\n  ".join([name, *lines]))
    characters = solution_characters(recipe)
    for one in recipes:
        mark = f" ({one.name})" if len(recipes) > 1 else ""
        if "train" in one.stages:
            print("\n  ".join([f"train{mark}", *estimate_train(one, num_samples(one, questions), characters)]))
        if "evaluate" in one.stages:
            print("\n  ".join([f"evaluate{mark}", *estimate_evaluation(one)]))
    return 0


def num_questions(recipe: Recipe) -> int | None:
    """Questions that reach the teacher: as collected, else as the sources say; None where only reading would tell."""
    if is_finished(recipe.folder, "collect"):
        return sum(1 for _ in Run(recipe.folder).rows("collect", "questions", Question))
    sources = recipe.collect.sources
    if sources and all(source == Source(builtin="s1", optional=source.optional) for source in sources):
        from s1kit.pool.hub_pools import paper_counts

        return sum(paper_counts().values())
    from s1kit.pool.sources import expand

    try:
        rows = [_num_of_source(each) for source in sources for each in expand(source, recipe.collect.hub_folder)]
    except InputError:
        return None
    known = [num for num in rows if num is not None]
    return sum(known) if rows and len(known) == len(rows) else None


def num_samples(recipe: Recipe, questions: int | None) -> int | None:
    """Samples at most: one a question but with `full`, which takes every trace; None where nothing is known."""
    curate, distill = recipe.curate, recipe.distill
    if curate.selection == "full":
        return None if questions is None else questions * places_a_question(distill) * max(1, distill.until_correct)
    return curate.num if questions is None else min(curate.num, questions)


def solution_characters(recipe: Recipe) -> list[int] | None:
    """Characters of each question with its solution, where the solutions of files are the traces; None elsewhere."""
    from s1kit.pool.reading import Pool

    sources = recipe.collect.sources
    if {each.teacher for each in recipe.distill.each} != {"solutions"} or not all(each.path for each in sources):
        return None
    try:
        pool = [question for batch in Pool(recipe.collect, recipe.seed).batches() for question in batch]
    except InputError:
        return None
    return [len(question.text) + len(question.solution) for question in pool if question.solution]


def _num_of_source(source: Source) -> int | None:
    """Rows of a source at most: those of a file are counted, of a data set on the Hub only its `num` is known."""
    from s1kit.pool.sources import NUM_TINY
    from s1kit.questions import find_files, read_rows_of

    if not source.path:
        return source.num or (NUM_TINY if source.builtin == "tiny" else None)
    rows = (row for file in find_files(source.path) for row in read_rows_of(file))
    return sum(1 for _ in islice(rows, source.num))


def estimate_attempts(recipe: Recipe, questions: int | None) -> list[str]:
    """Students' attempts: every student answers every trace's question."""
    config = recipe.curate
    if not config.students:
        return ["no students; seconds"]
    if questions is None:
        return [f"{len(config.students)} students; their attempts depend on the pool: run s1kit collect first"]
    attempts = questions * config.num_attempts
    tokens = attempts * (PROMPT_TOKENS + config.attempt_tokens)
    head = f"at most {attempts:,} attempts a student, {tokens / 1e6:,.1f}M tokens if all take {config.attempt_tokens}"
    return [head, *(f"{student}: {decoding(student, tokens, recipe)}" for student in config.students)]


def estimate_evaluation(recipe: Recipe) -> list[str]:
    """Every question under every setting, repeats included; thinking is taken to use its whole budget.

    Under an exit rule, it is taken never to be left early, so that every probe is paid. Raises InputError for a rule
    that is not there, unless it is to come with the checkpoint of this run.
    """
    from s1kit.adaptive.calibration import largest_price
    from s1kit.adaptive.rule import FILE
    from s1kit.analysis.settings import AUTO, DIRECT, REJECTION, grid
    from s1kit.evaluate.benchmarks import BENCHMARKS, NUM_TINY
    from s1kit.evaluate.decode import answer_room, direct_room
    from s1kit.evaluate.exit_rules import OWN, auto_settings, load_rules, rule_of

    config = recipe.evaluate
    checkpoint = recipe.folder / "train" / "checkpoint"
    model = config.model or (f"hf:{checkpoint}" if (checkpoint / FILE).is_file() else "")
    later = [name for name in config.auto if name == OWN and not model]
    present = config.model_copy(update={"auto": [name for name in config.auto if name not in later]})
    cells = grid(config) + auto_settings(config, load_rules(present, model))
    sizes = {"tiny": NUM_TINY} | {name: benchmark.num for name, benchmark in BENCHMARKS.items()}
    most = config.num_questions or 10**9
    counts = [
        min(most, sizes.get(name) or _num_rows(name) or config.num_questions or 500) for name in config.benchmarks
    ]
    num = sum(counts)
    answer, direct = answer_room(config, None), direct_room(config, None)

    def reply(setting: Setting) -> int:
        if setting.method == DIRECT:
            return direct
        if setting.method == AUTO:
            return answer + largest_price([rule_of(setting)], answer)
        return answer + (THINKING_TOKENS if setting.max_tokens is None else setting.max_tokens)

    tokens = sum(
        (config.rejection_tries if setting.method == REJECTION else repeats) * (PROMPT_TOKENS + reply(setting))
        for setting, repeats in cells
    )
    draws = sum(repeats for _, repeats in cells)
    head = f"{num:,} questions x {draws} draws under {len(cells)} settings, at most {num * tokens / 1e6:,.1f}M tokens"
    asked = [
        f"{c.model}: {num * len(c.effort):,} requests" + (f", at most ${c.max_cost_usd:,.2f}" if c.max_cost_usd else "")
        for c in config.comparators
        if c.model
    ]
    uncounted = ["the exit rule of the checkpoint is not counted: s1kit calibrate makes it"] if later else []
    model = with_dtype(config.model or recipe.train.base, config.dtype)
    return [head, *uncounted, decoding(model, num * tokens, recipe), *asked]


def _num_rows(benchmark: str) -> int | None:
    """The rows of a benchmark that is a file here; None for another."""
    from s1kit.questions import find_files, read_rows_of

    try:
        return sum(1 for file in find_files(benchmark) for _ in read_rows_of(file))
    except InputError:
        return None


def decoding(model: str, tokens: int, recipe: Recipe) -> str:
    """How long a model decodes so many tokens, on the recipe's cards or else on this machine; in words."""
    from s1kit.train.estimate import machine_of, shape_of
    from s1kit.train.flops import PEAK_TFLOPS, cpu_gflops

    if model.startswith("chat:"):
        return f"{tokens / 1e6:,.1f}M tokens at the provider's price"
    stated = read_reference(model)
    known = stated.scheme in ("tiny", "hf", "random")
    reference = f"{stated.scheme if known else 'hf'}:{stated.target}" if stated.target else stated.scheme
    try:
        shape = shape_of(reference)
    except InputError as error:
        is_file = reference.lower().endswith(".gguf")
        return f"its size is not known: {error}" if is_file else "its size is not known until it is downloaded"
    operations = 2.0 * shape.parameters * tokens
    cluster = machine_of(recipe.train)
    if cluster is None:
        cores = os.cpu_count() or 1
        gflops = cpu_gflops(str(stated.options.get("dtype", "")))
        hours = operations / (gflops * 1e9 * cores) / 3600
        return f"{_time(hours)} on this machine's {cores} cores (no GPU), roughly"
    hours = operations / (PEAK_TFLOPS.get(cluster.card, 300.0) * 1e12 * DECODING_SHARE) / 3600
    dollars = hours * recipe.train.layout.dollars_per_gpu_hour
    return f"{hours:,.1f} {cluster.card} hours, ${dollars:,.2f}, roughly"


def _time(hours: float) -> str:
    return f"{hours * 60:,.1f} minutes" if hours < 2 else f"{hours:,.1f} hours"
