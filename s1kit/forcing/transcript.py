"""What has been decoded of one request, and what must be put in next. Both drivers of forcing write into it.

A transcript carries out the machine's moves: it knows which ids a wait, a close or a cutoff is, labels every token as
sampled or forced, and keeps the phase and the room in it. Sampled tokens are appended to `tail`, where streaming sees
them at once; the machine is told of several together, when something depends on their number. The transcript does not
know where tokens come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from s1kit.forcing.budget import Insert, Move, Sampled, StopAttempt, Thinking, ThinkingBudget, advance, begin
from s1kit.forcing.detokenizer import IncrementalDetokenizer
from s1kit.forcing.plan import Plan
from s1kit.forcing.repetition import CHECK_EVERY, MIN_TOKENS, is_looping
from s1kit.forcing.token_runs import TokenRuns, first_stop
from s1kit.records import AnswerFinish, Ending, Generation, Segment, SegmentKind

Phase = Literal["thinking", "answer", "done"]


class Transcript:
    """One request's tokens and where it stands."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._runs = TokenRuns(plan.tokens, plan.prompt_ids)
        self.phase: Phase = "thinking"
        self.tail: list[int] = []
        """Ids of the run that sampled tokens go into."""
        self.quiet = 0
        """Tokens, none of them `watched`, that may be appended to `tail` with nothing else to do."""
        self.watched: frozenset[int] = frozenset()
        """Ids at which thinking or the answer may end, or thinking begin again."""
        self.ending: Ending = "closed"
        self.answer_finish: AnswerFinish = "none"
        self._room = 0
        """Tokens that may be sampled in this phase, those in `tail` beyond `_num_told` included."""
        self._num_told = 0
        """Ids of `tail` that the machine was told of."""
        self._budget = plan.budget
        self._state = Thinking()
        self._earlier_tokens = 0
        """Thinking tokens in blocks that ended before the last one was opened."""
        self._earlier_waits = 0
        self.wait_tokens = 0
        """Thinking tokens that stand in waits."""
        self._answer_room = plan.request.answer_tokens
        self._answer_text = ""
        """Text of the answer's last run, kept up only where there are stop strings to look for."""
        self._answer_detokenizer: IncrementalDetokenizer | None = None
        tokens = plan.tokens
        self._match = () if tokens.trigger_id is not None else tokens.match_ids
        self._thinking_watched = tokens.thinking_stop_ids.union(self._match[-1:])
        reopening = {tokens.reopen_id} if plan.thinks and tokens.reopen_id is not None else set()
        self._answer_watched = tokens.answer_stop_ids | reopening

    @property
    def room(self) -> int:
        """Tokens that may be sampled in this phase before it ends."""
        return self._room - self.num_untold

    @property
    def num_untold(self) -> int:
        """Ids at the end of `tail` that nothing was decided about yet."""
        return len(self.tail) - self._num_told

    @property
    def num_thinking(self) -> int:
        """Thinking tokens so far, inserted waits included."""
        return self._earlier_tokens + self._state.spent + (self.num_untold if self.phase == "thinking" else 0)

    @property
    def num_waits(self) -> int:
        """Stops that became waits so far."""
        return self._earlier_waits + self._state.waits

    @property
    def thinking_ids(self) -> list[int]:
        """All thinking so far, inserted waits included."""
        return self._runs.thinking_ids

    @property
    def context(self) -> tuple[int, ...]:
        """Prompt and all ids so far, sampled and forced."""
        return (*self.plan.prompt_ids, *self._runs.ids)

    def begin(self) -> tuple[int, ...]:
        """Add the plan's prefix; returns the context to decode from: prompt, prefix, what is forced at once."""
        if not self.plan.thinks:
            self.phase = "answer"
            self._go_on(self._answer_room)
            return self.plan.prompt_ids
        self._state, move = begin(self._budget)
        for segment in self.plan.prefix:
            self._runs.add(segment.origin, segment.kind, segment.token_ids)
            is_wait = segment.kind == "wait"
            self._state = Thinking(self._state.spent + segment.num_tokens, self._state.waits + is_wait)
            self.wait_tokens += segment.num_tokens * is_wait
        if self.plan.prefix:
            self._state, move = advance(self._budget, 1, self._state, Sampled(0))
        given = self.plan.request.prefix
        if given is not None and given.ending is not None and move.insert is Insert.NOTHING:
            forced = self._close(has_phrase=given.ending == "cut_off", ending=given.ending, matched_ids=())
        elif given is not None and given.ending == "closed":
            forced = self._close(has_phrase=False, ending="closed", matched_ids=())
        else:
            forced = self._carry_out(move)
        return (*self.plan.prompt_ids, *self.plan.prefix_ids, *forced)

    def add_thinking(self, ids: Sequence[int]) -> tuple[int, ...]:
        """The model sampled thinking tokens, at most `room`; returns what is forced after them.

        They must not go on beyond a length at which thinking is found to repeat itself.
        """
        if not ids:
            return ()
        self.tail += ids
        if self.num_untold >= self._room:
            return self._tell()
        if self._is_looping():
            self._tell()
            return self._close(has_phrase=True, ending="loop", matched_ids=())
        self._count_quiet()
        return ()

    def if_stopped(self) -> int | None:
        """The first id that `stop_thinking` or `stop_answer` would put in now; None where the answer would end."""
        if self.phase == "answer":
            return self.plan.closing.ids[0] if self._needs_phrase else None
        self._tell()
        wait_ids = self._wait_ids()
        _, move = advance(self._budget, len(wait_ids), self._state, StopAttempt())
        if move.wait_tokens:
            return wait_ids[0]
        tokens = self.plan.tokens
        return tokens.lead_ids[0] if tokens.needs_lead(self._runs.last_thinking_id) else tokens.end_ids[0]

    def stop_thinking(self, matched_ids: Sequence[int] = ()) -> tuple[int, ...]:
        """The model tried to stop, by sampling the ids of the end delimiter or (none given) end of sequence.

        Returns what is put in its place. The ids must not stand in `tail`.
        """
        self._tell()
        wait_ids = self._wait_ids()
        self._state, move = advance(self._budget, len(wait_ids), self._state, StopAttempt())
        if not move.wait_tokens:
            return self._close(has_phrase=False, ending="closed", matched_ids=matched_ids)
        ids = wait_ids[: move.wait_tokens]
        self._runs.add("forced", "wait", ids)
        self.wait_tokens += len(ids)
        return (*ids, *self._carry_out(move))

    def end_thinking(self) -> tuple[int, ...]:
        """End thinking here, whatever the minimum was: the budget becomes what is spent. Returns what is forced."""
        self._tell()
        self._budget = ThinkingBudget(self._state.spent)
        self._state, move = advance(self._budget, 1, self._state, Sampled(0))
        return self._carry_out(move)

    def add_answer(self, ids: Sequence[int]) -> None:
        """The model sampled answer tokens, at most `room`.

        With no room left, a stop string in their text or a loop, the request is done. They must not go on beyond a
        length at which the answer is found to repeat itself.
        """
        self.tail += ids
        if self.num_untold >= self._room:
            self.finish("length")
        if self._answer_detokenizer is not None:
            start = len(self._answer_text)
            self._answer_text += self._answer_detokenizer.add(ids)
            if (cut := first_stop(self._answer_text, self.plan.request.stop, start)) is not None:
                self.finish("stop_string", self._answer_text[:cut])
        if self.phase == "answer" and self._is_looping():
            self.finish("loop")
        if self.phase == "answer":
            self._count_quiet()

    def stop_answer(self) -> tuple[int, ...]:
        """The model ended its answer. Where it has not begun one, the closing phrase is put in, once; returns its ids.

        Models that end thinking by end of sequence tend to end the answer with it, too, and would say nothing.
        """
        if not self._needs_phrase:
            self.finish("stop")
            return ()
        phrase = self.plan.closing.ids
        room = self.room
        self._runs.add("forced", "closing_phrase", phrase)
        self._go_on(room - len(phrase))
        return phrase

    def cut_answer(self) -> None:
        """The answer ended at a stop string, which is not among its tokens."""
        self.finish("stop_string", self._runs.last_text)

    def reopen(self) -> tuple[int, ...]:
        """The model began to think again inside its answer: what is left of the one budget is what it gets.

        The delimiters come out of the answer's room. Returns what is forced after the sampled opening id.
        """
        tokens = self.plan.tokens
        opening = tokens.open_ids
        cost = len(opening) + len(tokens.lead_ids) + len(tokens.end_ids) + len(self.plan.closing.ids)
        room = self.room
        if room <= cost:
            self.finish("length")
            return ()
        self._answer_room = room - len(opening) - len(tokens.lead_ids) - len(tokens.end_ids)
        self._runs.add("sampled", "open", opening[:1])
        self._runs.add("forced", "open", opening[1:])
        left = self._budget.max_tokens - self._state.spent
        if self.plan.completion_tokens is not None:
            # The answer may have taken what thinking had left.
            left = min(left, room - cost - 1)
        self._earlier_tokens, self._earlier_waits = self.num_thinking, self.num_waits
        self._budget = ThinkingBudget(left)
        self.phase = "thinking"
        self._state, move = begin(self._budget)
        return (*opening[1:], *self._carry_out(move))

    def finish(self, reason: AnswerFinish, answer_text: str | None = None) -> None:
        """The answer is over. `answer_text`: the text of its last run, where a stop string cut it."""
        self.phase, self.quiet = "done", 0
        self.answer_finish = reason
        self._runs.text_cut = answer_text

    def generation(self) -> Generation:
        """The record of the request so far; final when `phase` is done."""
        request = self.plan.request
        return Generation(
            question_id=request.question_id,
            setting=request.setting,
            repeat=request.repeat,
            segments=self._runs.segments(),
            ending=self.ending,
            answer_finish=self.answer_finish,
            note=self.plan.note,
        )

    def new_segments(self) -> list[Segment]:
        """What is new since the last call, for streaming.

        Held back until it is certain: a character of which only some bytes are there, and text or ids that may turn
        out to begin a stop string or the end delimiter.
        """
        may_be_cut = self._may_be_cut if self._answer_detokenizer is not None else None
        return self._runs.new_segments(self.phase == "done", self._num_matched if self._match else 0, may_be_cut)

    def _go_on(self, room: int) -> None:
        """Open the run that sampled tokens of this phase go into, at most `room` of them."""
        kind: SegmentKind = "thinking" if self.phase == "thinking" else "answer"
        self.tail = self._runs.tail(kind)
        self._num_told, self._room = len(self.tail), room
        self.watched = self._thinking_watched if kind == "thinking" else self._answer_watched
        self._answer_text, self._answer_detokenizer = "", None
        if kind == "answer" and self.plan.request.stop:
            self._answer_detokenizer = self._runs.detokenizer()
        self._count_quiet()

    def _count_quiet(self) -> None:
        """Set `quiet`: tokens until the room is full, a loop may be found, or a stop string must be looked for."""
        quiet = self.room - 1
        if self._answer_detokenizer is not None:
            quiet = 0
        elif self.guards_against_loops:
            is_thinking = self.phase == "thinking"
            now = self.num_thinking if is_thinking else len(self.tail)
            first = max(now + 1, self.plan.budget.min_tokens if is_thinking else 0, MIN_TOKENS)
            quiet = min(quiet, -(-first // CHECK_EVERY) * CHECK_EVERY - now - 1)
        self.quiet = max(0, quiet)

    @property
    def guards_against_loops(self) -> bool:
        """Whether this phase may end in a loop. An answer that is held to a form is not cut: it would have none."""
        request = self.plan.request
        return request.loop_guard and (self.phase == "thinking" or not request.answer_grammar)

    def _is_looping(self) -> bool:
        is_thinking = self.phase == "thinking"
        num = self.num_thinking if is_thinking else len(self.tail)
        if num % CHECK_EVERY or (is_thinking and num < self.plan.budget.min_tokens) or not self.guards_against_loops:
            return False
        return is_looping(self.thinking_ids if is_thinking else self.tail, self.plan.tokens.id_kinds)

    def _tell(self) -> tuple[int, ...]:
        """Tell the machine of the thinking sampled since the last time; returns what is forced after it."""
        num, self._num_told = self.num_untold, len(self.tail)
        if not num:
            return ()
        self._state, move = advance(self._budget, 1, self._state, Sampled(num))
        return self._carry_out(move)

    @property
    def _needs_phrase(self) -> bool:
        """Whether the answer is empty or blank, and the closing phrase and one token more have room in it."""
        return not self._runs.has_answer and 0 < len(self.plan.closing.ids) < self.room

    @property
    def _num_matched(self) -> int:
        """How many of the last sampled ids may be the beginning of the end delimiter."""
        if self.phase != "thinking":
            return 0
        longest = min(len(self._match) - 1, self.num_untold)
        return next((n for n in range(longest, 0, -1) if tuple(self.tail[-n:]) == self._match[:n]), 0)

    def _may_be_cut(self, text: str) -> bool:
        """Whether the end of a text may be the beginning of a stop string."""
        return any(text.endswith(s[:n]) for s in self.plan.request.stop for n in range(1, len(s)))

    def _wait_ids(self) -> tuple[int, ...]:
        """The ids of the next wait, on a line of its own where the line is not ended yet."""
        wait = self.plan.waits[self.num_waits % len(self.plan.waits)]
        last = self._runs.last_thinking_id
        return wait.line_ids if last is not None and self.plan.tokens.needs_lead(last) else wait.ids

    def _carry_out(self, move: Move) -> tuple[int, ...]:
        """Apply the machine's move after sampled tokens: continue, or cut off. Returns the forced ids."""
        if move.insert is Insert.CUTOFF:
            return self._close(has_phrase=True, ending="cut_off", matched_ids=())
        self._go_on(move.room)
        return ()

    def _close(self, has_phrase: bool, ending: Ending, matched_ids: Sequence[int]) -> tuple[int, ...]:
        tokens, phrase = self.plan.tokens, self.plan.closing.ids if has_phrase else ()
        lead = tokens.lead_ids if tokens.needs_lead(self._runs.last_thinking_id) else ()
        if matched_ids:
            self._runs.add("forced", "close", lead)
            self._runs.add("sampled", "close", matched_ids)
            self._runs.add("forced", "close", tokens.end_ids[len(matched_ids) :])
        else:
            self._runs.add("forced", "close", (*lead, *tokens.end_ids))
        self._runs.add("forced", "closing_phrase", phrase)
        self.phase, self.ending = "answer", ending
        room = self._answer_room - len(phrase)
        if self.plan.completion_tokens is not None:
            room = self.plan.completion_tokens - self._runs.num_ids
        self._go_on(room)
        return (*lead, *tokens.end_ids, *phrase)
