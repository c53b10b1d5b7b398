"""Which of several final answers are mathematically equal, without a solution at hand: what a majority vote counts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from s1kit.grade.compare import MAX_SYMBOLIC, canonical
from s1kit.grade.normalise import as_number, normalise


def group_equal(answers: Sequence[str]) -> list[str]:
    """For each answer the first of those that are equal to it: by spelling, as exact numbers, or in value.

    Values are compared where the extra `grade` is installed; spelling and numbers always. What cannot be read is equal
    to its own spelling alone.

    >>> group_equal(["0.5", "x", r"\\frac{1}{2}", r"$x$"])
    ['0.5', 'x', '0.5', 'x']
    """
    first: dict[str, str] = {}
    names: list[str] = []
    for answer in answers:
        spelled = canonical(normalise(answer))
        if spelled not in first:
            same = next((other for other in first if _equal_values(spelled, other)), None)
            first[spelled] = first[same] if same is not None else answer
        names.append(first[spelled])
    return names


@lru_cache(maxsize=65536)
def _equal_values(one: str, other: str) -> bool:
    if max(len(one), len(other)) > MAX_SYMBOLIC or (as_number(one) is not None and as_number(other) is not None):
        return False
    try:
        from s1kit.grade.numeric import compare_numbers
    except ImportError:
        return False
    return compare_numbers(one, other) == "same"
