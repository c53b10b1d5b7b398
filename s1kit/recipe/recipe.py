"""A whole run: its sections, its name and its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from s1kit.errors import InputError
from s1kit.recipe.collect import Collect
from s1kit.recipe.config import Config
from s1kit.recipe.curate import Curate
from s1kit.recipe.distill import Distill
from s1kit.recipe.evaluate import Evaluate
from s1kit.recipe.train import Train

_LONGEST_NAME = 200
"""Bytes; file systems take 255, and variants append their names."""


class Report(Config):
    """What the report says about the run besides its figures."""

    title: str = ""
    """Heading of the report; empty: the name of the run."""
    caveat: str = ""
    """A sentence printed at the top, e.g. what the run does not prove."""


class Recipe(Config):
    """A whole run: one section a stage."""

    name: str
    """Name of the run and of its folder."""
    recipe: str = ""
    """Name of the recipe: what `name` was in the file before the command line renamed the run."""
    description: str = ""
    """A sentence on the run, shown where its variants are compared."""
    seed: int = 0
    """Seeds every draw of s1kit: questions, samples, the order of training, sampling by engines. What a provider
    draws does not depend on it: `distill.extra` has its seed, where it takes one."""
    out: str = "runs"
    """The folder that holds run folders."""
    collect: Collect = Collect()
    distill: Distill = Distill()
    curate: Curate = Curate()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    report: Report = Report()
    stages: list[Literal["collect", "distill", "curate", "train", "evaluate", "report"]] = Field(
        default=["collect", "distill", "curate", "train", "evaluate", "report"]
    )
    """What `s1kit run` does, in this order; a single stage can always be asked for."""
    variants: dict[str, list[str]] = Field(default_factory=dict)
    """Runs that differ from this recipe by `key=value`, each in a folder `<name>-<variant>`; the first is the control
    that the others are compared with."""
    variables: dict[str, str] = Field(default_factory=dict)
    """Values that the recipe's strings refer to as `{name}`, set as `name=value` on the command line. An empty one may
    be a whole string; as a part of one it is an error."""

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        parts = name.split("/")
        if not name.strip() or any(part in ("", ".", "..") for part in parts):
            raise InputError(
                f"the run's name is {name!r}, which names no folder of its own",
                where="name",
                fix="Give a name such as mine, or group/mine.",
            )
        if long := next((part for part in parts if len(part.encode()) > _LONGEST_NAME), ""):
            raise InputError(
                f"the run's name is {long[:40]}... of {len(long)} characters, too long for a folder",
                where="name",
                fix=f"Give one of at most {_LONGEST_NAME} bytes.",
            )
        return name

    @field_validator("stages")
    @classmethod
    def _each_once(cls, stages: list[str]) -> list[str]:
        if not stages or len(set(stages)) < len(stages):
            said = (
                f"stages names {next(s for s in stages if stages.count(s) > 1)} twice" if stages else "stages is empty"
            )
            raise InputError(
                said, where="stages", fix="Name each stage that is to run once, or leave stages out for all."
            )
        return stages

    @property
    def folder(self) -> Path:
        return Path(self.out) / self.name
