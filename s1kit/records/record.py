"""What all rows have in common: they are frozen, and know their own columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, TypeVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

Origin = Literal["sampled", "forced"]
"""Whether the model chose a token or the machine put it there."""

SegmentKind = Literal["thinking", "wait", "close", "closing_phrase", "answer", "open"]
"""What a segment is for. `close` is the end-of-thinking delimiter; `closing_phrase` follows it after a cutoff; `open`
is the opening delimiter of a model that begins to think again inside its answer."""

Ending = Literal["closed", "cut_off", "loop", "failed"]
"""How thinking ended: the model stopped, the budget was spent, it repeated itself, or the engine failed."""

Terms = Literal["permits", "conditions", "forbids", "unknown"]
"""May the teacher's output train another model? `conditions`: it may, and they bind the trained model."""

Verdict = Literal["correct", "wrong", "abstain"]

R = TypeVar("R", bound="Record")


class Record(BaseModel):
    """A frozen row; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flat: ClassVar[Mapping[str, pa.DataType]] = {}
    """Properties that are written as columns of their own, for readers of the files; they are derived when read."""
