"""What an engine decoded: segments of one origin, under which setting, and how thinking and answer ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import pyarrow as pa

from s1kit.records.record import AnswerFinish, Ending, Origin, Record, SegmentKind, Verdict


class Segment(Record):
    """A run of tokens of one origin and one kind."""

    origin: Origin
    """`sampled` by the model, or `forced`."""
    kind: SegmentKind
    """What it is part of: `thinking`, `wait`, `close`, `closing_phrase`, `answer` or another of `SegmentKind`."""
    text: str
    """The text of its tokens."""
    token_ids: tuple[int, ...] = ()
    """Empty where a server exchanged text only; then `num_tokens` is as it reported."""
    num_tokens: int
    """Its number of tokens."""

    @classmethod
    def of_ids(cls, origin: Origin, kind: SegmentKind, text: str, token_ids: tuple[int, ...]) -> Self:
        return cls(origin=origin, kind=kind, text=text, token_ids=token_ids, num_tokens=len(token_ids))


class Setting(Record):
    """One point of a method: a way to spend test-time compute, with its numbers."""

    method: str = "budget_forcing"
    max_tokens: int | None = None
    """Thinking budget; None: the room there is."""
    min_tokens: int = 0
    num_waits: int = 0
    wait: str | None = None
    """None: the thinking format's own."""
    temperature: float = 0.0
    target: str = ""
    """What the question asked for beside the answer: `1024` tokens, `16` steps, `short`, or an effort level."""
    model: str = ""
    """A model other than the one under evaluation, e.g. the baseline; empty: that one."""

    @property
    def label(self) -> str:
        """A short name for tables.

        >>> Setting(max_tokens=64, num_waits=2).label
        'budget_forcing max=64 waits=2'
        """
        parts = [self.method]
        for name, value, default in [
            ("max", self.max_tokens, None),
            ("min", self.min_tokens, 0),
            ("waits", self.num_waits, 0),
            ("wait", self.wait, None),
            ("T", self.temperature, 0.0),
            ("target", self.target, ""),
            ("model", self.model, ""),
        ]:
            if value != default:
                parts.append(f"{name}={value}")
        return " ".join(parts)


class Generation(Record):
    """One engine's thinking and answer to one question, and how they came about."""

    flat: ClassVar[Mapping[str, pa.DataType]] = {
        "thinking_tokens": pa.int64(),
        "answer_tokens": pa.int64(),
        "num_waits": pa.int64(),
        "was_cut_off": pa.bool_(),
        "is_correct": pa.bool_(),
    }

    question_id: str
    """Id of the question."""
    setting: Setting | None = None
    """The setting under which it was decoded."""
    repeat: int = 0
    """Which draw of the setting it is, from 0."""
    segments: tuple[Segment, ...] = ()
    """Thinking and answer in order, each run of tokens of one origin and kind."""
    ending: Ending
    """How thinking ended, e.g. `closed` by the model or `cut_off` by the budget."""
    answer_finish: AnswerFinish = "stop"
    """Why the answer ended: end of sequence, its token room, a stop string, the loop guard; `none`: no answer."""
    seam: Literal["ids", "text"] = "ids"
    """What crossed the segment seams: token ids (exact) or text (token boundaries may move)."""
    note: str = ""
    """Why it failed, or what a reader must know."""
    verdict: Verdict | None = None
    """The grader's: `correct`, `wrong` or `abstain`; None: not graded."""
    evidence: str = ""
    """What the verdict rests on."""
    final_answer: str = ""
    """What the grader extracted from the answer, in the form that votes are counted on; empty: nothing, or ungraded."""
    cost_usd: float = 0.0
    """What a provider charged for it."""
    mean_logprob: float | None = None
    """Mean natural log-probability of the sampled tokens under the model itself, at temperature 1; None: not known.

    Only the answer's tokens count, its end included, where the request has `measures_answer`."""

    @property
    def thinking(self) -> str:
        """The text between the delimiters, inserted waits included."""
        return "".join(s.text for s in self.segments if s.kind in ("thinking", "wait"))

    @property
    def answer(self) -> str:
        """The text after the end delimiter, a forced closing phrase included."""
        return "".join(s.text for s in self.segments if s.kind in ("closing_phrase", "answer"))

    @property
    def thinking_tokens(self) -> int:
        """Every token between the delimiters, inserted ones included, delimiters not."""
        return sum(s.num_tokens for s in self.segments if s.kind in ("thinking", "wait"))

    @property
    def answer_tokens(self) -> int:
        """Tokens of the answer, a forced closing phrase included."""
        return sum(s.num_tokens for s in self.segments if s.kind in ("closing_phrase", "answer"))

    @property
    def forced_tokens(self) -> int:
        return sum(s.num_tokens for s in self.segments if s.origin == "forced")

    @property
    def num_waits(self) -> int:
        """Stop attempts that were turned into a wait."""
        return sum(s.kind == "wait" for s in self.segments)

    @property
    def is_correct(self) -> bool | None:
        """What the grader said; None where it abstained or was not asked."""
        return None if self.verdict in (None, "abstain") else self.verdict == "correct"

    @property
    def was_cut_off(self) -> bool:
        """Whether the budget, not the model, ended thinking."""
        return self.ending == "cut_off"
