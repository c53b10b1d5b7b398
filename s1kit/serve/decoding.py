"""The interface between the HTTP layer and the backends: a `Job` in, a stream of `Delta` and one `End` out.

Knows nothing of HTTP bodies and nothing of models.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from s1kit.adaptive.rule import ExitRule
from s1kit.completions.stream import TokenLogprob
from s1kit.forcing.plan import Plan
from s1kit.forcing.request import Sampling
from s1kit.forcing.token_format import TokenFormat
from s1kit.records import Ending, Origin, SegmentKind


@dataclass(frozen=True, slots=True)
class Delta:
    """New tokens of one kind and origin. Joined, the deltas of a job are its transcript."""

    kind: SegmentKind
    origin: Origin
    text: str
    """Whole characters only; may be empty where tokens are there and their character is not complete."""
    num_tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class End:
    """A job's final event: why thinking and answer ended."""

    ending: Ending | None
    """How thinking ended; None where there was none to end."""
    finish: Literal["stop", "length"]
    """Why the answer ended."""
    seam: Literal["ids", "text"] = "ids"
    is_stop_string: bool = False
    """Whether one of the request's stop strings ended the answer."""
    note: str = ""
    """What a reader of the reply must know."""


@dataclass(slots=True)
class ThinkingStop:
    """A switch that ends a job's thinking from outside, at the next token, as a budget spent there does."""

    is_asked: bool = False
    _listener: Callable[[], None] | None = None

    def ask(self) -> None:
        """End thinking now, or as soon as the job begins."""
        if not self.is_asked:
            self.is_asked = True
            if self._listener is not None:
                self._listener()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` once when it is asked for; at once where it was."""
        self._listener = listener
        if self.is_asked:
            listener()


@dataclass(slots=True)
class Probes:
    """Work that an exit rule added to a reply."""

    answer_tokens: int = 0
    """Tokens of the answers that nobody was shown."""


@dataclass(frozen=True, slots=True)
class Job:
    """One choice of one request, ready to be decoded."""

    plan: Plan
    logprobs: int | None = None
    """How many rivals of each answer token to report; None: no log probabilities."""
    sampling: Mapping[str, float] = field(default_factory=dict)
    """What the request stated of temperature, top_p, top_k, min_p and seed, to hand on as it is."""
    response_format: Mapping[str, Any] | None = None
    """OpenAI's object, for the answer only."""
    has_answer: bool = True
    """False: the request's total leaves no room for an answer, so the reply ends where thinking does."""
    stop: ThinkingStop = field(default_factory=ThinkingStop)
    is_auto: bool = False
    """Thinking is left when its answer is settled, by the backend's `rule`."""
    probes: Probes = field(default_factory=Probes)


def thinking_part(deltas: list[Delta]) -> tuple[list[Delta], bool]:
    """The deltas before thinking ends, and whether it ends among these."""
    for i, delta in enumerate(deltas):
        if delta.kind not in ("thinking", "wait"):
            return deltas[:i], True
    return deltas, False


class Backend(Protocol):
    """Whatever decodes jobs: an engine in this process, or another server."""

    model: str
    """The name on the wire."""
    tokens: TokenFormat
    context_tokens: int
    features: frozenset[str]
    """What a job may ask for, among `logprobs`, `min_p`, `response_format` and `structural_tag` (handed on) and
    `grammar` (made here).

    `grammar_uninstalled`: the engine takes grammars, and the library that makes them is missing.
    """
    rule: ExitRule | None
    """When thinking is left under `budget: "auto"`; None: that is not offered."""
    sampling: Sampling
    """How tokens are drawn where a request states no temperature. Another server draws as it likes."""

    def decode(self, job: Job) -> AsyncGenerator[list[Delta] | End, None]:
        """Deltas as they are decoded, then one End. Closing the iterator cancels the work; `job.stop` ends thinking.

        Raises Refusal for what cannot be honoured or for a failure behind it.
        """
        ...

    async def check(self) -> str:
        """Empty when work can be done, else what is wrong."""
        ...

    async def close(self) -> None:
        """Give up everything that is held."""
        ...


@dataclass(slots=True)
class Tally:
    """Counts of what a job has decoded so far; every delta is added to it."""

    thinking_tokens: int = 0
    answer_tokens: int = 0
    delimiter_tokens: int = 0
    forced_tokens: int = 0
    num_waits: int = 0
    kind: SegmentKind | None = None
    """What was decoded last."""
    end: End | None = None
    answered: bool = field(default=False)
    """Whether any sampled answer text was not whitespace."""

    def add(self, delta: Delta) -> None:
        kind, count = delta.kind, delta.num_tokens
        self.kind = kind
        if kind == "thinking":
            self.thinking_tokens += count
        elif kind == "answer":
            self.answer_tokens += count
            if not self.answered and delta.text and not delta.text.isspace():
                self.answered = True
        elif kind == "wait":
            self.thinking_tokens += count
            # A wait is put in at once, so it is one delta.
            self.num_waits += 1
        elif kind in ("close", "open"):
            self.delimiter_tokens += count
        else:
            self.answer_tokens += count
        if delta.origin == "forced":
            self.forced_tokens += count

    @property
    def completion_tokens(self) -> int:
        return self.thinking_tokens + self.delimiter_tokens + self.answer_tokens
