"""Chooses an exit rule from labelled questions so that its loss of accuracy is bounded, with a stated confidence.

The candidates are tested in a fixed order, from the most cautious (many equal answers) to the boldest, each by a
binomial test of "the loss is above the bound"; the last that passes before the first failure is taken. A fixed order
needs no correction for testing several (Angelopoulos et al., Learn then Test, arXiv 2110.01052, section 4).

A loss is a question that full thinking answers right and early exit wrong, so the accuracy falls by no more than the
bounded share; questions that early exit mends count for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log

from s1kit.adaptive.rule import Calibrated, ExitRule
from s1kit.analysis.intervals import binomial_at_most
from s1kit.analysis.parallel import early_exit
from s1kit.errors import InputError

STABLE = (8, 6, 5, 4, 3, 2)
"""Candidates, in the order in which they are tested."""


@dataclass(frozen=True)
class Probed:
    """The probes of one labelled question in order, the last being full thinking's own answer."""

    question_id: str
    answers: tuple[str | None, ...]
    """Equal answers under one name; None: no answer."""
    correct: tuple[bool, ...]
    tokens: tuple[int, ...]
    """Thinking tokens at each."""


@dataclass(frozen=True)
class TriedRule:
    """What one rule would have done with the labelled questions."""

    stable: int
    losses: int
    gains: int
    """Questions that it answers right and full thinking wrong."""
    tokens: float
    p_value: float
    """Probability of so few losses if the true share of losses were the bound."""


def labels_needed(max_loss: float, confidence: float) -> int:
    """Fewest labelled questions with which a rule without any loss would pass.

    >>> labels_needed(0.01, 0.95)
    299
    """
    return ceil(log(1 - confidence) / log(1 - max_loss))


def candidates(questions: Sequence[Probed], max_loss: float) -> list[TriedRule]:
    """Every candidate, in the order in which they are tested."""
    found = []
    for stable in STABLE:
        losses = gains = tokens = 0
        for question in questions:
            at = early_exit(question.answers, question.tokens, [0.0] * len(question.tokens), stable)
            early, full = question.correct[at.probe], question.correct[-1]
            losses += full and not early
            gains += early and not full
            tokens += int(at.tokens)
        p_value = binomial_at_most(losses, len(questions), max_loss)
        found.append(TriedRule(stable, losses, gains, tokens / len(questions), p_value))
    return found


def calibrate(
    questions: Sequence[Probed], every: int, max_tokens: int, max_loss: float, confidence: float
) -> tuple[ExitRule, list[TriedRule]]:
    """The boldest rule that passes, and all candidates; full thinking where none does.

    Raises InputError where there are too few questions for the promise, with the number needed.
    """
    for name, value in (("--max-loss", max_loss), ("--confidence", confidence)):
        if not 0 < value < 1:
            raise InputError(f"{name} is {100 * value:g} %", where=name, fix="Give more than 0 and less than 100.")
    needed = labels_needed(max_loss, confidence)
    if len(questions) < needed:
        raise InputError(
            f"{len(questions)} labelled questions cannot promise a loss of at most {100 * max_loss:g} points with "
            f"{100 * confidence:g} % confidence",
            where="--questions",
            fix=f"Give {needed} or more, or ask for less.",
        )
    tested = candidates(questions, max_loss)
    chosen: TriedRule | None = None
    for candidate in tested:
        if candidate.p_value > 1 - confidence:
            break
        chosen = candidate
    full = sum(question.tokens[-1] for question in questions) / len(questions)
    promise = Calibrated(
        max_loss=max_loss,
        confidence=confidence,
        num_questions=len(questions),
        losses=chosen.losses if chosen else 0,
        tokens=chosen.tokens if chosen else full,
        full_tokens=full,
        question_ids=tuple(question.question_id for question in questions),
    )
    return ExitRule(
        every=every, stable=chosen.stable if chosen else None, max_tokens=max_tokens, calibrated=promise
    ), tested
