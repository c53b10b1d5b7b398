"""Talking to a chat model: teachers, students, labellers and judges, over each provider's own wire format."""

from __future__ import annotations

from typing import Protocol

from s1kit.records import Question, Trace


class Teacher(Protocol):
    """Someone who answers questions with visible thinking."""

    async def ask(self, question: Question, draw: int) -> Trace:
        """The trace for one question; `draw` counts repeated replies to it from 0.

        A reply that is truncated, empty, refused or malformed is a trace that says so, never an exception.
        """
        ...
