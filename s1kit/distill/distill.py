"""traces <- the teachers, each asked every question.

Questions are asked concurrently, and their traces written in blocks of fixed places, so that a killed run goes on where
it was and the files come out the same. Replies that cost money are in the journal before they get here.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count, groupby, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from s1kit.distill.batched import ask_in_batches
from s1kit.distill.drawing import Assignment, Verifier, draw, places, places_a_question
from s1kit.distill.on_engines import ask_on_engines
from s1kit.distill.open_teacher import ENGINES, OpenTeachers, journal_path, open_teachers, say_what_it_means
from s1kit.distill.student_tokens import Count, student_counter
from s1kit.distill.unusable import refuse_many_unusable, retry
from s1kit.engines.servers import ServerMeter, add_up
from s1kit.errors import InputError, WorkFailed
from s1kit.grade import load_grader
from s1kit.grade.agreement import agreements
from s1kit.progress import Meter, meter, say
from s1kit.providers.chat import Problem, Stopped
from s1kit.providers.sync import in_parallel, run_async
from s1kit.recipe import WORKERS, Distill, Recipe
from s1kit.records import Question, Trace, arrow_schema, to_arrow
from s1kit.stage import Run, Stage, write_table

BLOCK = 1024
"""Traces a shard. A trace of 5,000 tokens is some 20 KB, so an open block is some 20 MB."""

ROWS_AT_ONCE = 64

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


@dataclass
class _Block:
    """A shard being filled."""

    number: int
    traces: list[list[Trace]]
    """The traces of each place."""
    to_come: int
    is_complete: bool = True


@dataclass
class _Work:
    """One pass over the questions."""

    asked: OpenTeachers
    stage: Stage
    count: Count | None
    verifier: Verifier | None
    bar: Meter
    total: int
    num_done: int = 0
    failures: list[tuple[Assignment, str]] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    is_stopping: bool = False
    stopped_by: Stopped | None = None


def distill(recipe: Recipe, run: Run) -> Stage:
    """Ask each teacher every question, `distill.num_traces` times or until its answer is right.

    Raises WorkFailed when replies are missing at the end, naming how many and why; running the stage again asks only
    those. KeyboardInterrupt after Ctrl-C: the first finishes what is in flight, the second stops at once.
    """
    settings = recipe.distill
    references = [each.teacher for each in settings.each]
    recorded = [Path(name.removeprefix("recorded:")) for name in references if name.startswith("recorded:")]
    inputs = [*run.shards("collect", "questions"), *(path for path in recorded if path.is_file())]
    stage = run.open("distill", config=_what_is_asked(settings), seed=recipe.seed, inputs=inputs)
    if stage.is_done and not settings.retry:
        return stage
    recipe = _of_part(recipe, run, references)
    is_spread = settings.executor == "ray" or (settings.num_engines or 1) > 1
    if is_spread and not any(name.partition(":")[0] in ENGINES for name in references):
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
    _refuse_missing(work)
    _sum_up(work, settings)
    refuse_many_unusable(stage, asked, settings.max_unusable)
    stage.finish()
    return stage


def _of_part(recipe: Recipe, run: Run, references: Sequence[str]) -> Recipe:
    """The recipe of one task of an array, which keeps a journal of its own: SQLite is not shared between machines."""
    if run.part is None:
        return recipe
    for name in references:
        if name.partition(":")[0] not in ENGINES:
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


def _what_is_asked(settings: Distill) -> dict[str, Any]:
    """The settings that the traces depend on."""
    config = settings.model_dump(exclude=NOT_PART_OF_THE_RESULT | {"teachers"})
    entries = [entry.model_dump(exclude_unset=True, exclude=NOT_PART_OF_THE_RESULT) for entry in settings.teachers]
    return config | {"teachers": entries}


def _ask_all(recipe: Recipe, run: Run, stage: Stage, asked: OpenTeachers, is_spread: bool) -> _Work:
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
        work = _Work(asked, stage, student_counter(recipe.train.base), verifier, bar, total, total - num_open)
        bar.advance(total - num_open)
        # The throttles keep to the concurrency; as many workers again wait until what has come back is on disk.
        run_async(_run(work, blocks(), sum(each.concurrency * 2 + 4 for each in settings.each)))
    return work


async def _run(work: _Work, blocks: Iterator[tuple[int, list[Assignment]]], concurrency: int) -> None:
    """Workers draw places from one iterator; a block that is settled becomes a shard."""
    pending = _open_blocks(blocks)
    tasks: list[asyncio.Task[None]] = []
    with _finishing_on_ctrl_c(work, tasks):
        async with work.asked:
            try:
                await in_parallel(lambda: _worker(work, pending), concurrency, tasks)
            except asyncio.CancelledError:
                if not work.is_stopping:
                    raise


def _open_blocks(blocks: Iterator[tuple[int, list[Assignment]]]) -> Iterator[tuple[_Block, int, Assignment]]:
    """The places to ask, with their blocks."""
    for number, some in blocks:
        block = _Block(number, [[] for _ in some], to_come=len(some))
        for index, place in enumerate(some):
            yield block, index, place


async def _worker(work: _Work, pending: Iterator[tuple[_Block, int, Assignment]]) -> None:
    for block, index, place in pending:
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
            await _settle(work, block)
        if work.num_done % 8 == 0:
            await asyncio.sleep(0)  # a teacher that never waits would keep Ctrl-C waiting
        if work.is_stopping or work.stopped_by is not None:
            return


async def _settle(work: _Work, block: _Block) -> None:
    """A settled block as a shard; one with replies missing is left to the next run, which finds the rest journalled."""
    traces = [trace for of_place in block.traces for trace in of_place]
    block.traces = []
    if not block.is_complete:
        return
    if len(traces) > len({trace.question.id for trace in traces}):
        traces = await asyncio.to_thread(_with_agreement, traces)
    if work.count is not None:
        counts = await asyncio.to_thread(work.count, [trace.thinking for trace in traces])
        traces = [t.model_copy(update={"thinking_tokens": n}) for t, n in zip(traces, counts, strict=True)]
    # Bit by bit and here, not in a thread: that would hold the interpreter, and with it all replies, for longer.
    batches = []
    for start in range(0, len(traces), ROWS_AT_ONCE):
        rows = [to_arrow(trace) for trace in traces[start : start + ROWS_AT_ONCE]]
        batches.append(pa.RecordBatch.from_pylist(rows, schema=arrow_schema(Trace)))
        await asyncio.sleep(0)
    path = work.stage.shard_path("traces", block.number)
    await asyncio.to_thread(write_table, path, pa.Table.from_batches(batches, schema=arrow_schema(Trace)))


def _with_agreement(traces: list[Trace]) -> list[Trace]:
    """The traces, those of a question side by side, each with how many of the question's replies say the same."""
    compared = []
    for _, group in groupby(traces, key=lambda trace: trace.question.id):
        replies = list(group)
        # What was cut off, refused or failed states nothing.
        found = agreements(replies[0].question, [t.answer if t.finish_reason == "stop" else "" for t in replies])
        compared += [t.model_copy(update={"agreement": each}) for t, each in zip(replies, found, strict=True)]
    return compared


