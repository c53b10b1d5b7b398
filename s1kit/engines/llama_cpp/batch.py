"""The running batch of the engine `llama.cpp:`: each request is a sequence of one cache, and a step serves them all.

Every sampled token is looked at before it enters the cache, so replacing a stop is exact under any sampling.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Any

import llama_cpp
import numpy as np

from s1kit.engines.interface import Event, lost
from s1kit.forcing.plan import Plan
from s1kit.forcing.request import Request
from s1kit.forcing.token_driver import TokenDriver

BATCH_TOKENS = 512
"""Most tokens of one step, over all requests."""


@dataclass
class _Slot:
    """One request, and its sequence of llama.cpp's cache once it runs."""

    ticket: int
    row: TokenDriver
    random: Random
    pending: deque[int]
    """Ids that are not in the cache yet; at least one."""
    is_streamed: bool
    sequence: int = -1
    length: int = 0


class LlamaCppBatch:
    """A running batch: requests wait for a free sequence of the cache, then decode together."""

    def __init__(self, context: Any, vocabulary_size: int, num_parallel: int) -> None:
        self._context, self._vocabulary_size = context, vocabulary_size
        self._waiting: deque[_Slot] = deque()
        self._running: list[_Slot] = []
        self._free = deque(range(num_parallel))
        self._num_admitted = 0

    @property
    def is_idle(self) -> bool:
        return not self._running and not self._waiting

    def admit(self, plan: Plan, is_streamed: bool = False) -> int:
        """Queue a request; returns the ticket that its events carry."""
        ticket = self._num_admitted
        self._num_admitted += 1
        row = TokenDriver(plan)
        pending, random = deque(row.start()), Random(plan.request.seed)
        self._waiting.append(_Slot(ticket, row, random, pending, is_streamed))
        return ticket

    def cancel(self, ticket: int) -> None:
        """Forget a request, running or waiting; one that is already done is none."""
        self._waiting = deque(w for w in self._waiting if w.ticket != ticket)
        for slot in [s for s in self._running if s.ticket == ticket]:
            self._retire(slot)

    def end_thinking(self, ticket: int) -> None:
        """End a request's thinking at the next token, as a budget spent there does; a no-op once it answers."""
        for slot in (*self._running, *self._waiting):
            if slot.ticket == ticket:
                slot.pending.extend(slot.row.end_thinking())

    def step(self) -> list[Event]:
        """Let waiting requests in, then advance the running ones; raises RuntimeError when llama.cpp fails."""
        while self._waiting and self._free:
            slot = self._waiting.popleft()
            slot.sequence = self._free.popleft()
            self._running.append(slot)
        self._advance()
        events = []
        for slot in list(self._running):
            segments = tuple(slot.row.new_segments()) if slot.is_streamed else ()
            generation = slot.row.generation() if slot.row.is_done else None
            if generation is not None:
                self._retire(slot)
            if segments or generation is not None:
                events.append(Event(slot.ticket, segments, generation))
        return events

    def fail(self, why: str) -> list[Event]:
        """Give up the requests that run; their events say why and keep what they had. Those that wait go on."""
        events = [lost(slot.ticket, slot.row.generation(), why) for slot in self._running]
        for slot in list(self._running):
            self._retire(slot)
        return events

    def _retire(self, slot: _Slot) -> None:
        self._running.remove(slot)
        self._forget(slot.sequence, 0)
        self._free.append(slot.sequence)

    def _advance(self) -> None:
        """Feed what is pending, at most a batch of it, and sample where nothing is left."""
        batch = llama_cpp.llama_batch_init(BATCH_TOKENS, 0, 1)
        try:
            ends: list[tuple[int, _Slot]] = []
            share = max(1, BATCH_TOKENS // max(1, len(self._running)))
            for slot in self._running:
                for _ in range(min(share, len(slot.pending))):
                    at = batch.n_tokens
                    batch.token[at], batch.pos[at] = slot.pending.popleft(), slot.length
                    batch.n_seq_id[at], batch.seq_id[at][0] = 1, slot.sequence
                    batch.logits[at] = not slot.pending
                    batch.n_tokens += 1
                    slot.length += 1
                if not slot.pending:
                    ends.append((batch.n_tokens - 1, slot))
            status = llama_cpp.llama_decode(self._context, batch)
            if status != 0:
                raise RuntimeError(f"llama_decode answered {status}")
            for at, slot in ends:
                self._sample(slot, at)
        finally:
            llama_cpp.llama_batch_free(batch)

    def _sample(self, slot: _Slot, at: int) -> None:
        pointer = llama_cpp.llama_get_logits_ith(self._context, at)
        logits = np.ctypeslib.as_array(pointer, shape=(self._vocabulary_size,))
        ids = slot.row.push(choose(logits, slot.row.plan.request, slot.random))
        if slot.row.drop:
            slot.length -= slot.row.drop
            self._forget(slot.sequence, slot.length)
        slot.pending.extend(ids)

    def _forget(self, sequence: int, start: int) -> None:
        memory = llama_cpp.llama_get_memory(self._context)
        llama_cpp.llama_memory_seq_rm(memory, sequence, start, -1)


def choose(logits: Any, request: Request, random: Random) -> int:
    """One id: the largest at temperature 0, else a draw after temperature, top-k and top-p, in this order."""
    if request.temperature == 0:
        return int(logits.argmax())
    scaled = (logits.astype(np.float64) - logits.max()) / request.temperature
    if request.top_k and request.top_k < len(scaled):
        order = np.argsort(-scaled, kind="stable")
        scaled[order[request.top_k :]] = -np.inf
    probabilities = np.exp(scaled)
    probabilities /= probabilities.sum()
    if request.top_p < 1:
        order = np.argsort(-probabilities, kind="stable")
        before = probabilities[order].cumsum() - probabilities[order]
        beyond = order[(before >= request.top_p) & (np.arange(len(order)) > 0)]
        probabilities[beyond] = 0.0
    cumulative = probabilities.cumsum()
    return min(int(np.searchsorted(cumulative, random.random() * cumulative[-1], side="right")), len(cumulative) - 1)
