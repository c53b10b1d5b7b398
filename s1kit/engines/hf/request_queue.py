"""Which requests run, by the memory that their keys and values take now, and which of them one prefill pass serves.

How long a request will decode is not known, so none is given memory for all that it may come to. A request joins where
its context and some room to grow fit beside the running rows. When these outgrow the memory, the youngest are
preempted: they wait in front of all others and are computed again from their tokens. The oldest row is never preempted,
so every request ends.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from s1kit.engines.hf.running_rows import Active, RunningRows, reach

Context = tuple[int, ...]

_SHORT_TAIL = 32
"""A context that differs from another one only in so many last ids takes over its keys and values."""


@dataclass(frozen=True, slots=True)
class PrefixSharer:
    """A request whose context begins like another's: it shares that prefix's keys and values and adds only its tail."""

    active: Active
    owner: int
    num_shared: int
    tail: Context


@dataclass
class PrefillGroup:
    """Requests that one prefill pass serves: owners of a prefix are computed, sharers copy their keys and values.

    An evaluation that answers one question from many lengths of the same thinking is mostly sharers.
    """

    owners: list[Active] = field(default_factory=list)
    contexts: list[Context] = field(default_factory=list)
    sharers: list[PrefixSharer] = field(default_factory=list)
    _owner_of_prompt: dict[Context, int] = field(default_factory=dict)

    @property
    def members(self) -> list[Active]:
        return self.owners + [sharer.active for sharer in self.sharers]

    @property
    def width(self) -> int:
        """Positions that its passes write to."""
        shared = max((sharer.num_shared for sharer in self.sharers), default=0)
        tail = max((len(sharer.tail) for sharer in self.sharers), default=0)
        return max(shared + tail, max(map(len, self.contexts)))

    @classmethod
    def of_first(cls, waiting: deque[tuple[Active, Context]], most: int, most_tokens: int) -> PrefillGroup:
        """Take the next waiting requests, at most so many, and in one pass at most so many tokens with padding."""
        group = cls()
        longest = 0
        while waiting and len(group.owners) + len(group.sharers) < most:
            active, context = waiting[0]
            if not group._can_share(active, context):
                longest = max(longest, len(context))
                if group.owners and longest * (len(group.owners) + 1) > most_tokens:
                    break
                group._add_owner(active, context)
            waiting.popleft()
        return group

    def _add_owner(self, active: Active, context: Context) -> None:
        self._owner_of_prompt[active.driver.plan.prompt_ids] = len(self.owners)
        self.owners.append(active)
        self.contexts.append(context)

    def _can_share(self, active: Active, context: Context) -> bool:
        """Whether a request of the same prompt has nearly all of its context; if so, it is added as a sharer."""
        owner = self._owner_of_prompt.get(active.driver.plan.prompt_ids)
        if owner is None:
            return False
        shared = min(_num_shared(self.contexts[owner], context), len(context) - 1)
        if len(context) - shared > _SHORT_TAIL:
            return False
        self.sharers.append(PrefixSharer(active, owner, shared, context[shared:]))
        return True


def _num_shared(a: Sequence[int], b: Sequence[int]) -> int:
    """How many first ids two contexts share."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


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
