"""A fake engine whose accuracy curve is known in advance: a question asks for so many steps, a model walks them.

It stops of its own accord every `stride` steps, like a model that stops too early; told to wait, it walks on. Its
answer is right exactly if it has walked far enough. Every token is a step, so budgets and steps are the same number. It
counts the tokens it was made to decode.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random
from typing import Any

from s1kit.engines import OnSegment
from s1kit.forcing import Insert, Sampled, StopAttempt, ThinkingBudget, advance, begin
from s1kit.forcing.request import Request
from s1kit.records import Generation, Question, Segment

WAIT_ID, CLOSE_ID, PHRASE_ID = 1, 2, 3


def walks(num: int, longest: int = 40) -> list[Question]:
    """Questions that need from 1 to `longest` steps, evenly."""
    return [
        Question(text=f"Walk {i % longest + 1} steps, number {i}.", solution=str(i % longest + 1), source="walks")
        for i in range(num)
    ]


class Walker:
    def __init__(self, stride: int = 10, wobble: float = 0.0) -> None:
        self.stride = stride
        self.wobble = wobble
        """The chance that a sampled answer is one off, at temperature above 0."""
        self.decoded = 0
        """Tokens decoded so far, thinking and answers."""
        self.requests: list[Request] = []

    def generate(self, requests: Iterable[Request], on_segment: OnSegment | None = None) -> Iterator[Generation]:
        for request in requests:
            self.requests.append(request)
            yield self._generate(request)

    def _generate(self, request: Request) -> Generation:
        budget = request.budget or ThinkingBudget(1000)
        segments: list[Segment] = []
        ending: Any = request.prefix.ending if request.prefix else None
        state, move = begin(budget)
        if request.prefix:
            segments = _cut(request.prefix.segments, request.prefix.num_tokens)
        elif state.closed:
            ending = "cut_off"
        steps = sum(s.num_tokens for s in segments if s.kind == "thinking")
        while ending is None:
            room = min(move.room, self.stride - steps % self.stride if steps % self.stride else self.stride)
            segments.append(_segment("sampled", "thinking", " step" * room, tuple(range(10, 10 + room))))
            steps += room
            self.decoded += room
            state, move = advance(budget, 1, state, Sampled(room))
            if move.insert is Insert.CUTOFF:
                ending = "cut_off"
            elif steps % self.stride == 0:
                state, move = advance(budget, 1, state, StopAttempt())
                if move.insert is Insert.CLOSE:
                    ending = "closed"
                else:
                    segments.append(_segment("forced", "wait", " Wait", (WAIT_ID,)))
        origin = "sampled" if ending == "closed" else "forced"
        segments.append(_segment(origin, "close", "</think>", (CLOSE_ID,)))
        if ending == "cut_off":
            segments.append(_segment("forced", "closing_phrase", " Final Answer:", (PHRASE_ID,)))
        needed = int(request.question.split()[1])
        answer = needed if steps >= needed else steps
        if request.temperature and Random(request.seed).random() < self.wobble:
            answer += 100
        segments.append(_segment("sampled", "answer", f" {answer}", (100 + answer,)))
        self.decoded += 1
        return Generation(
            question_id=request.question_id,
            setting=request.setting,
            repeat=request.repeat,
            segments=tuple(segments),
            ending=ending,
        )


def _segment(origin: Any, kind: Any, text: str, ids: tuple[int, ...]) -> Segment:
    return Segment.of_ids(origin, kind, text, ids)


def _cut(segments: tuple[Segment, ...], num_tokens: int | None) -> list[Segment]:
    left = sum(s.num_tokens for s in segments) if num_tokens is None else num_tokens
    kept = []
    for segment in segments:
        if left > 0:
            ids = segment.token_ids[:left]
            text = segment.text if len(ids) == segment.num_tokens else " step" * len(ids)
            kept.append(_segment(segment.origin, segment.kind, text, ids))
            left -= len(ids)
    return kept
