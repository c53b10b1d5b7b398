"""Talking to a chat model: teachers, students, labellers and judges, over each provider's own wire format.

chat.py                what is asked and what comes back
wires/                 each provider's JSON, to and fro, pure
classify.py            whether a reply is an answer, or what kind of problem
catalog.py keys.py     from a model reference to an address and a key
money.py spend_cap.py  what it costs, and the cap; terms.py: what the output may be used for
throttle.py            how fast; rate_limits.py is what it learns from
http.py                one request over aiohttp; incoming.py: its reply as it arrives
connections.py         proxies, TLS, keep-alive
contact.py             whether a server can be reached at all, for `s1kit check`
balance.py             several servers of one model
streaming.py           whether a server is asked for streams
client.py              one call: journal, cap, throttle, retries; patience.py: when to stop asking
kept.py                replies into the journal and out of it
batch/                 the same through a batch API
local.py sync.py       a local engine behind the same call; many calls from code that is not async
"""

from __future__ import annotations

from typing import Protocol

from s1kit.records import Question, Trace


class Teacher(Protocol):
    """A model, or a file of its replies, that answers questions and shows its thinking."""

    async def ask(self, question: Question, draw: int) -> Trace:
        """The trace for one question; `draw` counts repeated replies to it from 0.

        A reply that is truncated, empty, refused or malformed is a trace that says so, never an exception.
        """
        ...
