"""Questions to measure with: built-in sets by name, or any file of questions with answers."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from s1kit.errors import InputError, nearest
from s1kit.questions import read_questions
from s1kit.records import Question

BUILT_IN = ("tiny",)


def load_benchmarks(names: Sequence[str], num: int | None, seed: int) -> list[Question]:
    """The questions of all benchmarks, at most `num` of each, drawn with the seed, in the benchmark's own order.

    Raises InputError for an unknown name, a question without an answer, and a question that appears twice.
    """
    if not names:
        raise InputError("no benchmark", where="evaluate.benchmarks", fix='Name one, for example ["tiny"].')
    questions = [question for name in names for question in _load(name, num, seed)]
    _refuse_duplicates(questions)
    return questions


def _load(name: str, num: int | None, seed: int) -> list[Question]:
    if name == "tiny":
        from s1kit.tiny.questions import held_out_questions

        return held_out_questions(num or 360, seed)
    if "/" not in name and "." not in name:
        raise InputError(
            f"there is no benchmark {name!r}",
            where="evaluate.benchmarks",
            fix="Give a file of questions, or a built-in name. " + nearest(name, BUILT_IN),
        )
    questions = list(read_questions(name))
    without = [i for i, q in enumerate(questions, start=1) if not q.solution]
    if without:
        raise InputError(
            f"{len(without)} of {len(questions)} questions have no answer, the first is number {without[0]}",
            where=name,
            fix="Give each an answer in a column such as `answer`, or take those rows out.",
        )
    if num is None or num >= len(questions):
        return questions
    kept = set(Random(f"{seed}:benchmark:{name}").sample(range(len(questions)), num))
    return [q for i, q in enumerate(questions) if i in kept]


def _refuse_duplicates(questions: Sequence[Question]) -> None:
    seen: dict[str, Question] = {}
    for question in questions:
        if question.id in seen:
            raise InputError(
                f"the question {question.text[:60]!r} appears twice",
                where=f"evaluate.benchmarks ({question.source}, {seen[question.id].source})",
                fix="Every question counts once: take the copy out.",
            )
        seen[question.id] = question
