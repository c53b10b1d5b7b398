"""A point of a curve: what a setting or a choice among draws cost and how often it was right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from s1kit.evaluate.results import Draws
from s1kit.evaluate.statistics import Estimate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """One setting on the curve."""

    name: str
    """As a reader would say it, e.g. `2 Waits`."""
    tokens: float
    """Average thinking tokens a question; of all draws together, where there are several."""
    estimate: Estimate
    draws: Draws
    votes: int = 1
    per_question: Matrix | None = None
    """Chance of a right answer, one row a question; None: the draws' own verdicts."""

    @property
    def outcomes(self) -> Matrix:
        return self.draws.correct if self.per_question is None else self.per_question

    @property
    def cost_per_correct(self) -> float:
        """Thinking tokens spent for each right answer; infinite where none is right."""
        return self.tokens / self.estimate.value if self.estimate.value else float("inf")
