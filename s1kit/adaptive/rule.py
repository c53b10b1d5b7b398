"""The rule by which thinking is left early, and the file in which a calibrated one travels with its model."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from s1kit.errors import InputError, first_line
from s1kit.files import write_json
from s1kit.records import Record

FILE = "auto_budget.json"
"""Beside `thinking_format.json` in a checkpoint folder."""

Count = Annotated[int, Field(ge=1)]

Kind = Literal["stable", "sure", "agree"]
"""What a rule looks at: equal answers in a row, the probability of the answer, or answers sampled beside it."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known at a probe."""

    run: int
    """How many of the last probes gave this answer; 0: it gave none."""
    probability: float | None = None
    """Geometric mean over the answer's tokens; None: not known."""
    agreeing: int = 0
    """How many answers, sampled at the same place, equal the probe's before the first that does not."""


class Calibrated(Record):
    """What a calibration promises, and from what."""

    max_loss: float | None = None
    """Largest share of questions that full thinking answers right and early exit wrong, 0 to 1; None: not promised."""
    most_tokens: float | None = None
    """Most tokens on average, thinking, probes and samples together; None: not promised."""
    confidence: float
    """Probability, over the draw of the labelled questions, that the promise holds."""
    num_questions: Count
    losses: int
    """Labelled questions that full thinking answers right and this rule wrong."""
    tokens: float
    """Thinking tokens under the rule, on average over the labelled questions."""
    probe_tokens: float = 0.0
    """Answer tokens of its earlier probes and of its samples, on average."""
    full_tokens: float
    question_ids: tuple[str, ...] = ()
    """The labelled questions: a benchmark that holds one of them says nothing about this rule."""


class ExitRule(Record):
    """Ask for the answer every so many thinking tokens, and leave when it is settled in one of three ways."""

    every: Count
    """Thinking tokens between two probes."""
    stable: Count | None = None
    """Leave when so many probes in a row gave the same answer."""
    sure: Annotated[float, Field(gt=0, le=1)] | None = None
    """Leave when the answer's tokens have this probability or more (their geometric mean)."""
    agree: Count | None = None
    """Leave when so many answers, sampled at temperature 1 after the same thinking, equal the probe's."""
    max_tokens: Count
    """Largest budget; thinking that is not left earlier is cut off there."""
    calibrated: Calibrated | None = None

    @model_validator(mode="after")
    def _has_one_criterion(self) -> Self:
        if sum(value is not None for value in (self.stable, self.sure, self.agree)) > 1:
            raise ValueError("stable, sure and agree exclude each other; none of them: thinking is never left early")
        return self

    @property
    def leaves_early(self) -> bool:
        """Whether the rule has a criterion; without one thinking goes on to its end."""
        return (self.stable, self.sure, self.agree) != (None, None, None)

    @property
    def said(self) -> str:
        """The rule in words, without its promise; `read_rule` reads them.

        >>> ExitRule(every=64, sure=0.95, max_tokens=512).said
        'probes every 64, left when 0.95 sure'
        """
        if self.stable is not None:
            return f"probes every {self.every}, left after {self.stable} equal"
        if self.sure is not None:
            return f"probes every {self.every}, left when {self.sure:g} sure"
        if self.agree is not None:
            samples = "1 sample agrees" if self.agree == 1 else f"{self.agree} samples agree"
            return f"probes every {self.every}, left when {samples}"
        return "never left early"

    @property
    def why(self) -> str:
        """Why thinking was left, for the note of a generation."""
        if self.stable is not None:
            return f"left after {self.stable} equal answers"
        if self.sure is not None:
            return f"left when {self.sure:g} sure"
        return "left when 1 sample agreed" if self.agree == 1 else f"left when {self.agree} samples agreed"

    def is_settled(self, evidence: Evidence) -> bool:
        """Whether thinking is left at a probe. One without an answer settles nothing."""
        if not evidence.run:
            return False
        if self.stable is not None:
            return evidence.run >= self.stable
        if self.sure is not None:
            return evidence.probability is not None and evidence.probability >= self.sure
        return self.agree is not None and evidence.agreeing >= self.agree

    def points(self, minimum: int = 0) -> list[int]:
        """Thinking tokens at which the answer is asked for, the last being the largest budget.

        >>> ExitRule(every=4, stable=2, max_tokens=10).points()
        [4, 8, 10]
        """
        inner = range(self.every, self.max_tokens, self.every) if self.leaves_early else ()
        return [*(point for point in inner if point >= minimum), self.max_tokens]

    def save(self, path: Path) -> None:
        """Write the rule as JSON."""
        write_json(path, self.model_dump(mode="json"))


_SAID = re.compile(
    r"probes every (\d+), left (?:after (?P<stable>\d+) equal|when (?P<sure>[\d.e-]+) sure"
    r"|when (?P<agree>\d+) samples? agrees?)"
)


def read_rule(said: str, max_tokens: int) -> ExitRule:
    """The rule that `ExitRule.said` put into words; full thinking for other words.

    >>> read_rule("probes every 64, left when 0.95 sure", 512).sure
    0.95
    """
    found = _SAID.fullmatch(said)
    if found is None:
        return ExitRule(every=max_tokens, max_tokens=max_tokens)
    return ExitRule.model_validate({"every": int(found[1]), "max_tokens": max_tokens} | found.groupdict())


def load_rule(path: Path) -> ExitRule:
    """The rule of a file, or of a checkpoint folder. Raises InputError where there is none or it is not one."""
    file = path / FILE if path.is_dir() else path
    try:
        return ExitRule.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        fix = "Make one with: s1kit calibrate MODEL --questions FILE"
        raise InputError("there is no calibrated rule", where=str(file), fix=fix) from error
    except (OSError, ValueError, ValidationError) as error:
        what = f"the rule cannot be read: {first_line(error)}"
        raise InputError(what, where=str(file), fix="Make it again with s1kit calibrate.") from error
