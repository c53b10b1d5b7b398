"""Settings of the stage `curate`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from s1kit.recipe.config import Workers


class Curate(Workers):
    """samples <- traces that pass quality and difficulty, then a seeded selection."""

    quality: list[str] = Field(default_factory=lambda: ["s1", "complete"])
    """Rules by name, or sets of rules: `s1`, `complete`. A trace without thinking is dropped whatever they say."""
    students: list[str] = Field(default_factory=list)
    """Models that attempt each question; what they answer is dropped as too easy. None: no difficulty filter."""
    num_attempts: int = Field(default=1, ge=1)
    """Attempts of each student at each question."""
    keep_band: tuple[float, float] = (0.0, 0.0)
    """Keep questions whose share of correct attempts lies within, inclusive. s1: (0, 0), every student fails."""
    attempt_tokens: int = Field(default=1024, ge=1)
    """Room of an attempt's answer."""
    attempt_temperature: float | None = Field(default=None, ge=0)
    """None: greedy for one attempt, 0.7 for several."""
    attempt_batch: int = Field(default=256, ge=1)
    """Attempts decoded together."""
    attempt_shard: int | None = Field(default=None, ge=1)
    """Questions that an engine takes at a time, and that are written together: what a killed run may lose, and with
    several engines what one may still be at when the others are done. None: 1,024."""
    domains: Literal["offline", "source"] | str = "source"
    """How questions get a domain: `source` (the source's name), `offline` (keywords), or a model reference."""
    selection: str = "s1"
    """Preset: s1, s1-notebook, random, longest, diverse, full, limo, shortest-correct."""
    judge: str = ""
    """A chat model asked where the grader's rules disagree; empty: the grader abstains there."""
    grader: str = ""
    """A grader of your own as `module:function`, which gets answer, solution, kind and question; empty: s1kit's."""
    also: list[str] = Field(default_factory=list)
    """Further presets drawn from the same candidates, for comparison; each in shards of its name."""
    num: int = Field(default=1000, ge=1)
    """Samples to select; `full` takes every trace."""
