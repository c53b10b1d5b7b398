"""What all sections of a recipe have in common."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Collection
from types import NoneType
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from s1kit.errors import InputError


class Config(BaseModel):
    """A section of a recipe: its keys are known, and a truth value is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _as_meant(cls, value: Any, info: ValidationInfo) -> Any:
        if info.field_name is None or not isinstance(value, bool | str):
            return value
        annotation = cls.model_fields[info.field_name].annotation
        kinds = (annotation, *get_args(annotation))
        if isinstance(value, bool) and bool not in kinds and (int in kinds or float in kinds):
            raise PydanticCustomError("truth_value", "Input should be a number")
        # TOML has no word for it, and a setting of a recipe may have to be undone on the command line.
        return None if value == "none" and NoneType in kinds and str not in kinds else value

    @property
    def stated(self) -> set[str]:
        """The settings that have another value than their default."""
        fields = type(self).model_fields
        return {name for name in self.model_fields_set if getattr(self, name) != default_of(fields[name])}

    def is_off(self, name: str) -> bool:
        """Whether a setting is given and empty: what depends on it is then left as it is, for the next run."""
        return name in self.model_fields_set and not getattr(self, name)

    def refuse_idle(self, where: str, idle: Collection[str], because: str, fix: str = "") -> None:
        """Raises InputError where a setting is stated that has no effect.

        `where`: the section's name; `because` and `fix`: why it has none, and what else to do than to leave it out.
        """
        if not (names := sorted(self.stated & set(idle))):
            return
        several = len(names) > 1
        defaults = [_on_command_line(f"{where}.{name}", type(self).model_fields[name]) for name in names]
        raise InputError(
            f"{' and '.join(names)} {'have' if several else 'has'} no effect {because}",
            where=", ".join(f"{where}.{name}" for name in names),
            fix=f"Leave {'them' if several else 'it'} out (on the command line: {' '.join(defaults)})"
            + (f", or {fix}" if fix else "")
            + ".",
        )


class Workers(Config):
    """The machine or cluster that does a stage's shards. It decides how fast, never what comes out."""

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


def default_of(field: FieldInfo) -> Any:
    """The default of a setting. Pydantic's own `get_default` does not call factories in its version 2.10.0."""
    factory: Callable[[], Any] | None = field.default_factory  # type: ignore[assignment]
    return field.default if factory is None else factory()


def _on_command_line(key: str, field: Any) -> str:
    """A setting with its default, as it is written on the command line.

    >>> from pydantic.fields import FieldInfo
    >>> _on_command_line("distill.prompt", FieldInfo(default="{a b}")), _on_command_line("a.b", FieldInfo(default=None))
    ("'distill.prompt={a b}'", 'a.b=none')
    """
    value = default_of(field)
    text = value if isinstance(value, str) else "none" if value is None else json.dumps(value)
    return shlex.quote(f"{key}={text}") if text else f"{key}="
