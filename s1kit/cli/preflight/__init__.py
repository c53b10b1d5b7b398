"""Everything in a recipe that can be refused, found before a stage runs: all faults at once, nothing asked or spent.

Each stage's own functions resolve its names and files, so that what is refused here is what the stage would refuse.
Data sets and models on the Hub are not fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from s1kit.cli.preflight.collect import check_collect
from s1kit.cli.preflight.curate import check_curate
from s1kit.cli.preflight.distill import check_distill
from s1kit.cli.preflight.evaluate import check_evaluate
from s1kit.cli.preflight.faults import Fault, FaultCollector
from s1kit.cli.preflight.train import check_train
from s1kit.cli.references import require
from s1kit.cli.variants import overrides_of_variants
from s1kit.errors import InputError
from s1kit.providers.contact import unreachable
from s1kit.recipe import Recipe, load_for_check
from s1kit.stage import Run, is_finished, refuse_other_run

__all__ = ["Fault", "check_recipe", "check_reference", "refuse_faults"]


def check_recipe(
    recipe: Recipe, stages: Sequence[str] | None = None, redone: Sequence[str] = (), *, contact: bool = False
) -> list[Fault]:
    """The faults of the recipe in the given stages, by default its own.

    A finished stage is not checked again unless it is one of `redone`. With `contact` a connection is opened to each
    server that is named. A stage that is about to run does without: its replies may all be in the journal.
    """
    checks: dict[str, Callable[[Recipe, FaultCollector], None]] = {
        "collect": check_collect,
        "distill": check_distill,
        "curate": check_curate,
        "train": check_train,
        "evaluate": check_evaluate,
        "report": _check_report,
    }
    names = list(recipe.stages if stages is None else stages)
    faults: list[Fault] = []
    order = list(checks)
    if names != sorted(names, key=order.index):
        error = InputError(
            f"the stages are in the order {', '.join(names)}",
            where="stages",
            fix=f"Give them in the order {', '.join(n for n in order if n in names)}.",
        )
        faults.append(Fault("recipe", error))
    for name in order:
        if name in names and name not in redone:
            made = FaultCollector(name)
            made.run(_refuse_other_settings, recipe, name)
            faults += made.faults
        if name in names and (name in redone or not is_finished(recipe.folder, name)):
            found = FaultCollector(name)
            checks[name](recipe, found)
            faults += found.faults
            if contact:
                faults += [Fault(name, error) for error in unreachable(found.servers)]
    return faults


def _refuse_other_settings(recipe: Recipe, name: str) -> None:
    """Raises InputError where the stage would refuse what it made earlier, because its settings are others now."""
    if not (recipe.folder / name / "started.json").exists():
        return
    run = Run(recipe.folder)
    match name:
        case "collect":
            from s1kit.pool.collect import identity_of as of_collect
            from s1kit.pool.collect import inputs_of

            inputs = inputs_of(recipe.collect)
            run.refuse_other_settings(name, of_collect(recipe.collect), recipe.seed, inputs=inputs)
        case "distill":
            from s1kit.distill.distill import identity_of as of_distill

            run.refuse_other_settings(name, of_distill(recipe.distill), recipe.seed)
        case "curate":
            from s1kit.curate.curate import UNTIL_DONE
            from s1kit.curate.curate import identity_of as of_curate

            run.refuse_other_settings(name, of_curate(recipe.curate), recipe.seed, UNTIL_DONE)
        case "train":
            from s1kit.train.train import identity_of as of_train

            run.refuse_other_settings(name, of_train(recipe.train), recipe.seed)
        case "evaluate":
            from s1kit.evaluate.evaluate import identity_of as of_evaluate

            run.refuse_other_settings(name, of_evaluate(recipe.evaluate), recipe.seed)


def check_reference(
    reference: str,
    overrides: Sequence[str],
    stages: Sequence[str] | None = None,
    redone: Sequence[str] = (),
    *,
    contact: bool = False,
) -> tuple[Recipe, list[Fault]]:
    """The recipe and all that is wrong with it and its variants, settings of a wrong kind and unknown keys included.

    `stages`, `redone`, `contact`: as in `check_recipe`. Where there are faults, the recipe has defaults in their place.
    """
    whole = load_for_check(reference, overrides)
    recipe = whole.recipe
    parts = {"recipe": whole}
    if recipe.variants and stages is None and not whole.wrong:
        given = overrides_of_variants(overrides, recipe)
        names_of_variants = [f"recipe, variant {name}" for name in recipe.variants]
        parts = {n: load_for_check(reference, changed) for n, changed in zip(names_of_variants, given, strict=True)}
    faults: list[Fault] = []
    for called, part in parts.items():
        faults += [Fault(called, error) for error in part.wrong]
        whole_run = FaultCollector("recipe")
        whole_run.run(refuse_other_run, part.recipe.folder, part.recipe.recipe)
        faults += whole_run.faults
        names = [name for name in (part.stages if stages is None else stages) if name not in part.lost]
        found = check_recipe(part.recipe, names, redone, contact=contact)
        faults += [fault for fault in found if fault.error.where not in part.left_out]
    return recipe, list({str(fault): fault for fault in faults}.values())


def refuse_faults(faults: Sequence[Fault]) -> None:
    """Raises one InputError that lists all faults; none where there is none."""
    if len(faults) == 1:
        raise faults[0].error
    if faults:
        lines = "\n".join(f"  {number}. {fault}" for number, fault in enumerate(faults, 1))
        raise InputError(f"{len(faults)} things in the recipe would be refused; nothing was done yet:\n{lines}")


def _check_report(recipe: Recipe, found: FaultCollector) -> None:
    found.run(require, "matplotlib", "the report", "report")
