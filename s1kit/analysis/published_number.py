"""One accuracy that somebody printed elsewhere, with the interval that can be known of it."""

from __future__ import annotations

from s1kit.analysis.intervals import Estimate, clopper_pearson
from s1kit.records import Record

ROUNDING = 0.05
"""Percentage points by which a printed accuracy may differ from a whole number of right answers."""


class PublishedNumber(Record):
    """One printed accuracy and where it was printed."""

    name: str
    benchmark: str
    accuracy: float
    """A share, 0 to 1."""
    num_questions: int | None = None
    thinking_tokens: float | None = None
    """Average a question; None where it was not printed."""
    source: str
    date: str = ""

    @property
    def num_right(self) -> int | None:
        """Right answers, where the accuracy is that of one answer a question; None where it cannot be."""
        if self.num_questions is None:
            return None
        right = round(self.accuracy * self.num_questions)
        return right if abs(right / self.num_questions - self.accuracy) * 100 <= ROUNDING + 1e-9 else None

    @property
    def estimate(self) -> Estimate | None:
        """The accuracy with its exact interval (Clopper and Pearson); None where the counts are not known."""
        if self.num_right is None or self.num_questions is None:
            return None
        return Estimate(self.accuracy, *clopper_pearson(self.num_right, self.num_questions))

    @property
    def why_no_interval(self) -> str:
        """Why `estimate` is None; empty where it is not."""
        if self.estimate is not None:
            return ""
        if self.num_questions is None:
            return "number of questions not given"
        return f"no whole number of {self.num_questions:,}: averaged draws"
