"""Questions that are too easy or too hard: students attempt each, a grader compares, a band says what stays.

s1 keeps what both Qwen2.5-7B and 32B fail once, the band (0, 0); LIMO keeps what a strong student solves 1 to 3 times
of 32. A student asked only about what the students before it left saves most of the cost.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from s1kit.curate.quality import DropReason
from s1kit.engines.base import close_engine
from s1kit.engines.options import read_reference
from s1kit.grade import BatchGrader, Case, reference
from s1kit.progress import meter
from s1kit.recipe import Curate
from s1kit.records import Question, Record, Verdict
from s1kit.stage import Stage, read_rows

BLOCK = 1024
"""Questions attempted between two shards: what a killed run may lose."""

MANY_TEMPERATURE = 0.7
"""Sampling temperature of more than one attempt, unless the recipe says; one is greedy."""


class Attempt(Record):
    """A student's answer to a question, judged."""

    question_id: str
    student: str
    repeat: int
    answer: str
    verdict: Verdict
    evidence: str


def attempt_all(
    questions: Sequence[Question], config: Curate, grader: BatchGrader, stage: Stage, seed: int
) -> dict[str, DropReason]:
    """Question ids to drop, with the student and its answer as evidence. Attempts are kept in `attempts` shards.

    Blocks that a killed run finished are read, not attempted again.
    """
    drops: dict[str, DropReason] = {}
    left = list(questions)
    shard = 0
    for student in config.students:
        engine = None
        try:
            with meter(f"curate: {short_name(student)}", total=len(left), unit="questions") as m:
                for first in range(0, len(left), BLOCK):
                    block = left[first : first + BLOCK]
                    path = stage.folder / f"attempts-{shard:05d}.parquet"
                    if path.exists():
                        attempts = list(read_rows([path], Attempt))
                    else:
                        engine = engine or open_student(student, config, stage.folder.parent / "journal.sqlite")
                        attempts = _attempt(block, student, engine, config, grader, seed)
                        stage.write("attempts", Attempt, attempts, shard=shard)
                    shard += 1
                    drops |= outside_band(attempts, config.keep_band)
                    m.advance(len(block), note=f"{len(drops)} dropped")
        finally:
            close_engine(engine)
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


def _attempt(
    questions: Sequence[Question], student: str, engine: Any, config: Curate, grader: BatchGrader, seed: int
) -> list[Attempt]:
    answers = dict(_answers(questions, engine, config, student, seed))
    keys = [(q, repeat) for q in questions for repeat in range(config.num_attempts)]
    cases = [
        Case(answers.get((q.id, repeat), ""), reference(q) or "", str(q.metadata.get("kind", "")), q.text)
        for q, repeat in keys
    ]
    judged = grader.grade(cases)
    return [
        Attempt(
            question_id=q.id,
            student=student,
            repeat=repeat,
            answer=case.answer,
            verdict=judgement.verdict,
            evidence=judgement.evidence,
        )
        for (q, repeat), case, judgement in zip(keys, cases, judged, strict=True)
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
