"""One pass over the questions: its state, how a block of traces becomes a shard, and how the pass ended.

What is missing is named in a file; the receipt gets counts and figures.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from s1kit.distill.drawing import Assignment, Verifier
from s1kit.distill.open_teacher import OpenTeachers
from s1kit.distill.student_tokens import Count
from s1kit.engines.interface import ServerMeter, add_up
from s1kit.errors import WorkFailed
from s1kit.files import write_table
from s1kit.grade.equality import agreements
from s1kit.progress import Meter, say
from s1kit.providers.chat import Stopped
from s1kit.providers.client import Client
from s1kit.recipe import Distill
from s1kit.records import Trace, arrow_schema, to_arrow
from s1kit.stage import Stage

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


def refuse_missing(work: DistillPass) -> None:
    """Raise what stopped the run, or WorkFailed with the number of missing replies, which `failures.jsonl` lists."""
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
    is_batch = any(each.settings.mode == "batch" for each in work.asked.teachers)
    how = ", in a new job, or at once with distill.mode=online" if is_batch else ""
    raise WorkFailed(
        f"{len(work.failures)} of {work.total} replies are missing: {kinds}",
        where=str(path),
        fix=f"Run the same command again: it asks only for those{how}.",
    )


def sum_up(work: DistillPass, settings: Distill) -> None:
    """Counts and figures for the receipt, from the shards, so that a resumed run says the same."""
    stage = work.stage
    _add_traces(stage, settings)
    stage.counts["in"] = stage.counts["out"]
    stage.figures["thinking_tokens_counted_in"] = "student tokens" if work.count else "the teacher's own count"
    if settings.until_correct:
        correct = stage.counts["verdict:correct"]
        mean = round(stage.counts["out"] / max(1, work.total), 4)
        stage.figures["draws"] = {"mean": mean, "most": settings.until_correct, "ended_correct": correct}
        say(f"distill: {correct} of {work.total} were answered correctly, with {mean:.2f} draws on average.")
    for each in work.asked.teachers:
        if figures := ServerMeter().take([each.engine]):
            add_up(stage.figures.setdefault("servers", {}), figures)
    if work.asked.clients:
        stage.figures["requests"] = _requests(work.asked.clients)
        _say_who_answered(work.asked.clients)
    (stage.folder / "failures.jsonl").unlink(missing_ok=True)


def _add_traces(stage: Stage, settings: Distill) -> None:
    """Count the traces of all shards by how they ended, their terms and verdicts, and add up tokens and dollars."""
    tokens, cost = Counter[str](), 0.0
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
    stage.figures |= {"tokens": dict(tokens), "cost_usd": round(cost, 6)}
    if compared:
        stage.figures["agreement"] = {"traces": compared, "all_replies_say_the_same": unanimous}


def _requests(clients: Sequence[Client]) -> dict[str, Any]:
    """Requests of all clients: sent, answered from the journal, lost on the way, and problems by kind."""
    problems: Counter[str] = Counter()
    models: Counter[str] = Counter()
    for client in clients:
        problems += client.tally.problems
        models += client.tally.models
    return {
        "sent": sum(client.tally.sent for client in clients),
        "from_journal": sum(client.tally.from_journal for client in clients),
        "lost_on_the_way": sum(client.spend_cap.num_lost for client in clients),
        "problems": dict(problems),
        "answered_by": dict(models),
    }


def _say_who_answered(clients: Sequence[Client]) -> None:
    """Tell of a model that was another one in the middle, and of one that does not keep to the thinking budget."""
    for client in clients:
        tally, reference = client.tally, client.model.reference
        if len(tally.models) > 1:
            named = ", ".join(f"{name} ({num})" for name, num in tally.models.most_common(5))
            say(f"distill: {reference} was answered by {len(tally.models)} models: {named}.")
        if tally.over_budget:
            say(
                f"distill: {tally.over_budget} replies of {reference} thought for up to {tally.most_thinking} tokens,"
                f" with thinking_budget={client.parameters.thinking_budget}: this server does not honour it."
            )


def _columns(path: Path, names: list[str]) -> dict[str, list[Any]]:
    """Columns of a shard; one that an older version did not write is empty."""
    there = pq.read_schema(path).names
    table = pq.read_table(path, columns=[name for name in names if name in there])
    return {name: [None] * table.num_rows for name in names} | dict(table.to_pydict())
