"""What is graded and what comes back: `Case`, `Judgement`, the two grader protocols, and `exact_match`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Literal, NamedTuple, Protocol

from s1kit.records import Question, Verdict

Kind = Literal["", "math", "choice", "exact"]
"""How to compare; empty: guessed from the solution (letters of options are a choice) and the question's options."""


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
    aliases: tuple[str, ...] = ()
    """Further references, any of which is right."""


class Grader(Protocol):
    """Judges answers: one verdict a case, or an abstention."""

    def __call__(self, answer: str, solution: str, kind: str = "", question: str = "") -> Judgement: ...


class BatchGrader(Grader, Protocol):
    """Judges many at once, in order."""

    def grade(self, cases: Sequence[Case]) -> list[Judgement]: ...


def case_of(answer: str, question: Question) -> Case:
    """An answer to a question, with all that the question says of how it is judged."""
    aliases = question.metadata.get("aliases")
    return Case(
        answer,
        reference(question) or "",
        str(question.metadata.get("kind", "")),
        question.text,
        tuple(map(str, aliases)) if isinstance(aliases, list | tuple) else (),
    )


def judge_any(cases: Sequence[Case], judge: Callable[[Sequence[Case]], Sequence[Judgement]]) -> list[Judgement]:
    """Judgements of cases by a function that knows no aliases: right where any reference is met, and an abstention
    where it is not known of one whether it is.
    """
    each = [[case._replace(solution=text, aliases=()) for text in (case.solution, *case.aliases)] for case in cases]
    judged = iter(judge([one for ones in each for one in ones]))
    return [_best(ones, list(islice(judged, len(ones)))) for ones in each]


def _best(cases: Sequence[Case], judgements: Sequence[Judgement]) -> Judgement:
    order: tuple[Verdict, ...] = ("correct", "abstain", "wrong")
    place = min(range(len(cases)), key=lambda n: order.index(judgements[n].verdict))
    found = judgements[place]
    return found._replace(evidence=f"alias {cases[place].solution!r:.60}: {found.evidence}") if place else found


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
