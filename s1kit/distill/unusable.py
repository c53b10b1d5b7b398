"""Replies that cannot be used: counted at the end of the stage, named in a file, and asked again on demand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from s1kit.distill.chat_teacher import ChatTeacher
from s1kit.distill.open_teacher import OpenTeachers
from s1kit.errors import InputError, WorkFailed, nearest
from s1kit.files import read_rows
from s1kit.progress import say
from s1kit.providers.wires.reading import is_hidden
from s1kit.records import FinishReason, Trace
from s1kit.stage import Stage

UNUSABLE: tuple[FinishReason, ...] = ("failed", "malformed", "empty", "refused", "length", "cut")
"""Finish reasons of replies that are no whole answer."""
UNUSABLE_FILE = "unusable.jsonl"
NO_THINKING = "no-thinking"
"""How a whole reply counts whose thinking was paid for and is not in it."""


def check_finishes(finishes: Sequence[str]) -> None:
    """Raises InputError for an unknown finish reason."""
    known = (*UNUSABLE, NO_THINKING, "stop")
    for finish in finishes:
        if finish not in known:
            raise InputError(f"no reply ends with {finish!r}", where="distill.retry", fix=nearest(finish, known))


def retry(stage: Stage, asked: OpenTeachers, finishes: list[str]) -> int:
    """Forget the traces that ended so and open the stage again; returns how many are to be asked again.

    Their replies stay in the journal under another key: what was paid is kept. Raises InputError for a finish reason
    that there is none of, and for a teacher that has no journal.
    """
    check_finishes(finishes)
    chats = {
        each.settings.teacher: (each.client, each.teacher)
        for each in asked.teachers
        if each.client is not None and isinstance(each.teacher, ChatTeacher)
    }
    if not chats or asked.journal is None:
        raise InputError("this teacher is not asked again", where="distill.retry", fix="Leave it out.")
    num = 0
    for path in stage.shards("traces"):
        if not set(_kinds_in(path)) & set(finishes):
            continue
        again = [
            trace
            for trace in read_rows([path], Trace)
            if trace.teacher in chats and _kind(trace.finish_reason, trace.note) in finishes
        ]
        if not again:
            continue
        keys = []
        for trace in again:
            client, teacher = chats[trace.teacher]
            keys.append(teacher.request(client, trace.question, trace.draw).key)
        stage.receipt_path.unlink(missing_ok=True)
        path.unlink()  # first: killed in between, the rest of it comes from the journal
        asked.journal.set_aside(keys)
        num += len(again)
    say(f"distill: {num} replies that ended with {', '.join(finishes)} are asked again")
    return num


def refuse_many_unusable(stage: Stage, asked: OpenTeachers, max_share: float) -> None:
    """Raise WorkFailed, naming the file that lists them, when a larger share of the replies cannot be used."""
    path = stage.folder / UNUSABLE_FILE
    path.unlink(missing_ok=True)
    if not asked.clients:
        return
    kinds: Counter[str] = Counter()
    why: Counter[str] = Counter()
    total = 0
    lines = []
    for shard in stage.shards("traces"):
        found = _kinds_in(shard)
        total += len(found)
        if not set(found) & {*UNUSABLE, NO_THINKING}:
            continue
        for trace in read_rows([shard], Trace):
            if (kind := _kind(trace.finish_reason, trace.note)) != "stop":
                kinds[kind] += 1
                why[trace.note] += 1
                row = {"question_id": trace.question.id, "teacher": trace.teacher, "draw": trace.draw}
                lines.append(json.dumps(row | {"finish_reason": kind, "note": trace.note}))
    if not lines:
        return
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if len(lines) <= max_share * total:
        return
    most = ", ".join(f"{num} {kind}" for kind, num in kinds.most_common())
    del why[""]
    noted = next((f"; noted most often: {note[:300]}" for note, _ in why.most_common(1)), "")
    raise WorkFailed(
        f"{len(lines)} of {total} replies cannot be used ({most}), more than distill.max_unusable={max_share:g}{noted}",
        where=str(path),
        fix=f"Correct the cause and add --retry {','.join(kinds)}, or raise distill.max_unusable.",
    )


def _kind(finish: str, note: str) -> str:
    """The finish reason, or that a whole reply lacks the thinking that was paid for."""
    return NO_THINKING if finish == "stop" and is_hidden(note) else finish


def _kinds_in(shard: Path) -> list[str]:
    columns = pq.read_table(shard, columns=["finish_reason", "note"]).to_pydict()
    return [_kind(*row) for row in zip(columns["finish_reason"], columns["note"], strict=True)]
