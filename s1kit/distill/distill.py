"""traces <- the teacher, asked once a question.

Questions are asked concurrently, and their traces written in blocks of fixed places, so that a killed run goes on where
it was and the files come out the same. Replies that cost money are in the journal before they get here.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from s1kit.distill.batched import ask_in_batches
from s1kit.distill.open_teacher import Asked, open_teacher, say_what_it_means
from s1kit.distill.student_tokens import Count, student_counter
from s1kit.distill.unusable import refuse_many_unusable, retry
from s1kit.errors import WorkFailed
from s1kit.progress import Meter, meter, say
from s1kit.providers.chat import Problem, Stopped
from s1kit.providers.sync import in_parallel, run_async
from s1kit.recipe import Recipe
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
}
"""Settings that may change between two runs of one stage: they decide how and when, not what is asked."""


@dataclass
class _Block:
    """A shard being filled."""

    number: int
    traces: list[Trace | None]
    to_come: int
    is_complete: bool = True


@dataclass
class _Work:
    """One pass over the questions."""

    asked: Asked
    stage: Stage
    count: Count | None
    bar: Meter
    total: int
    num_done: int = 0
    failures: list[tuple[Question, int, str]] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    is_stopping: bool = False
    stopped_by: Stopped | None = None


def distill(recipe: Recipe, run: Run) -> Stage:
    """Ask `distill.teacher` every question `distill.num_traces` times.

    Raises WorkFailed when replies are missing at the end, naming how many and why; running the stage again asks only
    those. KeyboardInterrupt after Ctrl-C: the first finishes what is in flight, the second stops at once.
    """
    questions = run.shards("collect", "questions")
    reference = recipe.distill.teacher
    recorded = [Path(reference.removeprefix("recorded:"))] if reference.startswith("recorded:") else []
    config = recipe.distill.model_dump(exclude=NOT_PART_OF_THE_RESULT)
    inputs = [*questions, *(path for path in recorded if path.is_file())]
    stage = run.open("distill", config=config, seed=recipe.seed, inputs=inputs)
    if stage.is_done and not recipe.distill.retry:
        return stage
    asked = open_teacher(recipe)
    try:
        if recipe.distill.retry and not retry(stage, asked, recipe.distill.retry) and stage.is_done:
            return stage
        say_what_it_means(recipe, asked)
        work = _ask_all(recipe, run, stage, asked)
    finally:
        asked.close()
    if work.is_stopping:
        say("distill: stopped; run the same command again to go on.")
        raise KeyboardInterrupt
    _refuse_missing(work)
    _sum_up(work)
    refuse_many_unusable(stage, asked, recipe.distill.max_unusable)
    stage.finish()
    return stage


def _ask_all(recipe: Recipe, run: Run, stage: Stage, asked: Asked) -> _Work:
    num_traces = recipe.distill.num_traces
    total = sum(pq.read_metadata(path).num_rows for path in run.shards("collect", "questions")) * num_traces
    if recipe.distill.mode == "batch":
        ask_in_batches(recipe, asked, _places(run.rows("collect", "questions", Question), num_traces), total)
    with meter("distill", total=total, unit="traces") as bar:
        work = _Work(asked, stage, student_counter(recipe.train.base), bar, total)
        places = _places(run.rows("collect", "questions", Question), num_traces)
        # The throttle keeps to the concurrency; some more workers are busy with what has come back.
        run_async(_run(work, places, recipe.distill.concurrency * 3 // 2 + 4))
    return work


def _places(questions: Iterable[Question], num_traces: int) -> Iterator[tuple[Question, int]]:
    for question in questions:
        for draw in range(num_traces):
            yield question, draw


async def _run(work: _Work, places: Iterator[tuple[Question, int]], concurrency: int) -> None:
    """Workers draw places from one iterator; a block that is settled becomes a shard."""
    pending = _open_blocks(work, places)
    tasks: list[asyncio.Task[None]] = []
    with _finishing_on_ctrl_c(work, tasks):
        async with work.asked:
            try:
                await in_parallel(lambda: _worker(work, pending), concurrency, tasks)
            except asyncio.CancelledError:
                if not work.is_stopping:
                    raise


def _open_blocks(work: _Work, places: Iterator[tuple[Question, int]]) -> Iterator[tuple[_Block, int, Question, int]]:
    """The places still to ask, with their blocks. A block whose shard is there is done."""
    number = 0
    done = {int(path.stem[-5:]) for path in work.stage.shards("traces")}
    while some := list(_take(places, BLOCK)):
        if number in done:
            work.num_done += len(some)
            work.bar.advance(len(some))
        else:
            block = _Block(number, [None] * len(some), to_come=len(some))
            for index, (question, draw) in enumerate(some):
                yield block, index, question, draw
        number += 1


def _take(items: Iterator[tuple[Question, int]], num: int) -> Iterator[tuple[Question, int]]:
    for _ in range(num):
        try:
            yield next(items)
        except StopIteration:
            return


async def _worker(work: _Work, pending: Iterator[tuple[_Block, int, Question, int]]) -> None:
    for block, index, question, draw in pending:
        try:
            block.traces[index] = await work.asked.teacher.ask(question, draw)
        except Stopped as error:
            work.stopped_by = work.stopped_by or error
            return
        except Problem as problem:
            block.is_complete = False
            work.failures.append((question, draw, str(problem)))
            work.kinds[problem.kind] += 1
        work.num_done += 1
        is_time = work.num_done % 64 == 0 or work.num_done == work.total
        work.bar.advance(1, note=work.asked.note(work.total - work.num_done) if is_time else "")
        block.to_come -= 1
        if not block.to_come:
            await _settle(work, block)
        await asyncio.sleep(0)  # a teacher that never waits would keep Ctrl-C waiting
        if work.is_stopping or work.stopped_by is not None:
            return


async def _settle(work: _Work, block: _Block) -> None:
    """A settled block as a shard; one with replies missing is left to the next run, which finds the rest journalled."""
    traces = [trace for trace in block.traces if trace is not None]
    block.traces = []
    if not block.is_complete:
        return
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


@contextmanager
def _finishing_on_ctrl_c(work: _Work, tasks: list[asyncio.Task[None]]) -> Iterator[None]:
    def on_interrupt() -> None:
        if work.is_stopping:
            for task in tasks:
                task.cancel()
            return
        work.is_stopping = True
        if work.asked.client is not None:  # whoever waits for a limit, an hour perhaps, need not
            work.asked.client.throttle.give_up(Stopped("interrupted", fix="Run the same command again to go on."))
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
        for question, draw, reason in work.failures:
            file.write(json.dumps({"question_id": question.id, "draw": draw, "reason": reason}) + "\n")
    kinds = ", ".join(f"{num} {kind}" for kind, num in work.kinds.most_common(4))
    raise WorkFailed(
        f"{len(work.failures)} of {work.total} replies are missing: {kinds}",
        where=str(path),
        fix="Run the same command again: it asks only for those.",
    )


def _sum_up(work: _Work) -> None:
    """Counts and figures for the receipt, from the shards, so that a resumed run says the same."""
    stage, tokens, cost = work.stage, Counter[str](), 0.0
    for path in stage.shards("traces"):
        names = ["thinking_tokens", "finish_reason", "terms", "cost_usd", "usage"]
        columns = pq.read_table(path, columns=names).to_pydict()
        stage.counts["out"] += len(columns["terms"])
        stage.counts += Counter(f"finish:{reason}" for reason in columns["finish_reason"])
        stage.counts += Counter(f"terms:{terms}" for terms in columns["terms"])
        tokens["thinking"] += sum(columns["thinking_tokens"])
        tokens["input"] += sum(usage["input_tokens"] for usage in columns["usage"])
        tokens["output"] += sum(usage["output_tokens"] for usage in columns["usage"])
        cost += sum(columns["cost_usd"])
    stage.counts["in"] = stage.counts["out"]
    stage.figures |= {"tokens": dict(tokens), "cost_usd": round(cost, 6)}
    stage.figures["thinking_tokens_counted_in"] = "student tokens" if work.count else "the teacher's own count"
    if work.asked.client is not None:
        client = work.asked.client
        stage.figures["requests"] = {
            "sent": client.tally.sent,
            "from_journal": client.tally.from_journal,
            "problems": dict(client.tally.problems),
            "lost_on_the_way": client.spend_cap.num_lost,
        }
    (stage.folder / "failures.jsonl").unlink(missing_ok=True)
