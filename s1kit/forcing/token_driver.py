"""The token-level driver of forcing: one row of a batch, told of each token that the model samples.

    row = TokenDriver(plan)
    context = row.start()                    # feed these, then sample
    ids = row.push(token)                    # the model sampled this: append `ids` instead (often just the token)
    row.is_done, row.generation()

The model's token is looked at before it enters the context, so a stop attempt never does: what is sampled is exact
under any sampling. An engine that cannot look first steers the logits instead (`engines.steering`), or refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from s1kit.forcing.plan import Plan
from s1kit.forcing.repetition import CHECK_EVERY, MIN_TOKENS, is_looping
from s1kit.forcing.transcript import Transcript
from s1kit.records import Generation, Segment


class TokenDriver:
    """Drives one request token by token."""

    __slots__ = (
        "_answer_stops",
        "_match",
        "_reopen",
        "_room",
        "_run",
        "_stops",
        "_stream",
        "_transcript",
        "_watched",
        "drop",
        "plan",
        "quiet",
    )

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        tokens = plan.tokens
        self.drop = 0
        """After `push`: how many ids already in the context must be taken out again before the returned ones come in.

        More than 0 only where the end delimiter has to be matched over several tokens.
        """
        self._transcript = Transcript(plan)
        self._stops = tokens.thinking_stop_ids
        self._answer_stops = tokens.answer_stop_ids
        self._match = () if tokens.trigger_id is not None else tokens.match_ids
        self._reopen = tokens.reopen_id if plan.thinks else None
        self._run: list[int] = []
        """Sampled since the transcript was last told."""
        self._room = 0
        self.quiet = 0
        """Tokens outside `_watched` that can be appended before the next check."""
        self._watched: frozenset[int] = frozenset()

    @property
    def is_done(self) -> bool:
        return self._transcript.phase == "done"

    @property
    def is_thinking(self) -> bool:
        return self._transcript.phase == "thinking"

    @property
    def is_answering(self) -> bool:
        return self._transcript.phase == "answer"

    @property
    def thinking_tokens(self) -> int:
        """So far, inserted ones included."""
        return len(self._transcript.thinking_ids) + (len(self._run) if self.is_thinking else 0)

    def start(self) -> tuple[int, ...]:
        """The context before the first sampled token: prompt, given prefix, and what is forced at once."""
        return self._settle(self._transcript.begin())

    def push(self, token: int) -> tuple[int, ...]:
        """The model sampled `token`; returns the ids to append to the context in its place, in order.

        They are the token itself, the token and forced ids after it, or forced ids alone. Afterwards the model samples
        again, unless `is_done`.
        """
        self.drop = 0
        if self.quiet and token not in self._watched:
            self.quiet -= 1
            self._run.append(token)
            return (token,)
        if self._transcript.phase == "thinking":
            ids = self._think(token)
        elif self._transcript.phase == "answer":
            ids = self._answer(token)
        else:
            raise ValueError(f"the row is done and takes no token, but got {token}.")
        self.quiet = self._num_quiet()
        return ids

    def note(self, tokens: Sequence[int]) -> None:
        """The model sampled these, no more than `quiet`, none of them watched: they are appended as they are."""
        self.quiet -= len(tokens)
        self._run += tokens

    def if_stopped(self) -> int | None:
        """The first id that would come into the context if the model tried to stop now; None: the row would be done."""
        self._report()
        return self._transcript.if_stopped()

    def generation(self) -> Generation:
        """The record so far; complete when `is_done`."""
        self._report()
        return self._transcript.generation()

    def new_segments(self) -> Iterator[Segment]:
        """What is new since the last call, whole characters only."""
        # Nothing takes a quiet token back, so it is shown without telling the transcript of each.
        if self.quiet and self._run and not self._match and self._transcript.can_stream_ahead and self.is_thinking:
            segment = self._transcript.stream_ahead(self._run)
            return iter(() if segment is None else (segment,))
        held = self._num_held() if self._match and self.is_thinking else 0
        self._report(keep=held)
        return self._transcript.new_segments(stop=self.plan.request.stop if not self.is_thinking else ())

    def _think(self, token: int) -> tuple[int, ...]:
        run = self._run
        if token in self._stops:
            return self._stop((token,) if token == self.plan.tokens.trigger_id else ())
        run.append(token)
        if self._match and token == self._match[-1] and tuple(run[-len(self._match) :]) == self._match:
            del run[-len(self._match) :]
            self.drop = len(self._match) - 1
            return self._stop(self._match)
        if len(run) == self._room:
            return (token, *self._report())
        if self._is_looping():
            self._report()
            forced = self._transcript.break_loop()
            return (token, *self._settle(forced))
        return (token,)

    def _stop(self, matched: tuple[int, ...]) -> tuple[int, ...]:
        self._report()
        return self._settle(self._transcript.stop_thinking(matched))

    def _answer(self, token: int) -> tuple[int, ...]:
        transcript = self._transcript
        if token in self._answer_stops:
            self._report()
            return self._settle(transcript.stop_answer())
        if token == self._reopen:
            self._report()
            return (token, *self._settle(transcript.reopen()))
        self._run.append(token)
        if self.plan.request.stop or len(self._run) == self._room:
            self._report()
        if self.plan.request.stop:
            text = transcript.answer_text
            if (cut := first_stop(text, self.plan.request.stop)) is not None:
                transcript.finish("stop_string", text[:cut])
        return (token,)

    def _report(self, keep: int = 0) -> tuple[int, ...]:
        """Tell the transcript of the tokens sampled since the last time; returns what is forced after them."""
        if len(self._run) <= keep:
            return ()
        ids = self._run[: len(self._run) - keep]
        del self._run[: len(ids)]
        if self._transcript.phase == "thinking":
            return self._settle(self._transcript.add_thinking(ids))
        self._transcript.add_answer(ids)
        return self._settle(())

    def _settle(self, forced: tuple[int, ...]) -> tuple[int, ...]:
        """The transcript has changed: take over where it stands."""
        self._room = self._transcript.room
        is_thinking = self._transcript.phase == "thinking"
        if is_thinking:
            self._watched = self._stops.union(self._match[-1:])
        else:
            self._watched = self._answer_stops if self._reopen is None else self._answer_stops | {self._reopen}
        self.quiet = self._num_quiet()
        return forced

    def _num_quiet(self) -> int:
        """Tokens before the next that fills the room, or at which loops are looked for and may be found."""
        quiet = self._room - len(self._run) - 1
        if self.is_thinking:
            if self.plan.request.loop_guard:
                now = self.thinking_tokens
                first = max(now + 1, self.plan.budget.min_tokens, MIN_TOKENS)
                quiet = min(quiet, -(-first // CHECK_EVERY) * CHECK_EVERY - now - 1)
        elif self.plan.request.stop:
            return 0
        return max(0, quiet)

    def _is_looping(self) -> bool:
        if not self.plan.request.loop_guard or self.thinking_tokens % CHECK_EVERY:
            return False
        if self.thinking_tokens < self.plan.budget.min_tokens:
            return False
        return is_looping(self._transcript.thinking_ids + self._run)

    def _num_held(self) -> int:
        """How many of the last sampled ids may be the beginning of the end delimiter."""
        longest = min(len(self._match) - 1, len(self._run))
        return next((n for n in range(longest, 0, -1) if tuple(self._run[-n:]) == self._match[:n]), 0)


def first_stop(text: str, stop: tuple[str, ...]) -> int | None:
    """Where the first of the stop strings begins in an answer; None when none is there."""
    found = [at for s in stop if (at := text.find(s)) >= 0]
    return min(found) if found else None
