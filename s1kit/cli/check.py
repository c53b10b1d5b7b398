"""`s1kit check`: whether a recipe would run, before anything is spent."""

from __future__ import annotations

import argparse
from contextlib import suppress

from s1kit.cli.preflight import check_reference
from s1kit.errors import InputError
from s1kit.recipe import Recipe


def main(given: argparse.Namespace) -> int:
    recipe, faults = check_reference(given.recipe, given.overrides, contact=not given.offline)
    if not faults:
        print(f"{recipe.name}: nothing to complain about in {', '.join(recipe.stages)}")
        _print_notes(recipe)
        return 0
    print(f"{recipe.name}: {len(faults)} {'things' if len(faults) > 1 else 'thing'} would be refused")
    for number, fault in enumerate(faults, 1):
        print(f"  {number}. {fault}")
    _print_notes(recipe)
    return 2


def _print_notes(recipe: Recipe) -> None:
    """What could not be checked without fetching it."""
    from s1kit.evaluate.benchmarks import is_on_hub
    from s1kit.pool.hub import local_copy
    from s1kit.pool.sources import expand, kind_of, label

    folder = recipe.collect.hub_folder
    hub: list[str] = []
    for source in recipe.collect.sources if "collect" in recipe.stages else ():
        with suppress(InputError):  # said among the faults
            hub += [
                label(each)
                for each in expand(source, folder)
                if kind_of(each) == "hub" and local_copy(each, folder) is None
            ]
    if "evaluate" in recipe.stages:
        hub += [name for name in recipe.evaluate.benchmarks if is_on_hub(name)]
    if hub:
        print(f"  not checked, because it is on the Hub: {', '.join(dict.fromkeys(hub))}")
