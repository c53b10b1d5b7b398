"""`s1kit estimate`: what a recipe would take, before anything is spent."""

from __future__ import annotations

import argparse

from s1kit.recipe import load_recipe


def main(given: argparse.Namespace) -> int:
    from s1kit.distill.estimate import estimate_distill
    from s1kit.train.estimate import estimate_train

    recipe = load_recipe(given.recipe, given.overrides)
    for name, estimate in (("distill", estimate_distill), ("train", estimate_train)):
        print(name)
        for line in estimate(recipe):
            print(f"  {line}")
    return 0
