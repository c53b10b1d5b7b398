"""The stage `distill`: questions in, traces out. Every teacher is asked every question.

Questions are asked concurrently, and their traces written in blocks of fixed places, so that a killed run goes on where
it was and the files come out the same. Replies that cost money are in the journal before they get here.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count, islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from s1kit.concurrency import in_parallel, run_async
from s1kit.distill.drawing import Assignment, Verifier, draw, places, places_a_question
from s1kit.distill.idle_settings import is_local
from s1kit.distill.open_teacher import OpenTeachers, journal_path, open_teachers, say_what_it_means
from s1kit.distill.passes import DistillPass, TraceBlock, refuse_missing, settle, sum_up
from s1kit.distill.prefetch import ask_in_batches, ask_on_engines
from s1kit.distill.student_tokens import student_counter
from s1kit.distill.unusable import refuse_many_unusable, retry
from s1kit.engines.weights import fingerprints
from s1kit.errors import InputError
from s1kit.grade import load_grader
from s1kit.progress import meter, say
from s1kit.providers.chat import Problem, Stopped
from s1kit.recipe import WORKERS, Distill, Recipe
from s1kit.records import Question
from s1kit.stage import Run, Stage

BLOCK = 1024
"""Traces a shard. A trace of 5,000 tokens is some 20 KB, so an open block is some 20 MB."""

NOT_PART_OF_THE_RESULT = {
    "max_cost_usd",
    "mode",
    "concurrency",
    "requests_per_minute",
    "tokens_per_minute",
    "timeout_seconds",
    "poll_seconds",
    "price",
    "prices",
    "base_url",
    "headers",
    "key_file",
    "journal",
    "retry",
    "max_unusable",
    "stream",
    "engine_shard",
    *WORKERS,
}
"""Settings that may change between two runs of one stage: they decide how and when, not what is asked."""


def distill(recipe: Recipe, run: Run) -> Stage:
    """Ask each teacher every question, `distill.num_traces` times or until its answer is right.

    Raises WorkFailed when replies are missing at the end, naming how many and why; running the stage again asks only
    those. KeyboardInterrupt after Ctrl-C: the first finishes what is in flight, the second stops at once.
    """
    settings = recipe.distill
    references = [each.teacher for each in settings.each]
    recorded = [Path(name.removeprefix("recorded:")) for name in references if name.startswith("recorded:")]
    inputs = [*run.shards("collect", "questions"), *(path for path in recorded if path.is_file())]
    models = fingerprints(filter(is_local, references))
    stage = run.open("distill", identity_of(settings), recipe.seed, inputs, models)
    if stage.is_done and not settings.retry:
        return stage
    recipe = _of_part(recipe, run, references)
    is_spread = settings.executor == "ray" or (settings.num_engines or 1) > 1
    if is_spread and not any(map(is_local, references)):
        say("distill: no teacher is a local engine, so executor and num_engines are not used.")
        is_spread = False
    is_all_there = len(stage.shards("traces")) * _block_size(settings) >= _num_places(run, settings)
    asked = open_teachers(recipe, load_engines=not (is_spread or is_all_there))
    try:
        if settings.retry and not retry(stage, asked, settings.retry) and stage.is_done:
            return stage
        say_what_it_means(recipe, asked)
        work = _ask_all(recipe, run, stage, asked, is_spread)
    finally:
        asked.close()
    if run.part is not None and not (work.is_stopping or work.failures or work.stopped_by):
        return stage
    if work.is_stopping:
        say("distill: stopped; run the same command again to go on.")
        raise KeyboardInterrupt
    refuse_missing(work)
    sum_up(work, settings)
    refuse_many_unusable(stage, asked, settings.max_unusable)
    stage.finish()
    return stage


def _of_part(recipe: Recipe, run: Run, references: Sequence[str]) -> Recipe:
    """The recipe of one task of an array, which keeps a journal of its own: SQLite is not shared between machines."""
    if run.part is None:
        return recipe
    for name in references:
        if not is_local(name):
            raise InputError(
                f"the teacher {name!r} is asked from one process, which keeps its limits and the cap",
                where="--part",
                fix="Leave --part out, or take a local engine.",
            )
    path = journal_path(recipe)
    name = f"{path.stem}-part-{run.part.index}-of-{run.part.of}{path.suffix}"
    distill = recipe.distill.model_copy(update={"journal": str(path.with_name(name))})
    return recipe.model_copy(update={"distill": distill})


def _block_size(settings: Distill) -> int:
    """Places in a shard: those of whole questions."""
    a_question = places_a_question(settings)
    return max(1, BLOCK // a_question) * a_question


def _num_places(run: Run, settings: Distill) -> int:
    num_questions = sum(pq.read_metadata(path).num_rows for path in run.shards("collect", "questions"))
    return int(num_questions * places_a_question(settings))


def identity_of(settings: Distill) -> dict[str, Any]:
    """The settings that the traces depend on."""
    config = settings.model_dump(exclude=NOT_PART_OF_THE_RESULT | {"teachers"})
    entries = [entry.model_dump(exclude_unset=True, exclude=NOT_PART_OF_THE_RESULT) for entry in settings.teachers]
    return config | {"teachers": entries}


def _ask_all(recipe: Recipe, run: Run, stage: Stage, asked: OpenTeachers, is_spread: bool) -> DistillPass:
    settings = recipe.distill

    size, total = _block_size(settings), _num_places(run, settings)
    done = {int(path.stem[-5:]) for path in stage.shards("traces")}

    def blocks() -> Iterator[tuple[int, list[Assignment]]]:
        """The blocks of this part whose shards are not there, each of whole questions."""
        left = places(run.rows("collect", "questions", Question), settings)
        for number in count():
            if not (some := list(islice(left, size))):
                return
            if number not in done and (run.part is None or run.part.has(number)):
                yield number, some

    def all_places() -> Iterator[Assignment]:
        return (place for _, some in blocks() for place in some)

    num_open = sum(len(some) for _, some in blocks()) if done or run.part is not None else total
    verifier = Verifier(load_grader(own=settings.grader)) if settings.until_correct else None
    if settings.mode == "batch":
        ask_in_batches(recipe, asked, all_places(), num_open, verifier)
    if is_spread:
        ask_on_engines(recipe, asked, all_places(), verifier)
    with meter("distill", total=total, unit="traces") as bar:
        work = DistillPass(asked, stage, student_counter(recipe.train.base), verifier, bar, total, total - num_open)
        bar.advance(total - num_open)
        # The throttles keep to the concurrency; as many workers again wait until what has come back is on disk.
        run_async(_run(work, blocks(), sum(each.concurrency * 2 + 4 for each in settings.each)))
    return work


async def _run(work: DistillPass, blocks: Iterator[tuple[int, list[Assignment]]], concurrency: int) -> None:
    """Workers draw places from one iterator; a block that is settled becomes a shard."""
    pending = _open_blocks(blocks)
    tasks: list[asyncio.Task[None]] = []
    with _finishing_on_ctrl_c(work, tasks):
        async with work.asked:
            try:
                await in_parallel([_worker(work, pending) for _ in range(concurrency)], tasks)
            except asyncio.CancelledError:
                if not work.is_stopping:
                    raise


def _open_blocks(blocks: Iterator[tuple[int, list[Assignment]]]) -> Iterator[tuple[TraceBlock, int, Assignment]]:
    """The places to ask, with their blocks."""
    for number, some in blocks:
        block = TraceBlock(number, [[] for _ in some], to_come=len(some))
        for index, place in enumerate(some):
            yield block, index, place


async def _worker(work: DistillPass, pending: Iterator[tuple[TraceBlock, int, Assignment]]) -> None:
    for block, index, place in pending:
        if work.settling.locked():
            async with work.settling:
                pass
        try:
            block.traces[index] = await draw(place, work.asked.teachers[place.teacher], work.verifier)
        except Stopped as error:
            work.stopped_by = work.stopped_by or error
            return
        except Problem as problem:
            block.is_complete = False
            work.failures.append((place, str(problem)))
            work.kinds[problem.kind] += 1
        work.num_done += 1
        is_time = work.num_done % 64 == 0 or work.num_done == work.total
        work.bar.advance(1, note=work.asked.note(work.total - work.num_done) if is_time else "")
        block.to_come -= 1
        if not block.to_come:
            async with work.settling:
                await settle(work, block)
        if work.num_done % 8 == 0:
            await asyncio.sleep(0)  # a teacher that never waits would keep Ctrl-C waiting
        if work.is_stopping or work.stopped_by is not None:
            return


@contextmanager
def _finishing_on_ctrl_c(work: DistillPass, tasks: list[asyncio.Task[None]]) -> Iterator[None]:
    def on_interrupt() -> None:
        if work.is_stopping:
            for task in tasks:
                task.cancel()
            return
        work.is_stopping = True
        for client in work.asked.clients:  # whoever waits for a limit, an hour perhaps, need not
            client.throttle.give_up(Stopped("interrupted", fix="Run the same command again to go on."))
        say("distill: finishing what is in flight; Ctrl-C again to stop at once.")

    before = signal.getsignal(signal.SIGINT)
    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not in the main thread
        loop.add_signal_handler(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.remove_signal_handler(signal.SIGINT)
            # uvloop leaves its own handler behind, and the stages that follow would hear of no interrupt.
            signal.signal(signal.SIGINT, before)
