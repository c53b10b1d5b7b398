"""How many of several replies to one question state the same final answer, as a majority vote counts it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from s1kit.grade.choice import options
from s1kit.grade.equality import group_equal
from s1kit.grade.extract import final_answer
from s1kit.grade.several import chosen_letters
from s1kit.records import Agreement, Question


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
