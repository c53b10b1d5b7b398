"""Budget forcing as one pure machine (s1 paper, section 3.1). It knows counts; never text, tensors or sockets.

Thinking ends because the model tries to stop or because the budget is spent. So there are two events and one answer:

    state, move = begin(budget)                          # move.room tokens may be sampled before reporting back
    state, move = advance(budget, 1, state, Sampled(3))  # three tokens were sampled
    state, move = advance(budget, 1, state, StopAttempt())

`move.insert` says what the driver must put into the text now: nothing, a wait in place of the stop, the end that the
model wanted, or the end that the budget demands. The two drivers are `token_driver` and `segment_driver`; since
`Sampled(a)` then `Sampled(b)` equals `Sampled(a + b)`, they give the same transcript.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

UNLIMITED: Final = 2**31 - 1
"""As `max_tokens`: as much thinking as there is room for. An engine resolves it to that number before it begins."""


class Insert(StrEnum):
    """What the driver puts into the text before anything else is sampled."""

    NOTHING = "nothing"
    WAIT = "wait"
    """The wait phrase, in place of the stop. Thinking goes on."""
    CLOSE = "close"
    """The end delimiter: the model wanted to stop and may."""
    CUTOFF = "cutoff"
    """The end delimiter, then the closing phrase: the budget is spent.

    `Move.wait_tokens` ids of the wait come first.
    """


@dataclass(frozen=True, slots=True)
class ThinkingBudget:
    """How long thinking may and must last, in tokens, inserted ones included.

    >>> ThinkingBudget(max_tokens=8, min_tokens=9)
    Traceback (most recent call last):
    ...
    ValueError: budget.min_tokens is 9, above budget.max_tokens, which is 8. Lower the minimum or raise the maximum.
    """

    max_tokens: int
    """Upper bound, inclusive. 0 is legal: no thinking at all, the leftmost point of the curve."""
    min_tokens: int = 0
    """Lower bound, inclusive: stops below it become waits, whatever `num_waits` says. At most `max_tokens`; equal to it
    means exactly so many thinking tokens."""
    num_waits: int = 0
    """How many stop attempts become waits, if there is room."""

    def __post_init__(self) -> None:
        for name in ("max_tokens", "min_tokens", "num_waits"):
            value = getattr(self, name)
            if type(value) is not int:
                raise ValueError(
                    f"budget.{name} is {value!r}, not an integer. Give a whole number of tokens, 0 or more."
                )
            if value < 0:
                raise ValueError(f"budget.{name} is {value}, below zero. Give 0 or more.")
        if self.min_tokens > self.max_tokens:
            raise ValueError(
                f"budget.min_tokens is {self.min_tokens}, above budget.max_tokens, which is {self.max_tokens}. "
                "Lower the minimum or raise the maximum."
            )


@dataclass(frozen=True, slots=True)
class Thinking:
    """State of one request's thinking: tokens spent, waits used, closed or not."""

    spent: int = 0
    """Thinking tokens so far, inserted ones included, delimiters not."""
    waits: int = 0
    """Stop attempts already turned into a wait."""
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Sampled:
    """The model sampled `num_tokens` thinking tokens, none of them a stop."""

    num_tokens: int


@dataclass(frozen=True, slots=True)
class StopAttempt:
    """The model emitted the end delimiter, or end of sequence, while thinking."""


@dataclass(frozen=True, slots=True)
class Move:
    """The machine's answer to an event."""

    insert: Insert
    room: int
    """Tokens that may be sampled before reporting back; 0 exactly when closed."""
    wait_tokens: int = 0
    """How many ids of the wait the driver puts in first: all of them for WAIT, as many as there is room for where a
    CUTOFF follows a stop below the minimum, else 0."""


def begin(budget: ThinkingBudget) -> tuple[Thinking, Move]:
    """The state before the first thinking token. A zero budget is closed at once."""
    return _after(budget, Thinking(), Insert.NOTHING)


def advance(
    budget: ThinkingBudget, wait_tokens: int, state: Thinking, event: Sampled | StopAttempt
) -> tuple[Thinking, Move]:
    """One step of the machine: the state after an event, and the move it calls for.

    `wait_tokens`: tokens of the wait that would be inserted next, at least 1. Raises ValueError on an event after the
    close, on more tokens than there was room for, and on a wait of no tokens.
    """
    if wait_tokens < 1:
        raise ValueError(f"wait_tokens is {wait_tokens}: a wait takes at least one token.")
    if state.closed:
        raise ValueError(f"thinking is closed and accepts no event, but got {event}.")
    match event:
        case Sampled(num_tokens):
            room = budget.max_tokens - state.spent
            if not 0 <= num_tokens <= room:
                raise ValueError(f"{num_tokens} tokens were sampled where there was room for 0 to {room}.")
            return _after(budget, replace(state, spent=state.spent + num_tokens), Insert.NOTHING)
        case StopAttempt():
            is_wanted = state.waits < budget.num_waits or state.spent < budget.min_tokens
            # A wait that leaves no room to think would only lengthen the text: the model may stop instead,
            # unless thinking is still too short. The wait is then cut to the room, and both bounds hold.
            fits = state.spent + wait_tokens < budget.max_tokens
            if is_wanted and (fits or state.spent < budget.min_tokens):
                used = min(wait_tokens, budget.max_tokens - state.spent)
                return _after(budget, Thinking(state.spent + used, state.waits + 1), Insert.WAIT, used)
            return replace(state, closed=True), Move(Insert.CLOSE, room=0)


def _after(budget: ThinkingBudget, state: Thinking, insert: Insert, wait_tokens: int = 0) -> tuple[Thinking, Move]:
    room = budget.max_tokens - state.spent
    if room == 0:
        return replace(state, closed=True), Move(Insert.CUTOFF, 0, wait_tokens)
    return state, Move(insert, room, wait_tokens)
