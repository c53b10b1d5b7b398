"""Judging an answer against a solution: correct, wrong, or abstain where it cannot know; always with the evidence.

    load_grader()("The answer is \\\\boxed{0.5}.", "\\\\frac{1}{2}")   ->   correct, "math-verify: 0.5 = \\\\frac{1}{2}"

`Grader` is the seam, `exact_match` its fake.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from s1kit.records import Question, Verdict

Kind = Literal["", "math", "choice", "exact"]
"""How to compare; empty: guessed from the solution (a single letter is a choice) and the question's options."""


class Judgement(NamedTuple):
    """A verdict and what supports it."""

    verdict: Verdict
    evidence: str
    """The rule that decided, and what it compared."""
    final_answer: str = ""
    """What was found in the answer, normalised: equal answers are equal here, as a majority vote needs. Or empty."""


class Case(NamedTuple):
    """One answer to judge."""

    answer: str
    """What a model wrote after its thinking."""
    solution: str
    """The reference: a final answer, or a worked solution that contains it."""
    kind: str = ""
    question: str = ""
    """Helps: its options are what a choice may be spelled as; its own `\\boxed{}` is no answer."""


class Grader(Protocol):
    """Judges one answer."""

    def __call__(self, answer: str, solution: str, kind: str = "", question: str = "") -> Judgement: ...


class BatchGrader(Grader, Protocol):
    """Judges many at once, in order."""

    def grade(self, cases: Sequence[Case]) -> list[Judgement]: ...


def exact_match(answer: str, solution: str, kind: str = "", question: str = "") -> Judgement:
    """A grader for tests and examples: the texts are equal, white space at the ends aside.

    >>> exact_match("7 ", "7").verdict
    'correct'
    """
    same = answer.strip() == solution.strip()
    return Judgement("correct" if same else "wrong", f"{answer.strip()!r} and {solution.strip()!r}", answer.strip())


def reference(question: Question) -> str | None:
    """What an answer to the question is compared with: its short final answer where the source has one, else its
    solution; None when there is neither.
    """
    answer = question.metadata.get("final_answer")
    return str(answer) if answer not in (None, "") else question.solution


def load_grader(processes: int = 2, judge: str = "", journal_path: str = "") -> BatchGrader:
    """The real grader: string, number and choice at once, math-verify in worker processes for the rest.

    `judge` is a model reference such as `chat:deepseek/deepseek-chat`, asked where the rules disagree, each question
    once ever through the journal at `journal_path`; empty: the grader abstains there.
    """
    from s1kit.grade.cascade import Cascade

    if not judge:
        return Cascade(processes=processes)
    from s1kit.grade.judge import judge_with
    from s1kit.journal import Journal
    from s1kit.providers.catalog import find_model
    from s1kit.providers.many import chat_many

    find_model(judge)  # a name that is none is said now, not after hours of grading

    def ask(prompts: Sequence[str]) -> list[str]:
        with Journal(Path(journal_path or "journal.sqlite")) as journal:
            conversations = [[{"role": "user", "content": prompt}] for prompt in prompts]
            return [reply.answer for reply in chat_many(judge, conversations, journal)]

    return Cascade(processes=processes, judge=judge_with(ask, judge))
