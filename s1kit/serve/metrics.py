"""Counters, gauges and histograms in Prometheus' text form. No dependency, no global state: one `Metrics` a server."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from s1kit.serve.decoding import Tally

TOKENS = (0, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Counter:
    """A number that only grows, or (`kind` gauge) one that is set."""

    help: str
    kind: str = "counter"
    values: dict[Labels, float] = field(default_factory=dict)

    def add(self, amount: float = 1, **labels: str) -> None:
        key = tuple(sorted(labels.items()))
        self.values[key] = self.values.get(key, 0) + amount

    def set(self, value: float, **labels: str) -> None:
        self.values[tuple(sorted(labels.items()))] = value

    def lines(self, name: str) -> list[str]:
        return [f"{name}{_labelled(key)} {value:g}" for key, value in (self.values or {(): 0}).items()]


@dataclass(slots=True)
class Histogram:
    """How often values fell at or below each bound."""

    help: str
    bounds: Sequence[float]
    kind: str = "histogram"
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str) -> list[str]:
        out, below = [], 0
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            below += count
            out.append(f'{name}_bucket{{le="{bound}"}} {below}')
        return [*out, f"{name}_sum {self.total:g}", f"{name}_count {below}"]


class Metrics:
    """Everything that is counted about one server."""

    def __init__(self) -> None:
        self.requests = Counter("Requests by endpoint and HTTP status (499: the client left first).")
        self.in_flight = Counter("Choices being decoded now.", "gauge")
        self.waiting = Counter("Choices waiting for a place.", "gauge")
        self.thinking_tokens = Histogram("Thinking tokens of one choice, inserted ones included.", TOKENS)
        self.answer_tokens = Histogram("Answer tokens of one choice.", TOKENS)
        self.prompt_tokens = Counter("Prompt tokens.")
        self.waits_inserted = Counter("Stops that were turned into a wait.")
        self.forced_tokens = Counter("Tokens that the server put in: waits, ends of thinking, closing phrases.")
        self.forced_ends = Counter("Times the budget ended thinking.")
        self.natural_ends = Counter("Times the model ended thinking.")
        self.loop_breaks = Counter("Times repetition ended thinking.")
        self.empty_answers = Counter("Choices whose answer holds no text that the model wrote.")
        self.first_thinking = Histogram("Seconds from the request to its first thinking token.", SECONDS)
        self.first_answer = Histogram("Seconds from the request to its first answer token.", SECONDS)
        self.request_seconds = Histogram("Seconds from a request to the end of its reply.", SECONDS)
        self.cancelled = Counter("Requests whose client left before the end.")
        self.upstream_errors = Counter("Failures of the server behind this one, by kind.")

    _NAMES = (
        ("s1kit_requests_total", "requests"),
        ("s1kit_in_flight", "in_flight"),
        ("s1kit_queue", "waiting"),
        ("s1kit_thinking_tokens", "thinking_tokens"),
        ("s1kit_answer_tokens", "answer_tokens"),
        ("s1kit_prompt_tokens_total", "prompt_tokens"),
        ("s1kit_waits_inserted_total", "waits_inserted"),
        ("s1kit_forced_tokens_total", "forced_tokens"),
        ("s1kit_forced_ends_total", "forced_ends"),
        ("s1kit_natural_ends_total", "natural_ends"),
        ("s1kit_loop_breaks_total", "loop_breaks"),
        ("s1kit_empty_answers_total", "empty_answers"),
        ("s1kit_time_to_first_thinking_seconds", "first_thinking"),
        ("s1kit_time_to_first_answer_seconds", "first_answer"),
        ("s1kit_request_seconds", "request_seconds"),
        ("s1kit_cancelled_total", "cancelled"),
        ("s1kit_upstream_errors_total", "upstream_errors"),
    )

    def count_choice(self, tally: Tally) -> None:
        """Account for one finished choice."""
        self.thinking_tokens.observe(tally.thinking_tokens)
        self.answer_tokens.observe(tally.answer_tokens)
        self.waits_inserted.add(tally.num_waits)
        self.forced_tokens.add(tally.forced_tokens)
        ending = tally.end.ending if tally.end is not None else None
        counter = {"cut_off": self.forced_ends, "closed": self.natural_ends, "loop": self.loop_breaks}.get(ending or "")
        if counter is not None:
            counter.add()
        if not tally.answered:
            self.empty_answers.add()

    def render(self) -> str:
        """All metrics in Prometheus' text format."""
        out: list[str] = []
        for name, attribute in self._NAMES:
            metric: Counter | Histogram = getattr(self, attribute)
            out += [f"# HELP {name} {metric.help}", f"# TYPE {name} {metric.kind}", *metric.lines(name)]
        return "\n".join(out) + "\n"


def _labelled(key: Labels) -> str:
    if not key:
        return ""
    escaped = (f'{name}="{_escape(value)}"' for name, value in key)
    return "{" + ",".join(escaped) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
