"""The rule by which thinking is left early, and the file in which a calibrated one travels with its model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from s1kit.errors import InputError
from s1kit.records import Record
from s1kit.stage import write_json

FILE = "auto_budget.json"
"""Beside `thinking_format.json` in a checkpoint folder."""

Count = Annotated[int, Field(ge=1)]


class Calibrated(Record):
    """What a calibration promises, and from what."""

    max_loss: float
    """Largest share of questions that full thinking answers right and early exit wrong, 0 to 1."""
    confidence: float
    """Probability, over the draw of the labelled questions, that the promise holds."""
    num_questions: Count
    losses: int
    """Labelled questions that full thinking answers right and this rule wrong."""
    tokens: float
    """Thinking tokens under the rule, on average over the labelled questions."""
    full_tokens: float
    question_ids: tuple[str, ...] = ()
    """The labelled questions: a benchmark that holds one of them says nothing about this rule."""


class ExitRule(Record):
    """Ask for the answer every so many thinking tokens; leave when it has been the same so many times in a row."""

    every: Count
    """Thinking tokens between two probes."""
    stable: int | None
    """Equal answers in a row after which thinking is left; None: never, full thinking."""
    max_tokens: Count
    """Largest budget; thinking that is not left earlier is cut off there."""
    calibrated: Calibrated | None = None

    def points(self, minimum: int = 0) -> list[int]:
        """Thinking tokens at which the answer is asked for, the last being the largest budget.

        >>> ExitRule(every=4, stable=2, max_tokens=10).points()
        [4, 8, 10]
        """
        inner = range(self.every, self.max_tokens, self.every) if self.stable is not None else ()
        return [*(point for point in inner if point >= minimum), self.max_tokens]

    def save(self, path: Path) -> None:
        """Write the rule as JSON."""
        write_json(path, self.model_dump(mode="json"))


def load_rule(path: Path) -> ExitRule:
    """The rule of a file, or of a checkpoint folder. Raises InputError where there is none or it is not one."""
    file = path / FILE if path.is_dir() else path
    try:
        return ExitRule.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        fix = "Make one with: s1kit calibrate MODEL --questions FILE"
        raise InputError("there is no calibrated rule", where=str(file), fix=fix) from error
    except (OSError, ValueError, ValidationError) as error:
        what = f"the rule cannot be read: {str(error).splitlines()[0]}"
        raise InputError(what, where=str(file), fix="Make it again with s1kit calibrate.") from error