@contextmanager
def _finishing_on_ctrl_c(work: _Work, tasks: list[asyncio.Task[None]]) -> Iterator[None]:
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


def _refuse_missing(work: _Work) -> None:
    """Raise what stopped the run, or say how many replies are missing and why, naming them in a file."""
    if work.stopped_by is not None:
        stop = work.stopped_by
        raise type(stop)(
            f"distill stopped with {work.num_done} of {work.total} replies: {stop.what}", where=stop.where, fix=stop.fix
        ) from stop
    if not work.failures:
        return
    path = work.stage.folder / "failures.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for place, reason in work.failures:
            teacher = work.asked.teachers[place.teacher].settings.teacher
            row = {"question_id": place.question.id, "teacher": teacher, "draw": place.draws[0], "reason": reason}
            file.write(json.dumps(row) + "\n")
    kinds = ", ".join(f"{num} {kind}" for kind, num in work.kinds.most_common(4))
    raise WorkFailed(
        f"{len(work.failures)} of {work.total} replies are missing: {kinds}",
        where=str(path),
        fix="Run the same command again: it asks only for those.",
    )


def _sum_up(work: _Work, settings: Distill) -> None:
    """Counts and figures for the receipt, from the shards, so that a resumed run says the same."""
    stage, tokens, cost = work.stage, Counter[str](), 0.0
    unanimous = compared = 0
    for path in stage.shards("traces"):
        names = ["thinking_tokens", "finish_reason", "terms", "cost_usd", "usage", "teacher", "verdict", "agreement"]
        columns = _columns(path, names)
        stage.counts["out"] += len(columns["terms"])
        stage.counts += Counter(f"finish:{reason}" for reason in columns["finish_reason"])
        stage.counts += Counter(f"terms:{terms}" for terms in columns["terms"])
        stage.counts += Counter(f"verdict:{verdict}" for verdict in columns["verdict"] if verdict)
        if settings.teachers:
            stage.counts += Counter(f"teacher:{teacher}" for teacher in columns["teacher"])
        agreed = [each for each in columns["agreement"] if each]
        compared += len(agreed)
        unanimous += sum(each["num_same"] == each["num_replies"] for each in agreed)
        tokens["thinking"] += sum(columns["thinking_tokens"])
        tokens["input"] += sum(usage["input_tokens"] for usage in columns["usage"])
        tokens["output"] += sum(usage["output_tokens"] for usage in columns["usage"])
        cost += sum(columns["cost_usd"])
    stage.counts["in"] = stage.counts["out"]
    stage.figures |= {"tokens": dict(tokens), "cost_usd": round(cost, 6)}
    stage.figures["thinking_tokens_counted_in"] = "student tokens" if work.count else "the teacher's own count"
    if compared:
        stage.figures["agreement"] = {"traces": compared, "all_replies_say_the_same": unanimous}
    if settings.until_correct:
        correct = stage.counts["verdict:correct"]
        mean = round(stage.counts["out"] / max(1, work.total), 4)
        stage.figures["draws"] = {"mean": mean, "most": settings.until_correct, "ended_correct": correct}
        say(f"distill: {correct} of {work.total} were answered correctly, with {mean:.2f} draws on average.")
    for each in work.asked.teachers:
        if figures := ServerMeter().take([each.engine]):
            add_up(stage.figures.setdefault("servers", {}), figures)
    if work.asked.clients:
        sums: Counter[str] = Counter()
        problems: Counter[str] = Counter()
        for client in work.asked.clients:
            tally = client.tally
            problems += tally.problems
            sums += Counter(sent=tally.sent, from_journal=tally.from_journal, lost_on_the_way=client.spend_cap.num_lost)
        names = ["sent", "from_journal", "lost_on_the_way"]
        stage.figures["requests"] = {name: sums[name] for name in names} | {"problems": dict(problems)}
    (stage.folder / "failures.jsonl").unlink(missing_ok=True)


def _columns(path: Path, names: list[str]) -> dict[str, list[Any]]:
    """Columns of a shard; one that an older version did not write is empty."""
    there = pq.read_schema(path).names
    table = pq.read_table(path, columns=[name for name in names if name in there])
    return {name: [None] * table.num_rows for name in names} | dict(table.to_pydict())
