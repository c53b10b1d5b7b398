"""What all sections of a recipe have in common."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError


class Config(BaseModel):
    """A section of a recipe: its keys are known, and a truth value is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and info.field_name is not None:
            annotation = cls.model_fields[info.field_name].annotation
            kinds = (annotation, *get_args(annotation))
            if bool not in kinds and (int in kinds or float in kinds):
                raise PydanticCustomError("truth_value", "Input should be a number")
        return value


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
