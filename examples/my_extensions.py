"""Functions of one's own in a recipe: `s1kit run my_extensions.toml`, in this folder.

Each is named as `my_extensions:<function>`; a package can offer them as entry points instead, for example
`[project.entry-points."s1kit.quality"]` with `short = "my_extensions:short"`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from s1kit.curate.quality import DropReason
from s1kit.curate.selection import Candidate, Pick
from s1kit.forcing.formats import FORMATS, ThinkingFormat
from s1kit.grade import Judgement
from s1kit.recipe import Recipe
from s1kit.records import Question, Trace


def short(trace: Trace) -> DropReason | None:
    """A quality rule: the reason to drop a trace, or None."""
    words = len(trace.thinking.split())
    return DropReason("too_long", f"{words} words") if words > 120 else None


def shortest(candidates: Sequence[Candidate], num: int, random: Random) -> list[Pick]:
    """A selection: at most `num` candidates, each with the rule that picked it."""
    ordered = sorted(candidates, key=lambda c: (c.thinking_tokens, c.question_id))
    return [Pick(c.index, f"shortest:rank={rank}") for rank, c in enumerate(ordered[:num])]


def by_length(question: Question) -> str:
    """A domain labeller: the domain of one question."""
    return "long" if len(question.text) > 150 else "short"


class Parrot:
    """A teacher: answers each question with its published solution."""

    async def ask(self, question: Question, draw: int) -> Trace:
        return Trace(
            question=question,
            teacher="parrot",
            thinking=f"I was told: {question.solution}",
            answer=f"Final Answer: {question.solution}",
            thinking_tokens=4,
            terms="permits",
            draw=draw,
        )


def parrot(recipe: Recipe) -> Parrot:
    """What `distill.teacher` names: a teacher, from the recipe."""
    return Parrot()


def sums() -> list[Question]:
    """A benchmark: questions with solutions."""
    return [Question(text=f"What is {n} + {n}?", solution=str(2 * n)) for n in range(3)]


def whole_number(answer: str, solution: str, kind: str = "", question: str = "") -> Judgement:
    """A grader: the last whole number of the answer is the solution's."""
    numbers = re.findall(r"-?\d+", answer)
    if not numbers:
        return Judgement("abstain", "no number")
    return Judgement("correct" if numbers[-1] == solution else "wrong", f"{numbers[-1]} and {solution}", numbers[-1])


def reflect() -> ThinkingFormat:
    """A thinking format: what `train.format` and `--format` name."""
    return ThinkingFormat(
        name="reflect", open="<reflect>\n", end="</reflect>\n", chat_template=FORMATS["s1"].chat_template
    )
