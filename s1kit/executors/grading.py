"""Grading over an executor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from s1kit.executors import Executor, OnProgress, in_order, load_executor
from s1kit.grade import Case, Judgement, load_grader

SHARD = 512
"""Answers that a worker takes at a time."""


@dataclass(frozen=True)
class Grading:
    """Cases judged by a grader without a judge: those keep a journal, and are asked from one process."""

    own: str = ""
    """A grader of the user's, as in `load_grader`."""

    @contextmanager
    def open(self) -> Iterator[Callable[[Sequence[Case], OnProgress], list[Judgement]]]:
        """Load the grader in the worker process."""
        grader = load_grader(own=self.own)

        def judge(cases: Sequence[Case], on_progress: OnProgress) -> list[Judgement]:
            judgements = grader.grade(cases)
            on_progress(len(cases))
            return judgements

        yield judge


@dataclass(frozen=True)
class SpreadGrader:
    """A `BatchGrader` whose shards an executor does."""

    executor: Executor
    work: Grading

    def __call__(self, answer: str, solution: str, kind: str = "", question: str = "") -> Judgement:
        """One judgement."""
        (judgement,) = self.grade([Case(answer, solution, kind, question)])
        return judgement

    def grade(self, cases: Sequence[Case]) -> list[Judgement]:
        """A judgement a case, in order."""
        shards = [cases[start : start + SHARD] for start in range(0, len(cases), SHARD)]
        executor = self.executor if len(shards) > 1 else load_executor()
        return [judgement for found in in_order(executor.run(self.work, shards)) for judgement in found]
