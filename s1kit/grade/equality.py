"""Which of several final answers are equal, without a solution at hand: what a majority vote counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from s1kit.grade.choice import options
from s1kit.grade.compare import MAX_SYMBOLIC, canonical
from s1kit.grade.extract import final_answer
from s1kit.grade.normalise import as_number, normalise
from s1kit.grade.several import chosen_letters
from s1kit.records import Agreement, Question


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


def agreements(question: Question, answers: Sequence[str]) -> list[Agreement]:
    """The agreement of each answer with all of them. No reference is needed; an answer that states nothing agrees with
    none.

    >>> [a.num_same for a in agreements(Question(text="1/2 + 0?"), ["The answer is 0.5.", "$\\\\boxed{1/2}$", "2", ""])]
    [2, 2, 1, 0]
    """
    choices = options(question.text)
    kind = question.metadata.get("kind")
    if kind == "exact":
        stated = [answer.strip() for answer in answers]
    elif kind == "choice" or (not kind and choices):
        stated = [chosen_letters(answer, choices) for answer in answers]
    else:
        found = [final_answer(answer, question.text) for answer in answers]
        stated = [answer.text if answer else "" for answer in found]
    given = [answer for answer in stated if answer]
    names = iter(given if kind == "exact" else group_equal(given))
    named = [next(names) if answer else "" for answer in stated]
    same = Counter(name for name in named if name)
    return [
        Agreement(num_replies=len(answers), num_same=same[name] if name else 0, num_answers=len(same)) for name in named
    ]
