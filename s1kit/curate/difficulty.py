"""Questions that are too easy or too hard: students attempt each, a grader compares, a band says what stays.

s1 keeps what both Qwen2.5-7B and 32B fail once, the band (0, 0); LIMO keeps what a strong student solves 1 to 3 times
of 32. A student asked only about what the students before it left saves most of the cost.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from s1kit.curate.quality import DropReason
from s1kit.engines.interface import ServerFigures, ServerMeter, add_up, close_engine
from s1kit.engines.references import read_reference
from s1kit.executors import OnProgress, executor_of, load_executor
from s1kit.files import read_rows, write_rows
from s1kit.grade import BatchGrader, case_of, load_grader
from s1kit.progress import meter
from s1kit.recipe import Curate
from s1kit.records import Question, Record, Verdict
from s1kit.stage import Stage, StagePart

SHARD = 1024
"""Questions attempted together, unless the recipe says."""

MANY_TEMPERATURE = 0.7
"""Sampling temperature of more than one attempt, unless the recipe says; one is greedy."""


class Attempt(Record):
    """One student's answer to one question, with its verdict."""

    question_id: str
    student: str
    repeat: int
    answer: str
    verdict: Verdict
    evidence: str


def attempt_all(
    questions: Sequence[Question],
    config: Curate,
    grader: BatchGrader,
    stage: Stage,
    seed: int,
    part: StagePart | None = None,
) -> dict[str, DropReason] | None:
    """Question ids to drop, with the student and its answer as evidence. Attempts are kept in `attempts` shards.

    With a part only its shards are attempted, and None is returned while a student's others are not there. Shards
    that a killed run finished are read, not attempted again.
    """
    drops: dict[str, DropReason] = {}
    left, first = list(questions), 0
    size = config.attempt_shard or SHARD
    for student in config.students:
        shards = [left[start : start + size] for start in range(0, len(left), size)]
        paths = [stage.shard_path("attempts", first + number) for number in range(len(shards))]
        first += len(shards)
        with meter(f"curate: {short_name(student)}", total=len(left), unit="questions") as bar:
            missing = [n for n, path in enumerate(paths) if not path.exists() and (part is None or part.has(n))]
            bar.advance(len(left) - sum(len(shards[number]) for number in missing))
            journal = stage.folder.parent / "journal.sqlite"
            work = Attempting(student, config, seed, str(journal))
            # A provider's limits are kept by one process, and so is a judge's journal.
            executor = load_executor() if student.startswith("chat:") else executor_of(config)
            with closing(executor.run(work, [shards[n] for n in missing], bar.advance)) as done:
                for position, (answered, servers) in done:
                    add_up(stage.figures.setdefault("servers", {}), servers)
                    attempts = answered if not config.judge else judged(answered, shards[missing[position]], grader)
                    write_rows(paths[missing[position]], Attempt, attempts)
        if not all(path.exists() for path in paths):
            return None
        drops |= outside_band(list(read_rows(paths, Attempt)), config.keep_band)
        left = [q for q in left if q.id not in drops]
    return drops


def outside_band(attempts: Sequence[Attempt], band: tuple[float, float]) -> dict[str, DropReason]:
    """Question ids whose share of correct attempts by one student lies outside the band, both ends inclusive."""
    by_question: defaultdict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        by_question[attempt.question_id].append(attempt)
    drops: dict[str, DropReason] = {}
    for id, own in by_question.items():
        num_correct = sum(a.verdict == "correct" for a in own)
        share = num_correct / len(own)
        if share > band[1]:
            shown = next(a for a in own if a.verdict == "correct")
            drops[id] = DropReason(
                f"answered_by:{short_name(shown.student)}",
                f"{num_correct} of {len(own)} correct, e.g. {shown.answer[-120:]!r}: {shown.evidence}",
            )
        elif share < band[0]:
            drops[id] = DropReason(
                f"never_answered_by:{short_name(own[0].student)}",
                f"{num_correct} of {len(own)} correct, e.g. {own[0].answer[-120:]!r}: {own[0].evidence}",
            )
    return drops


def short_name(student: str) -> str:
    """A student's name for reasons.

    >>> short_name("vllm:Qwen/Qwen2.5-7B-Instruct"), short_name("tiny-base")
    ('qwen2.5-7b-instruct', 'tiny-base')
    """
    bare = student if student.startswith("chat:") else read_reference(student).target or student
    return bare.rstrip("/").rpartition("/")[2].rpartition(":")[2].lower()


def open_student(student: str, config: Curate, journal_path: Path) -> Any:
    """The engine that answers for a student, in plain chat: it is not asked to think."""
    if student.startswith("chat:"):
        from s1kit.curate.remote_student import RemoteStudent

        return RemoteStudent(student, config, journal_path=journal_path)
    from s1kit.engines import load_engine

    return load_engine(student, format="direct", max_batch=config.attempt_batch)


@dataclass(frozen=True)
class Attempting:
    """A student attempts a shard of questions, and a grader compares; where a model judges, that is left to the caller.

    Settings that travel to other processes and machines: see `s1kit.executors`.
    """

    student: str
    config: Curate
    seed: int
    journal_path: str
    """Where a student behind a provider keeps its replies."""

    @contextmanager
    def open(self) -> Iterator[Callable[[Sequence[Question], OnProgress], tuple[list[Attempt], ServerFigures]]]:
        """The engine and the grader, loaded."""
        engine = open_student(self.student, self.config, Path(self.journal_path))
        grader = None if self.config.judge else load_grader(own=self.config.grader)

        servers = ServerMeter()

        def attempt(questions: Sequence[Question], on_progress: OnProgress) -> tuple[list[Attempt], ServerFigures]:
            answers = dict(_answers(questions, engine, self.config, self.student, self.seed))
            attempts = [
                Attempt(
                    question_id=question.id,
                    student=self.student,
                    repeat=repeat,
                    answer=answers.get((question.id, repeat), ""),
                    verdict="abstain",
                    evidence="",
                )
                for question in questions
                for repeat in range(self.config.num_attempts)
            ]
            on_progress(len(questions))
            return attempts if grader is None else judged(attempts, questions, grader), servers.take([engine])

        try:
            yield attempt
        finally:
            close_engine(engine)


def judged(attempts: Sequence[Attempt], questions: Sequence[Question], grader: BatchGrader) -> list[Attempt]:
    """The attempts with `verdict` and `evidence` filled in by the grader."""
    by_id = {q.id: q for q in questions}
    cases = [case_of(attempt.answer, by_id[attempt.question_id]) for attempt in attempts]
    return [
        attempt.model_copy(update={"verdict": judgement.verdict, "evidence": judgement.evidence})
        for attempt, judgement in zip(attempts, grader.grade(cases), strict=True)
    ]


def _answers(
    questions: Sequence[Question], engine: Any, config: Curate, student: str, seed: int
) -> Iterator[tuple[tuple[str, int], str]]:
    from s1kit.forcing import ThinkingBudget
    from s1kit.forcing.request import Request

    temperature = config.attempt_temperature
    if temperature is None:
        temperature = MANY_TEMPERATURE if config.num_attempts > 1 else 0.0
    requests = [
        Request(
            question=q.text,
            question_id=q.id,
            budget=ThinkingBudget(max_tokens=0),
            answer_tokens=config.attempt_tokens,
            temperature=temperature,
            seed=int(Random(f"{seed}:{student}:{q.id}:{repeat}").random() * 2**31),
            repeat=repeat,
        )
        for q in questions
        for repeat in range(config.num_attempts)
    ]
    for generation in engine.generate(requests):
        yield (generation.question_id, generation.repeat), generation.answer
