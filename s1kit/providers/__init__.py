"""Talking to a chat model: teachers, students, labellers and judges, over each provider's own wire format.

chat.py              what is asked and what comes back
*_wire.py            a provider's JSON, to and fro, pure
catalog.py keys.py   from a model reference to an address and a key
money.py terms.py    what it costs, and what its output may be used for
throttle.py          how fast; limit_headers.py, token_bucket.py, rounds.py, queue_depth.py are what it learns from
http.py              how: connection.py for requests and replies, aiohttp for the rest
client.py            one call: journal, purse, throttle, retries
batch.py             the same through a batch API
local.py many.py     a local engine behind the same call; many calls from code that is not async
"""

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
