"""How many requests go into one batch job: by the provider's limits, by its queue, and by the cap."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from s1kit.providers.batch.wire import BatchWire
from s1kit.providers.chat import ChatRequest
from s1kit.providers.client import Client
from s1kit.providers.wires.reading import output_limit

MAX_JOB_BYTES = 64 * 2**20
"""Largest job, below every provider's limit: a job is in memory while it is submitted."""


@dataclass
class JobSizes:
    client: Client
    wire: BatchWire
    requests: Mapping[str, ChatRequest]
    max_requests: int = 10**9
    """In one job; halved when a job alone is more than the provider's queue takes."""

    def chunks(self, keys: Sequence[str]) -> Iterator[tuple[list[str], list[bytes]]]:
        """The requests in jobs that the provider takes: keys, and the lines of the input file."""
        chunk: list[str] = []
        lines: list[bytes] = []
        size = 0
        limit = min(self.wire.max_bytes, MAX_JOB_BYTES)
        for key in keys:
            line = self.wire.line(key, self.requests[key])
            if chunk and (len(chunk) >= min(self.wire.max_requests, self.max_requests) or size + len(line) + 1 > limit):
                yield chunk, lines
                chunk, lines, size = [], [], 0
            chunk.append(key)
            lines.append(line)
            size += len(line) + 1
        if chunk:
            yield chunk, lines

    def num_affordable(self, keys: Sequence[str]) -> int:
        """How many of the requests fit below the cap, in order."""
        account = self.client.spend_cap.account
        if account.cap_usd is None:
            return len(keys)
        free = account.free
        for num, key in enumerate(keys):
            free -= self.most([key])
            if free < 0:
                return num
        return len(keys)

    def most(self, keys: Iterable[str]) -> float:
        """The most that the requests can cost in a batch, in dollars."""
        wire, cap = self.client.model.wire, self.client.spend_cap
        if cap.price is None:
            return 0.0
        requests = [self.requests[key] for key in keys]
        return sum(cap.most(r.max_input_tokens, output_limit(wire.call(r).body), is_batch=True) for r in requests)
