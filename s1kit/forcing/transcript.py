"""What has been decoded of one request, and what must be put in next. Both drivers of forcing write into it.

A transcript carries out the machine's moves: it knows which ids a wait, a close or a cutoff is, labels every token as
sampled or forced, and keeps the room of the phase it is in. It does not know where tokens come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from s1kit.forcing.budget import Insert, Move, Sampled, StopAttempt, Thinking, ThinkingBudget, advance, begin
from s1kit.forcing.detokenizer import IncrementalDetokenizer, PartStream
from s1kit.forcing.plan import Plan
from s1kit.records import Ending, Generation, Origin, Segment, SegmentKind

Phase = Literal["thinking", "answer", "done"]
AnswerFinish = Literal["stop", "length", "stop_string", "none"]


@dataclass(slots=True)
class Part:
    """A run of tokens of one origin and kind that may still grow."""

    origin: Origin
    kind: SegmentKind
    ids: list[int] = field(default_factory=list)


class Transcript:
    """One request's tokens and where it stands."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.parts: list[Part] = []
        self.phase: Phase = "thinking"
        self.room = 0
        """Tokens that may be sampled in this phase before it ends."""
        self.thinking_ids: list[int] = []
        """All thinking so far, inserted waits included."""
        self.ending: Ending = "closed"
        self.answer_finish: AnswerFinish = "none"
        self._budget = plan.budget
        self._state = Thinking()
        self._waits_before = 0
        self._answer_room = plan.request.answer_tokens
        self._block_start = 0
        self._text_cut: str | None = None
        self._shown = 0
        """Parts that were streamed to their end."""
        self._stream: PartStream | None = None

    def begin(self) -> tuple[int, ...]:
        """Take in the given prefix; returns the whole context to decode from."""
        if not self.plan.thinks:
            self.phase, self.room = "answer", self._answer_room
            return self.plan.prompt_ids
        self._state, move = begin(self._budget)
        for segment in self.plan.prefix:
            self.parts.append(Part(segment.origin, segment.kind, list(segment.token_ids)))
            self.thinking_ids += segment.token_ids
            is_wait = segment.kind == "wait"
            self._state = Thinking(self._state.spent + segment.num_tokens, self._state.waits + is_wait)
        if self.plan.prefix:
            self._state, move = advance(self._budget, 1, self._state, Sampled(0))
        given = self.plan.request.prefix
        if given is not None and given.ending is not None and move.insert is Insert.NOTHING:
            forced = self._close(has_phrase=given.ending == "cut_off", ending=given.ending, matched_ids=())
        elif given is not None and given.ending == "closed":
            forced = self._close(has_phrase=False, ending="closed", matched_ids=())
        else:
            forced = self._carry_out(move)
        return (*self.plan.prompt_ids, *self._prefix_ids(), *forced)

    def add_thinking(self, ids: Sequence[int]) -> tuple[int, ...]:
        """The model sampled thinking tokens, at most `room`; returns what is forced after them."""
        self._extend("thinking", ids)
        self.thinking_ids += ids
        self._state, move = advance(self._budget, 1, self._state, Sampled(len(ids)))
        return self._carry_out(move)

    def if_stopped(self) -> int | None:
        """The first id that `stop_thinking` or `stop_answer` would put in now; None where the answer would end."""
        if self.phase == "answer":
            return self.plan.closing.ids[0] if self._needs_phrase else None
        wait_ids = self._wait_ids()
        _, move = advance(self._budget, len(wait_ids), self._state, StopAttempt())
        if move.wait_tokens:
            return wait_ids[0]
        tokens = self.plan.tokens
        return tokens.lead_ids[0] if tokens.needs_lead(self._last_thinking_id) else tokens.end_ids[0]

    def stop_thinking(self, matched_ids: Sequence[int] = ()) -> tuple[int, ...]:
        """The model tried to stop, by sampling the ids of the end delimiter or (none given) end of sequence.

        Returns what is put in its place. The ids must not have been added as thinking.
        """
        wait_ids = self._wait_ids()
        self._state, move = advance(self._budget, len(wait_ids), self._state, StopAttempt())
        if not move.wait_tokens:
            return self._close(has_phrase=False, ending="closed", matched_ids=matched_ids)
        ids = wait_ids[: move.wait_tokens]
        self._force("wait", ids)
        self.thinking_ids += ids
        return (*ids, *self._carry_out(move))

    def break_loop(self) -> tuple[int, ...]:
        """Thinking repeats itself: end it as a cutoff does."""
        return self._close(has_phrase=True, ending="loop", matched_ids=())

    def add_answer(self, ids: Sequence[int]) -> None:
        """The model sampled answer tokens, at most `room`. With no room left the request is done."""
        self._extend("answer", ids)
        self.room -= len(ids)
        if not self.room:
            self.finish("length")

    def stop_answer(self) -> tuple[int, ...]:
        """The model ended its answer. Where it has not begun one, the closing phrase is put in, once; returns its ids.

        Models that end thinking by end of sequence tend to end the answer with it, too, and would say nothing.
        """
        if not self._needs_phrase:
            self.finish("stop")
            return ()
        phrase = self.plan.closing.ids
        self._force("closing_phrase", phrase)
        self.room -= len(phrase)
        return phrase

    @property
    def _needs_phrase(self) -> bool:
        """Whether the answer is empty, and the closing phrase and one token more have room in it."""
        is_empty = not any(part.kind in ("answer", "closing_phrase") for part in self.parts)
        return is_empty and 0 < len(self.plan.closing.ids) < self.room

    @property
    def answer_text(self) -> str:
        """The text of the run of answer that is growing; empty before there is one."""
        return self._text(len(self.parts) - 1) if self.parts and self.parts[-1].kind == "answer" else ""

    def reopen(self) -> tuple[int, ...]:
        """The model began to think again inside its answer: what is left of the one budget is what it gets.

        The delimiters come out of the answer's room. Returns what is forced after the sampled opening id.
        """
        tokens = self.plan.tokens
        opening = tokens.open_ids
        cost = len(opening) + len(tokens.lead_ids) + len(tokens.end_ids) + len(self.plan.closing.ids)
        if self.room <= cost:
            self.finish("length")
            return ()
        self._answer_room = self.room - len(opening) - len(tokens.lead_ids) - len(tokens.end_ids)
        self.parts.append(Part("sampled", "open", [opening[0]]))
        self._force("open", opening[1:])
        self._waits_before += self._state.waits
        left = self._budget.max_tokens - self._state.spent
        if self.plan.completion_tokens is not None:
            # The answer may have taken what thinking had left.
            left = min(left, self.room - cost - 1)
        self._budget = ThinkingBudget(left)
        self._block_start = len(self.thinking_ids)
        self.phase = "thinking"
        self._state, move = begin(self._budget)
        return (*opening[1:], *self._carry_out(move))

    def finish(self, reason: AnswerFinish, answer_text: str | None = None) -> None:
        """The answer is over. `answer_text`: the text of its last run, where a stop string cut it."""
        self.phase, self.room = "done", 0
        self.answer_finish = reason
        self._text_cut = answer_text

    def generation(self) -> Generation:
        """The record of it."""
        request = self.plan.request
        return Generation(
            question_id=request.question_id,
            setting=request.setting,
            repeat=request.repeat,
            segments=tuple(
                Segment.of_ids(p.origin, p.kind, self._text(i), tuple(p.ids)) for i, p in enumerate(self.parts) if p.ids
            ),
            ending=self.ending,
            answer_finish=self.answer_finish,
            note=self.plan.note,
        )

    def new_segments(self, stop: Sequence[str] = ()) -> Iterator[Segment]:
        """What is new since the last call, for streaming.

        Held back until it is certain: a character of which only some bytes are there, and text that may turn out to
        begin a stop string.
        """
        while self._shown < len(self.parts):
            part = self.parts[self._shown]
            is_last = part is self.parts[-1]
            is_over = not is_last or self.phase == "done"
            if self._stream is None:
                self._stream = PartStream(IncrementalDetokenizer(self.plan.tokens, self._before(self._shown)))
            stream = self._stream
            stream.receive(part.ids, is_over)
            if is_over:
                if is_last and self._text_cut is not None:
                    stream.held = self._text_cut[stream.length :]
                self._shown, self._stream = self._shown + 1, None
            elif part.origin == "sampled" and not stream.can_stream(stop):
                return
            text, ids = stream.take(part.ids[stream.num_streamed :])
            if text or ids:
                yield Segment.of_ids(part.origin, part.kind, text, ids)
            if not is_over:
                return

    def stream_ahead(self, pending: Sequence[int]) -> Segment | None:
        """What streaming shows of sampled thinking that `add_thinking` was not told of yet; None: nothing certain.

        Only where `can_stream_ahead`. `pending` are all such ids: they must be added later, as they are.
        """
        stream, part = self._stream, self.parts[-1]
        assert stream is not None
        before = len(part.ids)
        stream.held += stream.detokenizer.add(pending[stream.num_decoded - before :])
        stream.num_decoded = before + len(pending)
        if not stream.held:
            return None
        text, ids = stream.take(pending[stream.num_streamed - before :])
        return Segment.of_ids("sampled", "thinking", text, ids)

    @property
    def can_stream_ahead(self) -> bool:
        """Whether the last part is sampled thinking of which all but undecided text was streamed."""
        stream, last = self._stream, len(self.parts) - 1
        if stream is None or self._shown != last:
            return False
        part = self.parts[last]
        num = len(part.ids)
        return part.kind == "thinking" and stream.num_streamed >= num <= stream.num_decoded

    @property
    def _last_thinking_id(self) -> int | None:
        """The last id of the thinking block that is open; None at its beginning."""
        return self.thinking_ids[-1] if len(self.thinking_ids) > self._block_start else None

    def _wait_ids(self) -> tuple[int, ...]:
        """The ids of the next wait, on a line of its own where the line is not ended yet."""
        wait = self.plan.waits[(self._waits_before + self._state.waits) % len(self.plan.waits)]
        last = self._last_thinking_id
        return wait.line_ids if last is not None and self.plan.tokens.needs_lead(last) else wait.ids

    def _carry_out(self, move: Move) -> tuple[int, ...]:
        """What the machine orders after sampled tokens: nothing, or the cutoff."""
        if move.insert is Insert.CUTOFF:
            return self._close(has_phrase=True, ending="cut_off", matched_ids=())
        self.room = move.room
        return ()

    def _close(self, has_phrase: bool, ending: Ending, matched_ids: Sequence[int]) -> tuple[int, ...]:
        tokens, phrase = self.plan.tokens, self.plan.closing.ids if has_phrase else ()
        lead = tokens.lead_ids if tokens.needs_lead(self._last_thinking_id) else ()
        if matched_ids:
            self._force("close", lead)
            self.parts.append(Part("sampled", "close", list(matched_ids)))
            self._force("close", tokens.end_ids[len(matched_ids) :])
        else:
            self._force("close", (*lead, *tokens.end_ids))
        self._force("closing_phrase", phrase)
        self.phase, self.ending = "answer", ending
        self.room = self._answer_room - len(phrase)
        if self.plan.completion_tokens is not None:
            self.room = self.plan.completion_tokens - sum(len(part.ids) for part in self.parts)
        return (*lead, *tokens.end_ids, *phrase)

    def _force(self, kind: SegmentKind, ids: Sequence[int]) -> None:
        if ids:
            self.parts.append(Part("forced", kind, list(ids)))

    def _extend(self, kind: SegmentKind, ids: Sequence[int]) -> None:
        if not ids:
            return
        if not self.parts or self.parts[-1].kind != kind or self.parts[-1].origin != "sampled":
            self.parts.append(Part("sampled", kind))
        self.parts[-1].ids += ids

    def _prefix_ids(self) -> list[int]:
        return [i for s in self.plan.prefix for i in s.token_ids]

    def _text(self, index: int) -> str:
        part = self.parts[index]
        if self._text_cut is not None and part is self.parts[-1]:
            return self._text_cut
        return self.plan.tokens.decode(part.ids, self._before(index))

    def _before(self, index: int) -> tuple[int, ...]:
        """The id before a part."""
        ids = next((p.ids for p in reversed(self.parts[:index]) if p.ids), self.plan.prompt_ids)
        return tuple(ids[-1:])
