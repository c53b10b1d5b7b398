"""Sharing of files between the variants of a recipe: what the same settings would make again is linked.

Variants differ in late stages, most often in their selection: the pool, the traces and the students' attempts are
the same, and a student's attempts are most of the time that curating takes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from s1kit.recipe import Recipe, load_recipe
from s1kit.stage import is_finished

WHOLE = ("collect", "distill")
"""Stages that are taken over as they are."""

SELECTING = frozenset({"selection", "also", "num"})
"""Settings of `curate` that attempts do not depend on."""


def recipes_of(reference: str, overrides: Sequence[str], recipe: Recipe) -> list[Recipe]:
    """The recipe's variants as recipes of their own; the recipe itself where it has none."""
    return [load_recipe(reference, changed) for changed in overrides_of_variants(overrides, recipe)] or [recipe]


def overrides_of_variants(overrides: Sequence[str], recipe: Recipe) -> list[list[str]]:
    """What the command line would say for each of the recipe's variants."""
    return [[*overrides, *changes, f"name={recipe.name}-{variant}"] for variant, changes in recipe.variants.items()]


def take_over(done: Recipe, next_one: Recipe) -> list[str]:
    """Link into the next variant's folder what a finished one has of it; the names of what was taken over."""
    taken: list[str] = []
    for name in WHOLE:
        if done.seed != next_one.seed or getattr(done, name) != getattr(next_one, name):
            return taken
        source, target = done.folder / name, next_one.folder / name
        if not is_finished(done.folder, name) or target.exists():
            return taken
        _link(source.iterdir(), target)
        taken.append(name)
    attempts = sorted((done.folder / "curate").glob("attempts-?????.parquet"))
    target = next_one.folder / "curate"
    is_done = is_finished(done.folder, "curate")
    if attempts and is_done and not target.exists() and _attempting(done) == _attempting(next_one):
        _link(attempts, target)
        taken.append("attempts")
    return taken


def _attempting(recipe: Recipe) -> dict[str, object]:
    return recipe.curate.model_dump(exclude=set(SELECTING))


def _link(files: Iterable[Path], target: Path) -> None:
    """Link all files or none: a killed process leaves no folder that looks finished."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for path in files:
        try:
            os.link(path, part / path.name)
        except OSError:  # another disk, or one without hard links
            shutil.copy2(path, part / path.name)
    part.rename(target)
