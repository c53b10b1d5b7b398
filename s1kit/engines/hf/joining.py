"""Which waiting requests one prefill pass serves: some are computed, others share the beginning of one of those."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from s1kit.engines.hf.rows import Active

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
