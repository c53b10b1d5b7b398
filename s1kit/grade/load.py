"""`load_grader`: the grader that the stages and the command line use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from s1kit.errors import InputError
from s1kit.extensions import load_extension
from s1kit.grade.cascade import Cascade
from s1kit.grade.cases import BatchGrader, Case, Judgement, judge_any
from s1kit.grade.judge import judge_with


class OwnGrader:
    """A user's function as a grader: it gets an answer, a solution, a kind and the question's text."""

    def __init__(self, function: Callable[..., Judgement | bool], reference: str) -> None:
        self._function, self._reference = function, reference

    def __call__(self, answer: str, solution: str, kind: str = "", question: str = "") -> Judgement:
        found = self._function(answer, solution, kind, question)
        if isinstance(found, bool):
            return Judgement("correct" if found else "wrong", self._reference, answer.strip())
        if not isinstance(found, Judgement):
            raise InputError(
                f"the grader {self._reference} returned {found!r:.60}, which is no verdict",
                where="grader",
                fix="Return a Judgement, or True or False.",
            )
        return found

    def grade(self, cases: Sequence[Case]) -> list[Judgement]:
        return judge_any(cases, lambda single: [self(c.answer, c.solution, c.kind, c.question) for c in single])


def load_grader(processes: int = 2, judge: str = "", journal_path: str = "", own: str = "") -> BatchGrader:
    """The real grader: string, number and choice at once, math-verify in worker processes for the rest.

    `own` is a function of the user's instead, as `module:function` or the name of an entry point `s1kit.grader`.
    `judge` is a model reference such as `chat:deepseek/deepseek-chat`, asked where the rules disagree, each question
    once ever through the journal at `journal_path`; empty: the grader abstains there.
    """
    if own and judge:
        raise InputError(
            f"the grader {own} decides by itself, so the judge {judge} would never be asked",
            where="grader, judge",
            fix="Leave one of them out.",
        )
    if own:
        return OwnGrader(find_grader(own), own)
    if not judge:
        return Cascade(processes=processes)
    from s1kit.journal import Journal
    from s1kit.providers.catalog import find_model
    from s1kit.providers.sync import chat_many

    find_model(judge)  # a name that is none is said now, not after hours of grading

    def ask(prompts: Sequence[str]) -> list[str]:
        with Journal(Path(journal_path or "journal.sqlite")) as journal:
            conversations = [[{"role": "user", "content": prompt}] for prompt in prompts]
            return [reply.answer for reply in chat_many(judge, conversations, journal)]

    return Cascade(processes=processes, judge=judge_with(ask, judge))


def find_grader(reference: str) -> Callable[..., Any]:
    """The function that a reference names. Raises InputError where it names none."""
    function = load_extension(reference, "grader", "grader")
    if function is None:
        raise InputError(
            f"there is no grader {reference!r}", where="grader", fix="Name a function of yours as module:function."
        )
    return function
