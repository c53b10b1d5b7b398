"""Shows one completion while it comes: whole characters, nothing of a delimiter, no further than a loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from s1kit.forcing.detokenizer import Speech, Telling
from s1kit.forcing.plan import Plan
from s1kit.forcing.repetition import CHECK_EVERY, first_loop
from s1kit.forcing.segment_driver import Complete, Completed
from s1kit.forcing.token_driver import first_stop
from s1kit.records import Segment, SegmentKind

Show = Callable[[Segment], None]


class Live:
    """One completion that is being shown."""

    def __init__(self, plan: Plan, ask: Complete, thought: Sequence[int], show: Show) -> None:
        """`thought`: the thinking before it, for the loop guard."""
        self._plan, self._ask, self._show = plan, ask, show
        self._before = list(thought)
        self._after = ask.context[-1:]
        self._telling = Telling(Speech(plan.tokens, self._after))
        self._ids: list[int] = []
        tokens = plan.tokens
        self._stops = (tokens.format.end.rstrip(),) if ask.is_thinking else plan.request.stop
        if tokens.reopen_id is not None and tokens.reopen_id in ask.stop_ids:
            self._stops += (tokens.decode((tokens.reopen_id,)),)
        self._match = plan.tokens.match_ids if ask.is_thinking and plan.tokens.trigger_id is None else ()
        self._next_look = _next_look(len(self._before))
        self._is_cut = False
        """The text came to a stop; what the server sends after it is not shown."""

    @property
    def has_begun(self) -> bool:
        """Whether anything was shown."""
        return self._telling.length > 0 or bool(self._ids)

    def add_ids(self, ids: Sequence[int]) -> bool:
        """More ids came; returns False when thinking repeats itself and no more are wanted."""
        self._ids += [i for i in ids if i not in self._ask.stop_ids]
        if (length := self._loop()) is not None:
            del self._ids[length:]
        self._tell(self._ids[: len(self._ids) - self._num_held()])
        return length is None

    def add_text(self, text: str) -> None:
        """More text came from a server that sends no ids; they are told when it is over."""
        telling = self._telling
        if self._is_cut:
            return
        telling.held += text
        if (cut := first_stop(telling.held, self._stops)) is not None:
            telling.held, self._is_cut = telling.held[:cut], True
        if telling.is_certain(self._stops):
            certain, _ = telling.tell(())
            self._show(Segment.of_ids("sampled", self._kind, certain, ()))

    def finish(self, completed: Completed) -> None:
        """It is over, and this is what `flow` is told of it: what was held back is shown, or left out."""
        ids = completed.ids
        text = self._plan.tokens.decode(ids, self._after)
        if not self._ask.is_thinking and (cut := first_stop(text, self._stops)) is not None:
            text = text[:cut]
        text, ids = text[self._telling.length :], ids[self._telling.num_told :]
        if text or ids:
            self._show(Segment.of_ids("sampled", self._kind, text, ids))

    @property
    def looped(self) -> Completed:
        """What came until thinking began to repeat itself."""
        # `flow` finds the loop in the ids; the text only says that the completion did not run full.
        return Completed(tuple(self._ids), stop_text="loop")

    @property
    def _kind(self) -> SegmentKind:
        return "thinking" if self._ask.is_thinking else "answer"

    def _tell(self, ids: Sequence[int]) -> None:
        if len(ids) <= self._telling.num_heard:
            return
        self._telling.hear(ids, is_over=False)
        if first_stop(self._telling.held, self._stops) is None and self._telling.is_certain(self._stops):
            text, new = self._telling.tell(ids)
            self._show(Segment.of_ids("sampled", self._kind, text, new))

    def _num_held(self) -> int:
        """How many of the last ids may be the beginning of the end delimiter."""
        match, ids = self._match, self._ids
        longest = min(len(match), len(ids))
        return next((n for n in range(longest, 0, -1) if tuple(ids[-n:]) == match[:n]), 0)

    def _loop(self) -> int | None:
        """How many of the ids there are where thinking is seen to repeat itself."""
        plan, total = self._plan, len(self._before) + len(self._ids)
        if not self._ask.is_thinking or not plan.request.loop_guard or total < self._next_look:
            return None
        start = self._next_look - 1
        self._next_look = _next_look(total)
        length = first_loop([*self._before, *self._ids], start, plan.budget.min_tokens)
        if length is None or length == len(self._before) + self._ask.max_tokens:
            return None
        return length - len(self._before)


def _next_look(num_tokens: int) -> int:
    return (num_tokens // CHECK_EVERY + 1) * CHECK_EVERY
