"""Decodes many requests at once over a transformers model; requests join and leave while others run.

    batch = HfBatch(model, vocabulary_size)
    ticket = batch.admit(plan)
    while not batch.is_idle:
        for event in batch.step():         # one token for every running row
            event.ticket, event.segments, event.generation

It looks at every sampled token before the token enters the context, so replacing a stop is exact under any sampling.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from transformers import DynamicCache

from s1kit.engines.base import Event, lost
from s1kit.engines.grammar import AnswerMatcher, Grammars
from s1kit.engines.hf.kv_cache import Slots
from s1kit.engines.hf.sampling import Chooser, choose, logprobs
from s1kit.forcing.plan import Plan
from s1kit.forcing.token_driver import TokenDriver
from s1kit.forcing.token_format import TokenFormat
from s1kit.records import Generation


@dataclass(slots=True)
class _Active:
    ticket: int
    row: TokenDriver
    chooser: Chooser
    is_streamed: bool
    matcher: AnswerMatcher | None = None
    """Follows an answer that is held to a grammar."""
    queue: deque[int] = field(default_factory=deque)
    """Ids that enter the context before the model samples again."""
    logprob: float = 0.0
    """Of the sampled ids together; not computed for greedy requests, which have one draw, and after a given prefix."""
    num_sampled: int = 0

    @property
    def wants_logprob(self) -> bool:
        request = self.row.plan.request
        return request.temperature > 0 and request.prefix is None and not self.is_streamed

    def generation(self) -> Generation:
        generation = self.row.generation()
        if not self.num_sampled:
            return generation
        return generation.model_copy(update={"mean_logprob": self.logprob / self.num_sampled})


_SHORT_TAIL = 32
"""A context that differs from another one only in so many last ids takes over its keys and values."""


@dataclass(frozen=True, slots=True)
class _PrefixSharer:
    """A request whose context begins like another's: it shares that prefix's keys and values and adds only its tail."""

    active: _Active
    owner: int
    num_shared: int
    tail: tuple[int, ...]


@dataclass
class _Group:
    """Requests that one prefill pass serves: owners of a prefix are computed, sharers copy their keys and values.

    An evaluation that answers one question from many lengths of the same thinking is mostly sharers.
    """

    owners: list[_Active] = field(default_factory=list)
    contexts: list[tuple[int, ...]] = field(default_factory=list)
    sharers: list[_PrefixSharer] = field(default_factory=list)
    _owner_of_prompt: dict[tuple[int, ...], int] = field(default_factory=dict)

    def add_owner(self, active: _Active, context: tuple[int, ...]) -> None:
        self._owner_of_prompt[active.row.plan.prompt_ids] = len(self.owners)
        self.owners.append(active)
        self.contexts.append(context)

    def can_share(self, active: _Active, context: tuple[int, ...]) -> bool:
        """Whether an admitted request of the same prompt has nearly all of it; if so, it is added as a sharer."""
        owner = self._owner_of_prompt.get(active.row.plan.prompt_ids)
        if owner is None:
            return False
        shared = min(_num_shared(self.contexts[owner], context), len(context) - 1)
        if len(context) - shared > _SHORT_TAIL:
            return False
        self.sharers.append(_PrefixSharer(active, owner, shared, context[shared:]))
        return True


class HfBatch:
    """A running batch."""

    def __init__(
        self,
        model: Any,
        vocabulary_size: int,
        max_batch: int = 256,
        prefill_tokens: int = 8192,
        expected: tuple[int, int] = (0, 0),
        tokens: TokenFormat | None = None,
        memory_tokens: int | None = None,
    ) -> None:
        """`expected`: rows and tokens a row, where they are known beforehand; memory is then allocated once.

        `tokens` are needed for requests with a grammar. `memory_tokens`: the most that the running rows may come to
        together, each counted as long as the longest of them; None: no limit.
        """
        self._memory_tokens = memory_tokens
        self._tokens = tokens
        self._grammars: Grammars | None = None
        self._model = model
        self._device: torch.device = model.device
        self._vocabulary_size = vocabulary_size
        """Ids from here on are padding of the model's output layer and are never sampled."""
        self._max_batch = max_batch
        self._prefill_tokens = prefill_tokens
        """Most tokens, padding included, in one prefill pass."""
        self._slots = Slots(self._device, *expected)
        self._waiting: deque[tuple[_Active, tuple[int, ...]]] = deque()
        self._active: list[_Active] = []
        self._num_admitted = 0
        self._window = _sliding_window(model.config)
        self._is_eager = getattr(model.config, "_attn_implementation", "sdpa") == "eager"

    @property
    def is_idle(self) -> bool:
        return not self._active and not self._waiting

    def admit(self, plan: Plan, is_streamed: bool = False, row: TokenDriver | None = None) -> int:
        """Queue a request; returns the ticket that its events carry. `row`: a driver to use in place of a new one."""
        row = row or TokenDriver(plan)
        context = row.start()
        ticket = self._num_admitted
        self._num_admitted += 1
        grammar = plan.request.answer_grammar
        matcher = self._matcher(grammar) if grammar else None
        self._waiting.append((_Active(ticket, row, Chooser.of(plan.request), is_streamed, matcher), context))
        return ticket

    def _matcher(self, grammar: str) -> AnswerMatcher:
        if self._grammars is None:
            assert self._tokens is not None
            self._grammars = Grammars(self._tokens, self._vocabulary_size)
        return self._grammars.matcher(grammar)

    @torch.inference_mode()
    def cancel(self, ticket: int) -> None:
        """Forget a request, running or waiting; one that is already done is none."""
        self._waiting = deque(w for w in self._waiting if w[0].ticket != ticket)
        # An interrupt in the middle of a prefill leaves rows that have no slot yet.
        del self._active[self._slots.num_rows :]
        for index, active in enumerate(self._active):
            if active.ticket == ticket:
                self._retire(index)
                return

    def end_thinking(self, ticket: int) -> None:
        """End a request's thinking at the next token, as a budget spent there does; a no-op once it answers."""
        for index, (waiting, context) in enumerate(self._waiting):
            if waiting.ticket == ticket:
                self._waiting[index] = waiting, (*context, *waiting.row.end_thinking())
        for active in self._active:
            if active.ticket == ticket:
                active.queue.extend(active.row.end_thinking())

    def fail(self, why: str) -> list[Event]:
        """Give up every request that is not done; their events say why and keep what they had."""
        all_lost = [*self._active, *(active for active, _ in self._waiting)]
        self._active.clear()
        self._waiting.clear()
        self._slots = Slots(self._device)
        return [lost(a.ticket, a.row.generation(), why) for a in all_lost]

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """Let waiting requests in, then advance every running row by one token; returns what is new.

        Raises RuntimeError (torch's own kinds included) when the model fails; `fail` then settles the requests.
        """
        events = self._let_in()
        if not self._active:
            return events
        # Alone, a row takes all that is forced on it in one pass; a batch goes on together.
        most = min(len(a.queue) for a in self._active)
        logits = self._extend([[a.queue.popleft() for _ in range(most)] for a in self._active])
        return events + self._take(logits, first=0)

    def _extend(self, ids: Sequence[Sequence[int]]) -> torch.Tensor:
        """Feed new ids to the last `len(ids)` rows; returns the logits `[row, vocabulary]` after each row's last."""
        num_new = [len(i) for i in ids]
        padded = _padded(ids, num_new)
        cache, positions, mask = self._slots.prepare(num_new)
        with self._only_last(num_new) as options:
            out = self._model(
                input_ids=padded.to(self._device),
                attention_mask=self._masks(positions, mask),
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                **options,
            )
        self._slots.advance(num_new)
        logits: torch.Tensor = out.logits[:, 0, : self._vocabulary_size]
        return logits

    @contextmanager
    def _only_last(self, lengths: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Options of a forward pass whose logits `[row, 1, vocabulary]` are those after each row's last token.

        A vocabulary is far wider than a hidden state. `logits_to_keep` picks the same positions in every row, which for
        rows of different lengths would be each row's end in all of them; so the output layer is given one state a row.
        """
        if min(lengths) == max(lengths):
            yield {"logits_to_keep": 1}
            return
        rows = torch.arange(len(lengths), device=self._device)
        ends = torch.tensor(lengths, device=self._device) - 1
        head = self._model.get_output_embeddings()
        hook = head.register_forward_pre_hook(lambda _, given: (given[0][rows, ends][:, None], *given[1:]))
        try:
            yield {}
        finally:
            hook.remove()

    def _let_in(self) -> list[Event]:
        """Prefill waiting requests into free slots, unless only a few are free while many wait."""
        events: list[Event] = []
        while self._waiting:
            free, most = self._num_free()
            # Prefilling one row at a time would halt the batch at every end of a row.
            if free < min(len(self._waiting), max(1, most // 8)):
                break
            events += self._prefill(self._next_group(free))
        return events

    def _num_free(self) -> tuple[int, int]:
        """How many of the first waiting requests may join, and how many rows such as these may run in all."""
        free, most = self._max_batch - len(self._active), self._max_batch
        if self._memory_tokens is None:
            return free, most
        running = len(self._active)
        longest = max((active.row.plan.total_tokens for active in self._active), default=1)
        for number, (active, _) in enumerate(islice(self._waiting, free)):
            longest = max(longest, active.row.plan.total_tokens)
            most = min(most, max(1, self._memory_tokens // longest))
            if running + number + 1 > most:
                return number, most
        return free, most

    def _next_group(self, most: int) -> _Group:
        """The next waiting requests that one prefill pass can serve."""
        group = _Group()
        longest = 0
        while self._waiting and len(group.owners) + len(group.sharers) < most:
            active, context = self._waiting[0]
            if group.can_share(active, context):
                self._waiting.popleft()
                continue
            longest = max(longest, len(context))
            if group.owners and longest * (len(group.owners) + 1) > self._prefill_tokens:
                break
            group.add_owner(active, context)
            self._waiting.popleft()
        return group

    def _prefill(self, group: _Group) -> list[Event]:
        """One pass over several contexts, padded on the right, where causal attention does not see the padding."""
        first, contexts = len(self._active), group.contexts
        self._active += group.owners + [sharer.active for sharer in group.sharers]
        lengths = [len(context) for context in contexts]
        ids = _padded(contexts, lengths)
        cache = DynamicCache()
        with self._only_last(lengths) as options:
            out = self._model(input_ids=ids.to(self._device), past_key_values=cache, use_cache=True, **options)
        sources = [*range(len(contexts)), *(sharer.owner for sharer in group.sharers)]
        self._slots.add(cache, sources, [*lengths, *(sharer.num_shared for sharer in group.sharers)])
        logits = out.logits[:, 0, : self._vocabulary_size]
        if group.sharers:
            logits = torch.cat((logits, self._extend([sharer.tail for sharer in group.sharers])))
        if not bool(torch.isfinite(logits).all()):
            raise RuntimeError("the model's logits are not finite numbers")
        return self._take(logits, first)

    def _take(self, logits: torch.Tensor, first: int) -> list[Event]:
        """Sample for the rows from `first` on that have nothing queued, and tell them."""
        rows = self._active[first:]
        free = [i for i, a in enumerate(rows) if not a.queue]
        if free:
            logits = logits if len(free) == len(logits) else logits[free]
            self._constrain(logits, [rows[i] for i in free])
            chosen = choose(logits, [rows[i].chooser for i in free])
            self._note_logprobs(logits, [rows[i] for i in free], chosen)
            for i, token in zip(free, chosen, strict=True):
                active = rows[i]
                if active.matcher is not None and active.row.is_answering:
                    active.matcher.accept(token)
                active.queue.extend(active.row.push(token))
                if active.row.drop:
                    self._slots.lengths[first + i] -= active.row.drop
        events = []
        # From the last on: a row that leaves is replaced by the last one.
        for i in reversed(free):
            active = rows[i]
            is_done = active.row.is_done
            segments = tuple(active.row.new_segments()) if active.is_streamed else ()
            if is_done or segments:
                events.append(Event(active.ticket, segments, active.generation() if is_done else None))
            if is_done:
                self._retire(first + i)
        return events

    @staticmethod
    def _note_logprobs(logits: torch.Tensor, rows: Sequence[_Active], chosen: Sequence[int]) -> None:
        wanted = [i for i, active in enumerate(rows) if active.wants_logprob]
        if not wanted:
            return
        kept = logits if len(wanted) == len(logits) else logits[wanted]
        for i, value in zip(wanted, logprobs(kept, [chosen[i] for i in wanted]), strict=True):
            rows[i].logprob += value
            rows[i].num_sampled += 1

    def _constrain(self, logits: torch.Tensor, rows: Sequence[_Active]) -> None:
        """Rule out, in place, what the grammar of an answer does not allow next."""
        for i, active in enumerate(rows):
            if active.matcher is not None and active.row.is_answering:
                allowed = torch.from_numpy(active.matcher.allowed()).to(self._device)
                logits[i].masked_fill_(~allowed, -torch.inf)

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
        near = torch.arange(mask.shape[-1], device=self._device) > positions[:, None, :, None] - self._window
        return {"full_attention": self._form(mask), "sliding_attention": self._form(mask & near)}

    def _form(self, mask: torch.Tensor) -> torch.Tensor:
        if not self._is_eager:
            return mask
        dtype = self._model.dtype
        return torch.zeros(mask.shape, dtype=dtype, device=self._device).masked_fill_(~mask, torch.finfo(dtype).min)


def _padded(rows: Sequence[Sequence[int]], lengths: Sequence[int]) -> torch.Tensor:
    """Ids as a tensor `[row, token]`, zeros on the right of the shorter rows."""
    longest = max(lengths)
    if min(lengths) == longest:
        return torch.tensor(rows)
    return torch.tensor([(*row, *(0,) * (longest - length)) for row, length in zip(rows, lengths, strict=True)])


def _num_shared(a: Sequence[int], b: Sequence[int]) -> int:
    """How many first ids two contexts share."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def unsupported_layers(config: Any) -> Sequence[str]:
    """Kinds of layers whose state is not keys and values, which the slots cannot hold."""
    kinds = getattr(config, "layer_types", None) or ()
    return sorted(set(kinds) - {"full_attention", "sliding_attention"})


def _sliding_window(config: Any) -> int:
    """How far sliding layers look back; 0 where every layer sees all."""
    kinds = getattr(config, "layer_types", None) or ()
    return int(getattr(config, "sliding_window", None) or 0) if "sliding_attention" in kinds else 0
