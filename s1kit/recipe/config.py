"""What all sections of a recipe have in common."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Workers(Config):
    """Where a stage's shards are done. It decides how fast, never what comes out."""

    executor: Literal["local", "ray"] = "local"
    """`local`: this machine; `ray`: a Ray cluster, whose actors hold an engine each."""
    address: str = ""
    """Address of the Ray cluster: `host:port` of its head, `ray://host:port`, or `auto` for the one this machine is
    part of; empty: RAY_ADDRESS, and without that a new one on this machine."""
    num_engines: int | None = Field(default=None, ge=1)
    """Engines at work at once, each in a process of its own. None: one here; with Ray as many as there are cards, and
    without cards one a processor."""
    cards_per_engine: float | None = Field(default=None, ge=0)
    """Cards (GPUs) of each engine on Ray: a share such as 0.5 where several fit on one card, or the size of its tensor
    parallelism. None: one where there are cards."""


WORKERS = frozenset(Workers.model_fields)
"""Settings that are no part of a stage's result."""
