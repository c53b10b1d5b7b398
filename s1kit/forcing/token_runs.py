"""The tokens of one request as runs of one origin and kind: their text, their segments, and how much was streamed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from s1kit.forcing.detokenizer import IncrementalDetokenizer
from s1kit.forcing.token_format import TokenFormat
from s1kit.records import Origin, Segment, SegmentKind


@dataclass(slots=True)
class TokenRun:
    """A run of tokens of one origin and kind that may still grow."""

    origin: Origin
    kind: SegmentKind
    ids: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _RunStream:
    """How much of one run has been streamed."""

    detokenizer: IncrementalDetokenizer
    held: str = ""
    """Decoded text that was not streamed yet."""
    num_characters: int = 0
    """Streamed so far."""
    num_decoded: int = 0
    """Ids."""
    num_ids: int = 0
    """Streamed so far."""


class TokenRuns:
    """Runs in the order of the context. The last one may be empty: sampled tokens will go into it."""

    def __init__(self, tokens: TokenFormat, prompt_ids: Sequence[int]) -> None:
        self._tokens, self._prompt_ids = tokens, prompt_ids
        self._runs: list[TokenRun] = []
        self.text_cut: str | None = None
        """The text of the last run, where a stop string cut it."""
        self._num_shown = 0
        """Runs that were streamed to their end."""
        self._stream: _RunStream | None = None

    def add(self, origin: Origin, kind: SegmentKind, ids: Sequence[int]) -> None:
        """Append a run; no ids, no run."""
        if ids:
            self._runs.append(TokenRun(origin, kind, list(ids)))

    def tail(self, kind: SegmentKind) -> list[int]:
        """The ids of the run that sampled tokens of a kind go into: the last one if it is such a run, else a new one.

        The caller appends to the list.
        """
        if not self._runs or self._runs[-1].kind != kind or self._runs[-1].origin != "sampled":
            self._runs.append(TokenRun("sampled", kind))
        return self._runs[-1].ids

    @property
    def num_ids(self) -> int:
        """Tokens of all runs."""
        return sum(len(run.ids) for run in self._runs)

    @property
    def ids(self) -> list[int]:
        """The ids of all runs."""
        return [i for run in self._runs for i in run.ids]

    @property
    def thinking_ids(self) -> list[int]:
        """All thinking, inserted waits included."""
        return [i for run in self._runs if run.kind in ("thinking", "wait") for i in run.ids]

    @property
    def last_thinking_id(self) -> int | None:
        """The last id where it is one of thinking or a wait; None after anything else."""
        last = next((run for run in reversed(self._runs) if run.ids), None)
        return last.ids[-1] if last is not None and last.kind in ("thinking", "wait") else None

    @property
    def has_answer(self) -> bool:
        """Whether there is a closing phrase, or an answer that is more than white space."""
        is_phrase = any(run.ids and run.kind == "closing_phrase" for run in self._runs)
        answers = (i for i, run in enumerate(self._runs) if run.ids and run.kind == "answer")
        return is_phrase or any(self._text(i).strip() for i in answers)

    @property
    def last_text(self) -> str:
        """The text of the last run."""
        return self._text(len(self._runs) - 1)

    def detokenizer(self) -> IncrementalDetokenizer:
        """An incremental detokenizer for the last run, which must be empty."""
        return IncrementalDetokenizer(self._tokens, self._before(len(self._runs) - 1))

    def segments(self) -> tuple[Segment, ...]:
        """All runs as segments of a record."""
        runs = enumerate(self._runs)
        return tuple(Segment.of_ids(r.origin, r.kind, self._text(i), tuple(r.ids)) for i, r in runs if r.ids)

    def new_segments(
        self, is_done: bool, num_held: int = 0, may_be_cut: Callable[[str], bool] | None = None
    ) -> list[Segment]:
        """What is new since the last call. Of the last run, unless `is_done`, only what is certain.

        Held back: a character of which only some bytes are there, the last `num_held` ids, and text whose end
        `may_be_cut` off.
        """
        new: list[Segment] = []
        while self._num_shown < len(self._runs):
            run = self._runs[self._num_shown]
            is_last = run is self._runs[-1]
            is_over = is_done or not is_last
            if (stream := self._stream) is None:
                before = self._before(self._num_shown)
                stream = self._stream = _RunStream(IncrementalDetokenizer(self._tokens, before))
            ids = run.ids if is_over or not num_held else run.ids[: len(run.ids) - num_held]
            if len(ids) > stream.num_decoded:
                stream.held += stream.detokenizer.add(ids[stream.num_decoded :])
                stream.num_decoded = len(ids)
            if is_over:
                stream.held += stream.detokenizer.finish()
                if self.text_cut is not None and is_last:
                    stream.held = self.text_cut[stream.num_characters :]
                self._num_shown, self._stream = self._num_shown + 1, None
            elif not stream.held or (may_be_cut is not None and may_be_cut(stream.held)):
                break
            text, num_before = stream.held, stream.num_ids
            if text or len(ids) > num_before:
                stream.held, stream.num_characters = "", stream.num_characters + len(text)
                stream.num_ids = len(ids)
                shown = tuple(ids[num_before:])
                new.append(Segment(origin=run.origin, kind=run.kind, text=text, token_ids=shown, num_tokens=len(shown)))
            if not is_over:
                break
        return new

    def _text(self, index: int) -> str:
        run = self._runs[index]
        if self.text_cut is not None and run is self._runs[-1]:
            return self.text_cut
        return self._tokens.decode(run.ids, self._before(index))

    def _before(self, index: int) -> tuple[int, ...]:
        """The id before a run."""
        earlier = (self._runs[i].ids for i in range(index - 1, -1, -1))
        ids = next((ids for ids in earlier if ids), self._prompt_ids)
        return tuple(ids[-1:])


def first_stop(text: str, stop: Sequence[str], num_known: int = 0) -> int | None:
    """The index at which the first stop string begins; None without one.

    `num_known`: characters at the beginning in which there is known to be none.
    """
    found = [at for s in stop if (at := text.find(s, max(0, num_known - len(s) + 1))) >= 0]
    return min(found) if found else None
