"""Judging an answer against a solution: correct, wrong, or abstain where it cannot know; always with the evidence.

    load_grader()("The answer is \\\\boxed{0.5}.", "\\\\frac{1}{2}")   ->   correct, "math-verify: 0.5 = \\\\frac{1}{2}"

`Grader` is the seam, `exact_match` its fake.
"""

from __future__ import annotations

from s1kit.grade.cases import BatchGrader, Case, Grader, Judgement, Kind, case_of, exact_match, reference
from s1kit.grade.load import load_grader

__all__ = ["BatchGrader", "Case", "Grader", "Judgement", "Kind", "case_of", "exact_match", "load_grader", "reference"]
