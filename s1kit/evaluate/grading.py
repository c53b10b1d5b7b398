"""Verdicts for generations: each different answer to a question is graded once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from s1kit.grade import BatchGrader, Case, reference
from s1kit.records import Generation, Question


def grade(
    generations: Iterable[Generation], questions: Mapping[str, Question], grader: BatchGrader
) -> list[Generation]:
    """The generations with verdict, evidence and final answer. A generation without an answer is wrong, and says so."""
    rows = list(generations)
    answers = list(dict.fromkeys((row.question_id, row.answer) for row in rows if row.answer.strip()))
    cases = []
    for question_id, answer in answers:
        question = questions[question_id]
        cases.append(Case(answer, reference(question) or "", str(question.metadata.get("kind", "")), question.text))
    judged = dict(zip(answers, grader.grade(cases), strict=True))
    graded = []
    for row in rows:
        judgement = judged.get((row.question_id, row.answer))
        if judgement is None:
            update = {"verdict": "wrong", "evidence": row.note or "no answer", "final_answer": ""}
        else:
            update = judgement._asdict()
        graded.append(row.model_copy(update=update))
    return graded
