"""Chat requests answered by local engines over an executor, straight into the journal that a chat model reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from s1kit.engines import load_engine
from s1kit.engines.interface import close_engine
from s1kit.executors import Executor, OnProgress
from s1kit.journal import Journal
from s1kit.providers.chat import ChatRequest
from s1kit.providers.local import body_of, engine_request, entry_of

SHARD = 64
"""Requests that an engine takes at a time, unless the recipe says."""


@dataclass(frozen=True)
class Chatting:
    """A local engine answers a shard of chat requests, each with the reply as the journal keeps it."""

    model: str
    """Its reference, e.g. `hf:models/r1-distill`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of `load_engine`."""

    @contextmanager
    def open(self) -> Iterator[Callable[[Sequence[ChatRequest], OnProgress], dict[str, dict[str, Any]]]]:
        """The engine, loaded. Replies come by the requests' keys; a request that it leaves out has none."""
        engine = load_engine(self.model, **self.options)

        def answer(requests: Sequence[ChatRequest], on_progress: OnProgress) -> dict[str, dict[str, Any]]:
            asked = [engine_request(request, number, engine) for number, request in enumerate(requests)]
            replies = {}
            for generation in engine.generate(asked):
                replies[requests[generation.repeat].key] = body_of(generation)
                on_progress(1)
            return replies

        try:
            yield answer
        finally:
            close_engine(engine)


def fill_journal(
    executor: Executor,
    work: Chatting,
    requests: Sequence[ChatRequest],
    journal: Journal,
    on_progress: OnProgress,
    shard: int = SHARD,
) -> None:
    """Replies to all requests that the journal does not know yet, kept a shard at a time as engines finish them."""
    known = journal.known([request.key for request in requests])
    on_progress(len(known))
    new = list({request.key: request for request in requests if request.key not in known}.values())
    left = iter(new)
    shards = list(iter(lambda: list(islice(left, shard)), []))
    with closing(executor.run(work, shards, on_progress)) as done:
        for position, replies in done:
            by_key = {request.key: request for request in shards[position]}
            journal.put([entry_of(by_key[key], body) for key, body in replies.items()])
