"""The state of one pass over the questions: the shards being filled, what failed, and what stopped it."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from s1kit.distill.drawing import Assignment, Verifier
from s1kit.distill.open_teacher import OpenTeachers
from s1kit.distill.student_tokens import Count
from s1kit.progress import Meter
from s1kit.providers.chat import Stopped
from s1kit.records import Trace
from s1kit.stage import Stage

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
