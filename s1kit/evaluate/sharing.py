"""One thinking pass serves every smaller setting: a transcript, replayed under another budget.

Thinking to 512 tokens is the first half of thinking to 1,024, and thinking with one Wait is thinking with four up to
the second stop. So a transcript is replayed through `forcing`, event by event; where the smaller budget would have
stopped, the prefix ends. It knows segments and counts; never engines.
"""

from __future__ import annotations

from dataclasses import dataclass

from s1kit.forcing import Insert, Sampled, StopAttempt, Thinking, ThinkingBudget, advance, begin
from s1kit.forcing.request import Prefix
from s1kit.records import Ending, Generation, Segment


@dataclass(frozen=True)
class Replayed:
    """A generation under a smaller budget, cut from one under a larger budget."""

    prefix: Prefix
    """Its thinking, and whether it was closed or cut off: an engine needs only to decode the answer."""
    ending: Ending
    """As the generation records it; `loop` is answered like a cutoff."""
    is_all: bool
    """Whether it is the parent's whole thinking with the parent's ending, whose answer is then the same."""


def replay(parent: Generation, budget: ThinkingBudget) -> Replayed | None:
    """The parent's thinking under `budget`; None when the parent does not hold it.

    It does not when it failed, when it closed where this budget asks for a wait, or when its own budget was spent and
    this one is not.
    """
    if parent.ending == "failed":
        return None
    thinking = tuple(s for s in parent.segments if s.kind in ("thinking", "wait"))
    state, move = begin(budget)
    wait_tokens = 1
    for segment in thinking:
        if state.closed:
            break
        if segment.kind == "wait":
            wait_tokens = segment.num_tokens
            state, move = advance(budget, wait_tokens, state, StopAttempt())
        else:
            state, move = advance(budget, 1, state, Sampled(min(segment.num_tokens, move.room)))
    ending: Ending
    if state.closed:
        ending = "cut_off" if move.insert is Insert.CUTOFF else "closed"
    elif parent.ending == "loop" or (parent.ending == "closed" and _may_stop(budget, wait_tokens, state)):
        ending = parent.ending
    else:
        return None
    is_all = state.spent == parent.thinking_tokens and ending == parent.ending
    return Replayed(_prefix(thinking, state.spent, ending), ending, is_all)


def _may_stop(budget: ThinkingBudget, wait_tokens: int, state: Thinking) -> bool:
    """Whether an attempt to stop would end thinking here, and not become a wait."""
    after, _ = advance(budget, wait_tokens, state, StopAttempt())
    return after.closed


def _prefix(thinking: tuple[Segment, ...], spent: int, ending: Ending) -> Prefix:
    total = sum(s.num_tokens for s in thinking)
    return Prefix(thinking, "closed" if ending == "closed" else "cut_off", spent if spent < total else None)
