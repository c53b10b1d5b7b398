"""How often a teacher is asked one question: a fixed number of times, or until its answer is right."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from s1kit.distill.open_teacher import OpenTeacher
from s1kit.grade import BatchGrader, Case, case_of, reference
from s1kit.recipe import Distill
from s1kit.records import Question, Trace, Verdict


@dataclass(frozen=True)
class Assignment:
    """A question for one teacher, and the draws to ask for in turn."""

    question: Question
    teacher: int
    """Position among the stage's teachers."""
    draws: range


def places(questions: Iterable[Question], settings: Distill) -> Iterator[Assignment]:
    """All assignments of a stage, ordered by question, then teacher, then draw."""
    for question in questions:
        for teacher in range(len(settings.each)):
            if settings.until_correct:
                yield Assignment(question, teacher, range(settings.until_correct))
            else:
                yield from (Assignment(question, teacher, range(d, d + 1)) for d in range(settings.num_traces))


def places_a_question(settings: Distill) -> int:
    """Assignments for each question; with `until_correct` all draws of a teacher are one."""
    return len(settings.each) * (1 if settings.until_correct else settings.num_traces)


class Verifier:
    """Grades answers from many tasks at once: those that come while a group is graded are the next group."""

    def __init__(self, grader: BatchGrader) -> None:
        self._grader = grader
        self._waiting: list[tuple[Case, asyncio.Future[Verdict]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def verdict(self, question: Question, answer: str) -> Verdict:
        """`abstain` where the question has no reference to compare with."""
        if reference(question) is None:
            return "abstain"
        case = case_of(answer, question)
        settled: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._waiting.append((case, settled))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await settled

    async def _work(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            try:
                judged = await asyncio.to_thread(self._grader.grade, [case for case, _ in group])
            except Exception as error:  # noqa: BLE001 - handed to whoever asked
                for _, settled in group:
                    if not settled.done():
                        settled.set_exception(error)
                continue
            for (_, settled), judgement in zip(group, judged, strict=True):
                if not settled.done():
                    settled.set_result(judgement.verdict)


async def draw(place: Assignment, teacher: OpenTeacher, verifier: Verifier | None) -> list[Trace]:
    """The place's traces in order of their draws; with a verifier each is judged, and the last is the first right one.

    The replies come from the journal where they are there, and the verifier says the same again, so a repeated run
    stops at the same draw. Raises what `Teacher.ask` raises.
    """
    traces: list[Trace] = []
    for number in place.draws:
        trace = await teacher.teacher.ask(place.question, number)
        if verifier is not None:
            trace = trace.model_copy(update={"verdict": await verifier.verdict(place.question, trace.answer)})
        traces.append(trace)
        if is_settled(trace):
            break
    return traces


def is_settled(trace: Trace) -> bool:
    """Whether no further draw is asked for: the answer is right, nothing can judge it, or the request was refused."""
    return trace.verdict == "correct" or trace.finish_reason == "failed" or reference(trace.question) is None
