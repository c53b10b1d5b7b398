"""One completion that the segment driver asked for: the body to send, and what its chunks mean. Pure.

    run = CompletionRun(capabilities, model, plan, ask, thinking_ids, settings)
    while not run.is_over:
        for chunk in ... post(run.body()) ...:    # a server of text may need more than one completion to fill the room
            piece = run.feed(chunk)               # what can be shown now
            if run.is_over: break                 # a stop or a loop was found: the rest is not wanted
    run.completed()                               # what the segment driver is told

Where a server returns ids, they are the transcript. Where it returns text, the text is tokenised when a completion is
over, and the ids come with its last piece.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from s1kit.completions.capabilities import Capabilities, sampling_fields
from s1kit.completions.failure import ServerFailed
from s1kit.completions.stream import Chunk, TokenLogprob
from s1kit.forcing.plan import Plan
from s1kit.forcing.repetition import CHECK_EVERY, first_loop
from s1kit.forcing.segment_driver import Complete, Completed
from s1kit.forcing.token_format import MOST_BYTES
from s1kit.records import Origin, SegmentKind

_CUT = "\ufffd"


@dataclass(frozen=True, slots=True)
class CompletionSettings:
    """Settings of a completion other than its budget."""

    sampling: Mapping[str, float] = field(default_factory=dict)
    """Sampling settings that are stated to the server, among temperature, top_p, top_k, min_p, seed and penalties."""
    logprobs: int | None = None
    """How many alternatives of each answer token to report; None: no log probabilities."""
    response_format: Mapping[str, Any] | None = None
    """OpenAI's object, for the answer only."""


@dataclass(frozen=True, slots=True)
class Piece:
    """New text and ids of one kind and origin. Joined, the pieces of a request are its transcript."""

    kind: SegmentKind
    origin: Origin
    text: str
    """Whole characters only. Over a text seam the ids come after their text."""
    ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()


