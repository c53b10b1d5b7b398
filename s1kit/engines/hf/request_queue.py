"""Which requests run, by the memory that their keys and values take now.

How long a request will decode is not known, so none is given memory for all that it may come to. A request joins where
its context and some room to grow fit beside the running rows. When these outgrow the memory, the youngest are
preempted: they wait in front of all others and are computed again from their tokens. The oldest row is never preempted,
so every request ends.
"""

from __future__ import annotations

import sys
from collections import deque
from itertools import islice

from s1kit.engines.hf.joining import Context, PrefillGroup
from s1kit.engines.hf.rows import Active, RunningRows, reach


class RequestQueue:
    """The waiting requests, the oldest first, and the limits under which they join."""

    def __init__(self, max_batch: int, memory_tokens: int | None, prefill_tokens: int) -> None:
        """`memory_tokens`: rows times positions of the cache, at most; None: no limit."""
        self.waiting: deque[tuple[Active, Context]] = deque()
        self.memory_tokens = sys.maxsize if memory_tokens is None else memory_tokens
        self.num_preemptions = 0
        self._max_batch = max_batch
        self._prefill_tokens = prefill_tokens

    def is_over(self, num_rows: int, width: int) -> bool:
        """Whether so many rows of that width are too many. One row alone never is: it may take what there is."""
        return num_rows > 1 and num_rows * width > self.memory_tokens

    def put_back(self, active: Active) -> None:
        """A preempted request waits before all others; the youngest is put back first."""
        self.num_preemptions += 1
        self.waiting.appendleft((active, active.driver.context))

    def cancel(self, ticket: int) -> None:
        """Forget a waiting request."""
        self.waiting = deque(w for w in self.waiting if w[0].ticket != ticket)

    def end_thinking(self, ticket: int) -> None:
        """End the thinking of a waiting request where it stands."""
        for index, (active, context) in enumerate(self.waiting):
            if active.ticket == ticket:
                self.waiting[index] = active, (*context, *active.driver.end_thinking())

    def next_group(self, rows: RunningRows) -> PrefillGroup | None:
        """Requests that may join the running rows now, unless only a few may while many wait."""
        if not self.waiting:
            return None
        free, most = self._num_free(rows)
        # Prefilling one row at a time would halt the batch at every end of a row.
        if free < min(len(self.waiting), max(1, most // 8)):
            return None
        return PrefillGroup.of_first(self.waiting, free, self._prefill_tokens)

    def _num_free(self, rows: RunningRows) -> tuple[int, int]:
        """How many of the first waiting requests may join, and how many rows such as these may run in all."""
        running, most = len(rows), self._max_batch
        free, width = most - running, rows.reach()
        for number, (active, context) in enumerate(islice(self.waiting, free)):
            plan = active.driver.plan
            width = max(width, int(reach(len(context), plan.least_tokens, plan.total_tokens)))
            most = min(most, max(1, self.memory_tokens // width))
            if running + number + 1 > most:
                return number, most
        return free, most
