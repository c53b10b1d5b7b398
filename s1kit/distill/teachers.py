"""The teachers that cost nothing: the built-in one, and published solutions. `recorded` has the third."""

from __future__ import annotations

from s1kit.grade import reference
from s1kit.grade.form import solution_answer
from s1kit.records import Question, Trace


class TinyTeacher:
    """The teacher that ships with s1kit, for the questions that ship with it."""

    async def ask(self, question: Question, draw: int) -> Trace:
        from s1kit.tiny.teacher import write_trace

        written = write_trace(question, draw)
        return Trace(
            question=question,
            teacher="tiny",
            thinking=written.thinking,
            answer=written.answer,
            thinking_tokens=len(written.thinking.split()),
            finish_reason=written.finish_reason,
            terms="permits",
            draw=draw,
        )


def shows_work(solution: str, final: str) -> bool:
    """Whether a solution has more than its final answer: a bare one shows no work to learn from.

    >>> shows_work("Each has 2, and there are 3, so 6.", "6"), shows_work("It is 6.", "6")
    (True, False)
    """
    return len(solution.split()) > len(final.split()) + 3


def stated(final: str) -> str:
    """The answer of a trace whose thinking is a worked solution.

    >>> stated("6")
    'Final Answer: $\\\\boxed{6}$'
    """
    return f"Final Answer: $\\boxed{{{final}}}$"


class SolutionsTeacher:
    """Each question's published solution as its trace: worked solution as thinking, final answer as answer."""

    NOTE = "a published solution, not a model's thinking"

    async def ask(self, question: Question, draw: int) -> Trace:
        solution = question.solution or ""
        final = solution_answer(reference(question) or "")
        has_work = shows_work(solution, final)
        return Trace(
            question=question,
            teacher="solutions",
            thinking=solution if has_work else "",
            answer=stated(final) if final else "",
            thinking_tokens=len(solution.split()) if has_work else 0,
            finish_reason="stop" if has_work and final else "empty",
            terms="permits",
            draw=draw,
            note=self.NOTE if has_work else "the source publishes no worked solution",
        )