class CompletionRun:
    """One completion in progress: fed chunks, it returns what can be shown."""

    def __init__(
        self,
        capabilities: Capabilities,
        model: str,
        plan: Plan,
        ask: Complete,
        thinking_ids: Sequence[int],
        settings: CompletionSettings,
    ) -> None:
        """`thinking_ids`: all thinking of the request before this completion, for the loop guard."""
        self._dialect, self._adds_bos = capabilities.dialect, capabilities.adds_bos
        self._model, self._tokens, self._ask, self._settings = model, plan.tokens, ask, settings
        self._kind: SegmentKind = "thinking" if ask.is_thinking else "answer"
        self._before = list(thinking_ids) if ask.is_thinking else []
        self._min_tokens = plan.budget.min_tokens if ask.is_thinking else 0
        guards = plan.request.loop_guard and (ask.is_thinking or not plan.request.answer_grammar)
        self._next_check = _next_check(len(self._before)) - len(self._before) if guards else math.inf
        """How many ids of this completion there must be before the loop guard looks at them again."""
        self._ids: list[int] = []
        self._num_shown_ids = 0
        self._text = ""
        """Text of this completion; over a text seam, since the ids were last settled."""
        self._shown = 0
        """How much of `_text` was shown."""
        self._stop_id: int | None = None
        self._stop_text: str | None = None
        self.is_over = False
        self._ends_thinking = False
        # A spelled delimiter arrives id by id; what may be its beginning is held back.
        self._match = plan.tokens.match_ids if ask.is_thinking and plan.tokens.trigger_id is None else ()
        self._reopening = ""
        """What begins thinking again inside an answer, where it can only be seen in the text."""
        self._sent_stops = self._stops = ask.stop_texts
        if not self._dialect.returns_ids:
            if ask.is_thinking and not self._stops:
                self._stops = (plan.tokens.format.end.rstrip(),)
                self._sent_stops = () if self._dialect.names_stop_ids else self._stops
            elif not ask.is_thinking and plan.tokens.reopen_id in ask.stop_ids:
                self._reopening = plan.tokens.decode((plan.tokens.reopen_id,))
                # The delimiter is one token, and no text of the answer: a stop such as "think" is not looked for in it,
                # which the server would do.
                self._sent_stops = tuple(stop for stop in self._stops if not _can_begin_in(stop, self._reopening))
        self._looked_for = (self._reopening, *self._stops) if self._reopening else self._stops

    def body(self) -> dict[str, Any]:
        """The fields of the next completion to ask for, `stream` left out."""
        ask, settings, dialect = self._ask, self._settings, self._dialect
        context = [*ask.context, *self._ids]
        body: dict[str, Any] = {"model": self._model, "max_tokens": ask.max_tokens - len(self._ids)}
        body |= sampling_fields(dialect, settings.sampling, ask)
        if self._sent_stops:
            body["stop"] = list(self._sent_stops)
        if dialect.takes_ids:
            body |= {"prompt": context, "stop_token_ids": sorted(ask.stop_ids)}
            body |= {"skip_special_tokens": False, "spaces_between_special_tokens": False}
        else:
            text = self._tokens.decode(context)
            body["prompt"] = text.removeprefix(self._tokens.bos) if self._adds_bos else text
        if dialect.returns_ids:
            body["return_token_ids"] = True
        if not ask.is_thinking:
            if settings.logprobs is not None:
                body["logprobs"] = settings.logprobs
            if settings.response_format is not None:
                body["response_format"] = dict(settings.response_format)
        return body

    def feed(self, chunk: Chunk) -> Piece:
        """Take in a chunk; returns what can be shown. Raises ServerFailed on what was not asked for."""
        if self._dialect.returns_ids:
            return self._feed_ids(chunk)
        return self._feed_text(chunk)

    def completed(self) -> Completed:
        """The reply for the segment driver. Valid once `is_over`."""
        return Completed(tuple(self._ids), self._stop_id, self._stop_text, self._ends_thinking)

    def end_thinking(self) -> Piece:
        """End thinking with what has come, of which the rest is returned. The completion is over."""
        self.is_over = self._ends_thinking = True
        if not self._dialect.returns_ids:
            # Half a character is not worth a token of ours.
            self._text = self._text.rstrip(_CUT)
            self._ids += self._tokens.encode_after(self._text)[: self._ask.max_tokens - len(self._ids)]
        return self._show(())

    def _feed_ids(self, chunk: Chunk) -> Piece:
        if chunk.text and not chunk.has_ids:
            raise ServerFailed("nonsense", "it sent text without token_ids, which it returned before")
        # This runs for every token: a call that is not made is worth a line.
        ids, start = chunk.ids, len(self._ids)
        if ids and (largest := max(ids)) >= self._tokens.num_ids and not self._tokens.knows(largest):
            raise ServerFailed("nonsense", f"it sent the id {largest}, which this model's tokenizer does not have")
        self._text += chunk.text
        if not self._ask.stop_ids.isdisjoint(ids):
            at = next(n for n, i in enumerate(ids) if i in self._ask.stop_ids)
            # Also where the server went on after an id that it was told to stop at.
            self._stop_id, self.is_over = ids[at], True
            del ids[at:]
        self._ids += ids
        num = len(self._ids)
        if num > self._ask.max_tokens:
            raise ServerFailed("nonsense", f"it sent {num} tokens where at most {self._ask.max_tokens} were asked for")
        if not self.is_over and self._stops and (found := _find(self._text, self._stops, self._shown)) is not None:
            # The server left the stop in; it may even go on.
            self._stop_text, self.is_over = found[1], True
            self._take_off_delimiter()
        elif not self.is_over and chunk.finish is not None:
            self._finish_ids(chunk)
        if num >= self._next_check and (length := self._loop()) is not None:
            del self._ids[length:]
            # The segment driver finds the loop in the ids; the text only says that the completion did not run full.
            self._stop_id, self._stop_text, self.is_over = None, "loop", True
        return self._show(tuple(chunk.logprobs[: max(0, len(self._ids) - start)]) if chunk.logprobs else ())

    def _finish_ids(self, chunk: Chunk) -> None:
        self.is_over = True
        room = self._ask.max_tokens - len(self._ids)
        if chunk.finish == "length":
            if room:
                raise ServerFailed(
                    "nonsense",
                    f"it sent {len(self._ids)} of {self._ask.max_tokens} tokens, and finish_reason length",
                )
        elif isinstance(chunk.stop_reason, str):
            self._stop_text = chunk.stop_reason
            self._take_off_delimiter()
        elif chunk.stop_reason is not None and not self._tokens.knows(chunk.stop_reason):
            raise ServerFailed("nonsense", f"it stopped at the id {chunk.stop_reason}, which no token has")
        else:
            # An end of sequence has no stop_reason of its own.
            self._stop_id = chunk.stop_reason if chunk.stop_reason is not None else min(self._tokens.eos_ids)

    def _take_off_delimiter(self) -> None:
        """Thinking that ended in a spelled delimiter: its ids are not thinking."""
        if not self._ask.is_thinking:
            return
        match = list(self._tokens.match_ids)
        if self._ids[-len(match) :] != match:
            raise ServerFailed("nonsense", "thinking ended in a delimiter spelled with other tokens than the format's")
        del self._ids[-len(match) :]

    def _feed_text(self, chunk: Chunk) -> Piece:
        self._text += chunk.text
        found = _find(self._text, self._looked_for, self._shown) if self._looked_for else None
        if found is not None and chunk.finish is None and found[1] != self._reopening:
            # It may lie in a delimiter of which the rest is yet to come.
            held = _num_held(self._text, (self._reopening,)) if self._reopening else 0
            found = found if found[0] < len(self._text) - held else None
        if found is not None:
            self._text = self._text[: found[0]]
        elif chunk.finish is None:
            return self._show(tuple(chunk.logprobs))
        room = self._ask.max_tokens - len(self._ids)
        if found is None and chunk.finish == "length":
            if not self._text and room > MOST_BYTES:
                raise ServerFailed("nonsense", f"it sent no text for {room} tokens, and finish_reason length")
            # Half a character is not worth a token of ours: the next completion begins with it.
            self._text = self._text.rstrip(_CUT)
        new = self._tokens.encode_after(self._text)
        self._ids += new[:room]
        is_cut = found is None and chunk.finish == "length" and bool(new)
        if len(new) > room or (is_cut and len(new) == room):
            self.is_over = True
        elif not is_cut:
            self.is_over = True
            self._note_text_stop(None if found is None else found[1], chunk.stop_reason)
        piece = self._show(tuple(chunk.logprobs), is_settled=True)
        self._text, self._shown = "", 0
        return piece

    def _note_text_stop(self, found: str | None, reason: int | str | None) -> None:
        if found is not None and found == self._reopening:
            self._stop_id = self._tokens.reopen_id
        elif found is not None:
            self._stop_text = found
        elif isinstance(reason, str) and reason in self._stops:
            self._stop_text = reason
        elif isinstance(reason, int) and reason in self._ask.stop_ids:
            self._stop_id = reason
        elif self._ask.is_thinking and not self._dialect.names_stop_ids:
            # Whether it was the delimiter or the end of the sequence is not said; both are an attempt to stop.
            self._stop_text = self._stops[0]
        else:
            self._stop_id = min(self._tokens.eos_ids)

    def _show(self, logprobs: tuple[TokenLogprob, ...], is_settled: bool = False) -> Piece:
        """What is certain and was not shown yet."""
        if self.is_over and self._dialect.returns_ids:
            text = self._last_text()
        elif self.is_over or is_settled:
            text = self._text[self._shown :].rstrip(_CUT)
        else:
            end = len(self._text)
            if self._text.endswith(_CUT):
                end = len(self._text.rstrip(_CUT))
            if self._looked_for:
                end = min(end, len(self._text) - _num_held(self._text, self._looked_for))
            text = self._text[self._shown : end] if end > self._shown else ""
        self._shown += len(text)
        limit = len(self._ids)
        if self._match and not self.is_over:
            limit -= _num_held(self._ids, (self._match,))
        ids = tuple(self._ids[self._num_shown_ids : limit])
        if limit > self._num_shown_ids:
            self._num_shown_ids = limit
        return Piece(self._kind, "sampled", text, ids, logprobs)

    def _last_text(self) -> str:
        """The rest of the text, by the ids, which are the record; by the server's text where the two disagree."""
        whole = self._tokens.decode(self._ids, self._ask.context[-1:])
        if not self._ask.is_thinking and (found := _find(whole, self._stops)) is not None:
            whole = whole[: found[0]]
        shown = self._text[: self._shown]
        return whole[self._shown :] if whole.startswith(shown) else ""

    def _loop(self) -> int | None:
        """How many ids there are where thinking, or the answer, is seen to repeat itself; or None."""
        before = len(self._before)
        start = before + int(self._next_check) - 1
        self._next_check = _next_check(before + len(self._ids)) - before
        length = first_loop([*self._before, *self._ids], start, self._min_tokens, self._tokens.id_kinds)
        if length is None or length == before + self._ask.max_tokens:
            return None
        return length - before


def _next_check(num_tokens: int) -> int:
    return (num_tokens // CHECK_EVERY + 1) * CHECK_EVERY


def _find(text: str, stops: Sequence[str], start: int = 0) -> tuple[int, str] | None:
    """The place of the first stop at or after `start`, and which it is; of two at one place the one given first."""
    found = [(at, n, s) for n, s in enumerate(stops) if (at := text.find(s, start)) >= 0]
    if not found:
        return None
    at, _, stop = min(found)
    return at, stop


def _can_begin_in(stop: str, delimiter: str) -> bool:
    """Whether an occurrence of `stop` can begin within `delimiter`: `>a` and `hin` in `<think>`."""
    tails = (delimiter[at:] for at in range(len(delimiter)))
    return any(tail.startswith(stop) or stop.startswith(tail) for tail in tails)


def _num_held(sequence: Sequence[Any], stops: Sequence[Sequence[Any]]) -> int:
    """How much of the end of a sequence may be the beginning of a stop."""
    longest = 0
    for stop in stops:
        most = min(len(stop), len(sequence))
        for size in range(most, longest, -1):
            if tuple(sequence[-size:]) == tuple(stop[:size]):
                longest = size
                break
    return longest
