"""All settings of a run. A recipe is a TOML file, or the name of a built-in one, with `key=value` overrides on top.

    [train]
    learning_rate = 1e-5        # s1kit run my.toml train.learning_rate=2e-5

A key that does not exist is an error that suggests the nearest: a setting is never ignored.
"""

from __future__ import annotations

from s1kit.recipe.collect import Collect, Semantic, Source
from s1kit.recipe.config import WORKERS, Config, Workers, default_of
from s1kit.recipe.curate import Curate
from s1kit.recipe.distill import Distill, Teaching
from s1kit.recipe.evaluate import Comparator, Evaluate
from s1kit.recipe.load import PartialRecipe, builtin_recipes, load_for_check, load_recipe, recipe_of_run
from s1kit.recipe.recipe import Recipe, Report
from s1kit.recipe.train import Cluster, Layout, Lora, Train

__all__ = [
    "WORKERS",
    "Cluster",
    "Collect",
    "Comparator",
    "Config",
    "Curate",
    "Distill",
    "Evaluate",
    "Layout",
    "Lora",
    "PartialRecipe",
    "Recipe",
    "Report",
    "Semantic",
    "Source",
    "Teaching",
    "Train",
    "Workers",
    "builtin_recipes",
    "default_of",
    "load_for_check",
    "load_recipe",
    "recipe_of_run",
]
