"""One pass over the questions: its state, and how a block of traces becomes a shard once it is complete."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby

import pyarrow as pa

from s1kit.distill.drawing import Assignment, Verifier
from s1kit.distill.open_teacher import OpenTeachers
from s1kit.distill.student_tokens import Count
from s1kit.grade.agreement import agreements
from s1kit.progress import Meter
from s1kit.providers.chat import Stopped
from s1kit.records import Trace, arrow_schema, to_arrow
from s1kit.stage import Stage, write_table

ROWS_AT_ONCE = 64
MAX_SETTLING = 2


@dataclass
class TraceBlock:
    """A shard being filled."""

    number: int
    traces: list[list[Trace]]
    """The traces of each place."""
    to_come: int
    is_complete: bool = True


@dataclass
class DistillPass:
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
    settling: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_SETTLING))
    """Blocks that are becoming shards. While it is locked nothing new is asked: replies out of the journal come faster
    than shards are written, and would fill the memory."""
    is_stopping: bool = False
    stopped_by: Stopped | None = None


async def settle(work: DistillPass, block: TraceBlock) -> None:
    """Write a finished block as a shard; one with missing replies is left to the next run, which asks for those."""
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
