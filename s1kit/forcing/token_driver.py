"""The token-level driver of forcing: one row of a batch, told of each token that the model samples.

    row = TokenDriver(plan)
    context = row.start()                    # feed these, then sample
    ids = row.push(token)                    # the model sampled this: append `ids` instead (often just the token)
    row.is_done, row.generation()

The model's token is looked at before it enters the context, so a stop attempt never does: what is sampled is exact
under any sampling. An engine that cannot look first steers the logits instead (`engines.steering`), or refuses.
"""

from __future__ import annotations

from collections.abc import Sequence

from s1kit.forcing.plan import Plan
from s1kit.forcing.transcript import Transcript
from s1kit.records import Generation, Segment


class TokenDriver:
    """Drives one request token by token."""

    __slots__ = ("_match", "_reopen", "_transcript", "drop", "plan")

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        tokens = plan.tokens
        self.drop = 0
        """After `push`: how many ids already in the context must be taken out again before the returned ones come in.

        More than 0 only where the end delimiter has to be matched over several tokens.
        """
        self._transcript = Transcript(plan)
        self._match = () if tokens.trigger_id is not None else tokens.match_ids
        self._reopen = tokens.reopen_id if plan.thinks else None

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
    def quiet(self) -> int:
        """Sampled tokens that need nothing but to be appended, where none may end anything: `note` takes so many."""
        return self._transcript.quiet

    @property
    def watched(self) -> frozenset[int]:
        """Ids that may end something and are never quiet."""
        return self._transcript.watched

    @property
    def thinking_tokens(self) -> int:
        """Thinking tokens so far, inserted ones included."""
        return self._transcript.num_thinking

    @property
    def num_waits(self) -> int:
        """Stops that became waits so far."""
        return self._transcript.num_waits

    @property
    def wait_tokens(self) -> int:
        """How many of the thinking tokens stand in waits."""
        return self._transcript.wait_tokens

    @property
    def context(self) -> tuple[int, ...]:
        """All ids so far, the prompt's first; between `push`es what the model is to go on from."""
        return self._transcript.context

    def start(self) -> tuple[int, ...]:
        """The context before the first sampled token: prompt, given prefix, and what is forced at once."""
        return self._transcript.begin()

    def push(self, token: int) -> tuple[int, ...]:
        """The model sampled `token`; returns the ids to append to the context in its place, in order.

        They are the token itself, the token and forced ids after it, or forced ids alone. Afterwards the model samples
        again, unless `is_done`. Raises ValueError when it is done already.
        """
        self.drop = 0
        transcript = self._transcript
        if transcript.quiet and token not in transcript.watched:
            transcript.quiet -= 1
            transcript.tail.append(token)
            return (token,)
        if transcript.phase == "thinking":
            return self._think(token)
        if transcript.phase == "answer":
            return self._answer(token)
        raise ValueError(f"the row is done and takes no token, but got {token}.")

    def end_thinking(self) -> tuple[int, ...]:
        """End thinking after what was sampled so far, as a budget spent there does; returns the ids to append.

        Nothing is done, and nothing returned, where the model does not think any more. Between `push`es only.
        """
        self.drop = 0
        return self._transcript.end_thinking() if self.is_thinking else ()

    def note(self, tokens: Sequence[int]) -> None:
        """The model sampled these, no more than `quiet`, none that may end anything: they are appended as they are."""
        self._transcript.quiet -= len(tokens)
        self._transcript.tail += tokens

    def if_stopped(self) -> int | None:
        """The first id that would come into the context if the model tried to stop now; None: the row would be done."""
        return self._transcript.if_stopped()

    def generation(self) -> Generation:
        """The record so far; complete when `is_done`."""
        return self._transcript.generation()

    def new_segments(self) -> list[Segment]:
        """What is new since the last call, whole characters only."""
        return self._transcript.new_segments()

    def _think(self, token: int) -> tuple[int, ...]:
        transcript, match = self._transcript, self._match
        if token in self.plan.tokens.thinking_stop_ids:
            return transcript.stop_thinking((token,) if token == self.plan.tokens.trigger_id else ())
        num_earlier = len(match) - 1
        if match and token == match[-1] and transcript.num_untold >= num_earlier:
            tail = transcript.tail
            if tuple(tail[len(tail) - num_earlier :]) == match[:-1]:
                del tail[len(tail) - num_earlier :]
                self.drop = num_earlier
                return transcript.stop_thinking(match)
        return (token, *transcript.add_thinking((token,)))

    def _answer(self, token: int) -> tuple[int, ...]:
        transcript = self._transcript
        if token in self.plan.tokens.answer_stop_ids:
            return transcript.stop_answer()
        if token == self._reopen:
            return (token, *transcript.reopen())
        transcript.add_answer((token,))
        return (token,)
