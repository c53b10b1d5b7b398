"""How often a setting went other than planned, and what thinking cost where it was right or wrong. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from s1kit.analysis.intervals import Estimate
from s1kit.analysis.results import Draws, Point
from s1kit.analysis.statistics import accuracy, ratio

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Rates:
    """Shares of a setting's generations that were cut off, failed, looped or could not be graded."""

    cut_off: Estimate
    no_answer: Estimate
    truncated: Estimate
    loop: Estimate
    abstain: Estimate
    failed: Estimate


def rates(draws: Draws) -> Rates:
    """The rates of a setting; each question counts the same, and each rate has its interval."""
    ending = draws.ending
    return Rates(
        cut_off=accuracy(draws.are(ending == "cut_off")),
        no_answer=accuracy(draws.are(draws.answered == 0)),
        truncated=accuracy(draws.truncated),
        loop=accuracy(draws.are(ending == "loop")),
        abstain=accuracy(draws.abstained),
        failed=accuracy(draws.are(ending == "failed")),
    )


def thinking_by_correctness(point: Point) -> tuple[Estimate | None, Estimate | None]:
    """Average thinking tokens of right and of wrong draws, times the draws of a vote; None where there are none."""
    draws = point.draws
    return _mean_of(point, draws.correct == 1), _mean_of(point, draws.correct == 0)


def _mean_of(point: Point, chosen: NDArray[np.bool_]) -> Estimate | None:
    import numpy as np

    if not chosen.any():
        return None
    tokens = np.where(chosen, point.draws.thinking_tokens, 0.0).sum(axis=1)
    return ratio(point.votes * tokens, chosen.sum(axis=1))
