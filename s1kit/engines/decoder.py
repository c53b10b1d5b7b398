"""Decodes many requests at once over a transformers model; requests join and leave while others run.

    decoder = Decoder(model, vocabulary_size)
    ticket = decoder.admit(plan)
    while not decoder.is_idle:
        for event in decoder.step():         # one token for every running row
            event.ticket, event.segments, event.generation

It looks at every sampled token before the token enters the context, so replacing a stop is exact under any sampling.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache

from s1kit.engines.sampling import Chooser, choose
from s1kit.engines.slots import Slots
from s1kit.plan import Plan
from s1kit.records import Generation, Segment
from s1kit.rows import Row


@dataclass(frozen=True, slots=True)
class Event:
    """News of one request."""

    ticket: int
    segments: tuple[Segment, ...] = ()
    """New runs of tokens, for requests admitted with `is_streamed`."""
    generation: Generation | None = None
    """Set when the request is done."""


@dataclass(slots=True)
class _Active:
    ticket: int
    row: Row
    chooser: Chooser
    is_streamed: bool
    queue: deque[int] = field(default_factory=deque)
    """Ids that enter the context before the model samples again."""


class Decoder:
    """A running batch."""

    def __init__(self, model: Any, vocabulary_size: int, max_batch: int = 256, prefill_tokens: int = 8192) -> None:
        self._model = model
        self._device: torch.device = model.device
        self._vocabulary_size = vocabulary_size
        """Ids from here on are padding of the model's output layer and are never sampled."""
        self._max_batch = max_batch
        self._prefill_tokens = prefill_tokens
        """Most tokens, padding included, in one prefill pass."""
        self._slots = Slots(self._device)
        self._waiting: deque[tuple[_Active, tuple[int, ...]]] = deque()
        self._active: list[_Active] = []
        self._num_admitted = 0
        self._window = _sliding_window(model.config)
        self._is_eager = getattr(model.config, "_attn_implementation", "sdpa") == "eager"

    @property
    def is_idle(self) -> bool:
        return not self._active and not self._waiting

    @property
    def num_running(self) -> int:
        return len(self._active)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    def admit(self, plan: Plan, is_streamed: bool = False) -> int:
        """Queue a request; returns the ticket that its events carry."""
        row = Row(plan)
        context = row.start()
        ticket = self._num_admitted
        self._num_admitted += 1
        self._waiting.append((_Active(ticket, row, Chooser.of(plan.request), is_streamed), context))
        return ticket

    def cancel(self, ticket: int) -> None:
        """Forget a request, running or waiting; one that is already done is none."""
        self._waiting = deque(w for w in self._waiting if w[0].ticket != ticket)
        for index, active in enumerate(self._active):
            if active.ticket == ticket:
                self._retire(index)
                return

    def fail(self, why: str) -> list[Event]:
        """Give up every request that is not done; their events say why and keep what they had."""
        lost = [*self._active, *(active for active, _ in self._waiting)]
        self._active.clear()
        self._waiting.clear()
        self._slots = Slots(self._device)
        return [
            Event(a.ticket, generation=a.row.generation().model_copy(update={"ending": "failed", "note": why}))
            for a in lost
        ]

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """Let waiting requests in, then advance every running row by one token; returns what is new.

        Raises RuntimeError (torch's own kinds included) when the model fails; `fail` then settles the requests.
        """
        events = self._let_in()
        if not self._active:
            return events
        tokens = [a.queue.popleft() for a in self._active]
        cache, positions, mask = self._slots.prepare()
        out = self._model(
            input_ids=torch.tensor(tokens, device=self._device)[:, None],
            attention_mask=self._masks(positions, mask),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        self._slots.advance()
        return events + self._take(out.logits[:, -1, : self._vocabulary_size], first=0)

    def _let_in(self) -> list[Event]:
        """Prefill waiting requests into free slots, unless only a few are free while many wait."""
        events: list[Event] = []
        while self._waiting:
            free = self._max_batch - len(self._active)
            # Prefilling one row at a time would halt the batch at every end of a row.
            if free < min(len(self._waiting), max(1, self._max_batch // 8)):
                break
            events += self._prefill(self._next_group(free))
        return events

    def _next_group(self, most: int) -> list[tuple[_Active, tuple[int, ...]]]:
        group: list[tuple[_Active, tuple[int, ...]]] = []
        longest = 0
        while self._waiting and len(group) < most:
            longest = max(longest, len(self._waiting[0][1]))
            if group and longest * (len(group) + 1) > self._prefill_tokens:
                break
            group.append(self._waiting.popleft())
        return group

    def _prefill(self, group: list[tuple[_Active, tuple[int, ...]]]) -> list[Event]:
        """One pass over several contexts, padded on the right, where causal attention does not see the padding."""
        first = len(self._active)
        self._active += [active for active, _ in group]
        lengths = [len(context) for _, context in group]
        ids = torch.zeros((len(group), max(lengths)), dtype=torch.long)
        for i, (_, context) in enumerate(group):
            ids[i, : len(context)] = torch.tensor(context)
        ends = sorted({length - 1 for length in lengths})
        cache = DynamicCache()
        keep = torch.tensor(ends, device=self._device)
        out = self._model(input_ids=ids.to(self._device), past_key_values=cache, use_cache=True, logits_to_keep=keep)
        self._slots.add(cache, lengths)
        at = torch.tensor([ends.index(length - 1) for length in lengths], device=self._device)
        logits = out.logits[torch.arange(len(group), device=self._device), at, : self._vocabulary_size]
        if not bool(torch.isfinite(logits).all()):
            raise RuntimeError("the model's logits are not finite numbers")
        return self._take(logits, first)

    def _take(self, logits: torch.Tensor, first: int) -> list[Event]:
        """Sample for the rows from `first` on that have nothing queued, and tell them."""
        rows = self._active[first:]
        free = [i for i, a in enumerate(rows) if not a.queue]
        if free:
            chosen = choose(logits if len(free) == len(rows) else logits[free], [rows[i].chooser for i in free])
            for i, token in zip(free, chosen, strict=True):
                active = rows[i]
                active.queue.extend(active.row.push(token))
                self._slots.lengths[first + i] -= active.row.drop
        events = []
        for index in range(len(self._active) - 1, first - 1, -1):
            active = self._active[index]
            is_done = active.row.is_done
            segments = tuple(active.row.new_segments()) if active.is_streamed else ()
            if is_done or segments:
                events.append(Event(active.ticket, segments, active.row.generation() if is_done else None))
            if is_done:
                self._retire(index)
        return events

    def _retire(self, index: int) -> None:
        """The last row takes the place of this one, as in the slots."""
        self._slots.remove(index)
        last = self._active.pop()
        if index < len(self._active):
            self._active[index] = last

    def _masks(self, positions: torch.Tensor, mask: torch.Tensor) -> Any:
        """The mask in the form the attention takes; one a kind of layer where some look back only so far."""
        if not self._window:
            return self._form(mask)
        near = torch.arange(mask.shape[-1], device=self._device) > positions[:, :, None, None] - self._window
        return {"full_attention": self._form(mask), "sliding_attention": self._form(mask & near)}

    def _form(self, mask: torch.Tensor) -> torch.Tensor:
        if not self._is_eager:
            return mask
        dtype = self._model.dtype
        return torch.zeros(mask.shape, dtype=dtype, device=self._device).masked_fill_(~mask, torch.finfo(dtype).min)


def unsupported_layers(config: Any) -> Sequence[str]:
    """Kinds of layers whose state is not keys and values, which the slots cannot hold."""
    kinds = getattr(config, "layer_types", None) or ()
    return sorted(set(kinds) - {"full_attention", "sliding_attention"})


def _sliding_window(config: Any) -> int:
    """How far sliding layers look back; 0 where every layer sees all."""
    kinds = getattr(config, "layer_types", None) or ()
    return int(getattr(config, "sliding_window", None) or 0) if "sliding_attention" in kinds else 0
