"""`s1kit run` and its single stages, and the report of finished runs. `STAGES` lists the stages in their order."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from s1kit.cli.preflight import check_reference, refuse_faults
from s1kit.cli.variants import recipes_of, take_over
from s1kit.errors import InputError, WorkFailed, nearest
from s1kit.progress import say
from s1kit.recipe import Recipe, recipe_of_run
from s1kit.stage import Run, Stage, drops_in, is_finished, open_run, read_part

STAGES = {
    "collect": "s1kit.pool.collect",
    "distill": "s1kit.distill.distill",
    "curate": "s1kit.curate.curate",
    "train": "s1kit.train.train",
    "evaluate": "s1kit.evaluate.evaluate",
    "report": "s1kit.report.report",
}
"""A stage, and the module whose function of the same name does it."""


def main(given: argparse.Namespace) -> int:
    whole = given.command == "run"
    recipe, faults = check_reference(
        given.recipe, given.overrides, None if whole else [given.command], stages_after(given.redo)
    )
    names = recipe.stages if whole else [given.command]
    redone = _redone(given.redo, names)
    refuse_faults(faults)
    if whole and recipe.variants:
        return _run_variants(given, recipe, redone)
    part = read_part(given.part) if getattr(given, "part", None) else None
    if part is not None and redone:
        fix = "Remove the stage with --redo first, without --part, then start the parts."
        raise InputError("a part would delete what other parts make", where="--redo, --part", fix=fix)
    remove_stages(recipe, redone)
    run = replace(open_run(recipe.folder, recipe.recipe, recipe.model_dump(mode="json")), part=part)
    again = shlex.join(["s1kit", given.command, given.recipe, *given.overrides])
    for name in names:
        _do(name, recipe, run, again)
    if part is None and names[-1] in ("evaluate", "report"):
        from s1kit.report.report import summary

        print(summary(run))
    return 0


def stages_after(name: str | None) -> list[str]:
    """The stage that --redo names and those after it; none without one."""
    return list(STAGES)[list(STAGES).index(name) :] if name in STAGES else []


def _redone(name: str | None, stages: Sequence[str]) -> list[str]:
    """`stages_after`. Raises InputError for a stage that is not run."""
    if name and name not in stages:
        raise InputError(f"{name!r} is not run", where="--redo", fix=nearest(name, stages))
    return stages_after(name)


def remove_stages(recipe: Recipe, names: Sequence[str]) -> None:
    """Delete what stages made, so that they are done again. Replies that were paid for stay in the journal."""
    there = [name for name in names if (recipe.folder / name).is_dir()]
    for name in there:
        shutil.rmtree(recipe.folder / name)
    if there:
        say(f"{recipe.name}: {', '.join(there)} will be done again")


def _run_variants(given: argparse.Namespace, recipe: Recipe, redone: Sequence[str]) -> int:
    """Each variant of a recipe as a run of its own, then all on one page."""
    done: list[Recipe] = []
    recipes = recipes_of(given.recipe, given.overrides, recipe)
    for one in recipes:
        remove_stages(one, redone)
    for one, changes in zip(recipes, recipe.variants.values(), strict=True):
        say(f"{one.name}: {', '.join(changes) or 'as it stands'}")
        run = open_run(one.folder, one.recipe, one.model_dump(mode="json"))
        if done and (taken := take_over(done[0], one)):
            say(f"{one.name}: {', '.join(taken)} as in {done[0].name}")
        again = shlex.join(["s1kit", given.command, given.recipe, *given.overrides])
        for name in one.stages:
            _do(name, one, run, again)
        done.append(one)
    out = Path(recipe.out) / recipe.name
    return report_runs([one.folder for one in done], out, recipe.report.title or recipe.name, recipe.description)


def _do(name: str, recipe: Recipe, run: Run, again: str) -> None:
    do: Callable[[Recipe, Run], Stage] = getattr(import_module(STAGES[name]), name)
    started = time.monotonic()
    if not is_finished(run.folder, name):
        say(f"{name}: begins")
    try:
        stage = do(recipe, run)
    except KeyboardInterrupt:
        say(f"{name}: interrupted; to go on: {again}")
        raise
    except WorkFailed as error:
        raise WorkFailed(error.what, where=error.where, fix=f"{error.fix} To go on: {again}".strip()) from error
    except FileNotFoundError as error:
        raise InputError("a file is missing", where=str(error.filename), fix="Check the path in the recipe.") from error
    if run.part is not None:
        say(f"{name}: part {run.part} done in {time.monotonic() - started:.1f} s; without --part the stage is ended")
        return
    counts = ", ".join(f"{count:,} {what}" for what, count in _main_counts(stage).items())
    say(f"{name}: done in {time.monotonic() - started:.1f} s{': ' + counts if counts else ''}")


def _main_counts(stage: Stage) -> dict[str, int]:
    """Rows in and out of a stage; read from its receipt where it was done before."""

    counts: dict[str, int] = json.loads(stage.receipt_path.read_text(encoding="utf-8"))["counts"]
    dropped = sum(drops_in(counts).values())
    main = {what: count for what, count in counts.items() if not what.startswith("dropped:")}
    return main | ({"dropped": dropped} if dropped else {})


def report_runs(folders: list[Path], out: Path | None = None, title: str = "", description: str = "") -> int:
    """The report of one run folder, or several runs in one report, the first being the control."""
    from s1kit.report.compare import compare, describe, load_runs
    from s1kit.report.report import report, summary

    if len(folders) == 1:
        run = Run(folders[0])
        report(recipe_of_run(run.folder), run)
        print(summary(run))
        return 0
    page = compare(folders, out or folders[0].parent / "compare", title, description)
    print("\n".join([*describe(load_runs(folders)), f"report: {page}"]))
    return 0
