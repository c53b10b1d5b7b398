"""Checks of the stage `collect`: sources, executor, evaluation sets and what the tier of decontamination needs."""

from __future__ import annotations

import re
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from s1kit.cli.preflight.faults import FaultCollector
from s1kit.cli.references import check_chat, require
from s1kit.errors import InputError
from s1kit.executors import load_executor
from s1kit.recipe import Collect, Recipe
from s1kit.records import Question

PEEK = 20
"""Rows of each file of questions that are read; the stage itself reads all."""


def check_collect(recipe: Recipe, found: FaultCollector) -> None:
    from s1kit.pool.collect import refuse_idle
    from s1kit.pool.sources import expand

    config = recipe.collect
    found.run(refuse_idle, config)
    if config.hub_folder and not Path(config.hub_folder).is_dir():
        fix = "Give the folder that holds <owner>/<name>/ of each data set, or leave it empty to ask the Hub."
        found.add(f"there is no folder {config.hub_folder!r}", "collect.hub_folder", fix)
    if not config.sources:
        found.add("the recipe names no source", "collect.sources", 'Add one, e.g. sources = [{ path = "mine.csv" }].')
    for source in config.sources:
        for each in found.run(expand, source, config.hub_folder) or []:
            found.run(_peek, each, recipe)
    if config.duplicates == "near":
        found.run(require, "datasketch", "collect.duplicates = near", "curate")
    if config.executor == "ray":
        num = config.processes if config.processes > 1 else None
        found.run(load_executor, "ray", num, address=config.address, cards_per_engine=0.0)
    if Path(recipe.out).is_file():
        found.add(f"{recipe.out!r} is a file", "out", "Name a folder that the run's folder is made in.")
    if config.decontaminate != "none":
        _check_decontamination(config, found)


def _check_decontamination(config: Collect, found: FaultCollector) -> None:
    """The evaluation sets can be read, and are no sources; the sentence model and the judge are there."""
    from s1kit.pool.evaluation_sets import ON_THE_HUB, shipped_sets
    from s1kit.pool.sentences import model_files

    for name in {source.path for source in config.sources} & set(config.against) - {""}:
        fix = "Keep the questions to be evaluated on in a file of their own."
        found.add(f"{name} is a source, too: each of its questions would be dropped", "collect.against", fix)
    # What ships as n-grams need not be read, but has no texts to compare by their sense.
    known = {"tiny", *ON_THE_HUB, *(() if config.decontaminate == "semantic" else shipped_sets())}
    for name in config.against:
        if name not in known:
            found.run(_peek_set, name, config.decontaminate)
    if config.decontaminate != "semantic":
        return
    if config.semantic is None:
        found.add(
            "decontaminate = 'semantic' has no sentence model",
            "collect.semantic.model",
            "Give its folder, e.g. collect.semantic.model=models/all-MiniLM-L6-v2.",
        )
        return
    found.run(require, "torch", "collect.decontaminate = semantic", "semantic")
    found.run(lambda model: list(model_files(model)), config.semantic.model)
    if config.semantic.judge:
        found.model(check_chat, config.semantic.judge, "collect.semantic.judge")


def _peek(source: Any, recipe: Recipe) -> None:
    """The first questions of a file; of the Hub, whether it could be read at all."""
    from s1kit.pool.hub import local_copy
    from s1kit.pool.sources import kind_of, read_source

    kind = kind_of(source)
    if kind == "hub":
        _check_hub_id(source.hub)
    if kind == "hub" and local_copy(source, recipe.collect.hub_folder) is None:
        if not source.optional and not source.files:
            require("datasets", f"reading {source.hub} from the Hub", "hub")
        return
    try:
        rejects: list[Any] | None = [] if recipe.collect.allow_rejects else None
        rows = read_source(source, recipe.seed, rejects, hub_folder=recipe.collect.hub_folder)
        num = sum(1 for _ in islice(rows, PEEK))
    except InputError:
        if source.optional:
            return
        raise
    if not num and not source.optional:
        where = source.path or source.builtin
        if source.keep:
            said = ", ".join(f"{column} = {value!r}" for column, value in source.keep.items())
            raise InputError(f"no row passes keep ({said})", where=where, fix="Give values that rows have.")
        if rejects:
            said = (
                f"none of its rows is a question ({len(rejects):,} were looked at); the first: {rejects[0].complaint}"
            )
            raise InputError(said, where=rejects[0].where, fix="Correct the rows, or leave this source out.")
        raise InputError("no question is read from it", where=where, fix="Give a file that has rows.")


def _check_hub_id(name: str) -> None:
    if not re.fullmatch(r"[\w.-]{1,96}(/[\w.-]{1,96})?", name, re.ASCII):
        page = re.search(r"datasets/([\w.-]+/[\w.-]+)", name, re.ASCII)
        fix = f'Write hub = "{page[1]}".' if page else "Give the data set's name as the Hub shows it: owner/name."
        raise InputError(f"{name!r} is no name of a data set", where="collect.sources.hub", fix=fix)


def _peek_set(name: str, tier: str) -> None:
    from s1kit.pool.evaluation_sets import load_set, read_set

    if tier == "semantic":
        read_set(name)
    else:
        load_set(name, "s1" if tier == "s1" else "strict")
    if tier == "template":
        load_set(name, "template")


def first_questions(recipe: Recipe) -> list[Question]:
    """The first questions of each source that can be read here."""
    from s1kit.pool.hub import local_copy
    from s1kit.pool.sources import expand, kind_of, read_source

    config = recipe.collect
    questions: list[Question] = []
    with suppress(InputError):  # said where the source is checked
        for source in [each for given in config.sources for each in expand(given, config.hub_folder)]:
            if kind_of(source) != "hub" or local_copy(source, config.hub_folder) is not None:
                with suppress(InputError):
                    questions += islice(read_source(source, recipe.seed, [], hub_folder=config.hub_folder), PEEK)
    return questions
