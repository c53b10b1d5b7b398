"""`load_grader`: the grader that the stages and the command line use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from s1kit.grade.cascade import Cascade
from s1kit.grade.cases import BatchGrader
from s1kit.grade.judge import judge_with


def load_grader(processes: int = 2, judge: str = "", journal_path: str = "") -> BatchGrader:
    """The real grader: string, number and choice at once, math-verify in worker processes for the rest.

    `judge` is a model reference such as `chat:deepseek/deepseek-chat`, asked where the rules disagree, each question
    once ever through the journal at `journal_path`; empty: the grader abstains there.
    """
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
