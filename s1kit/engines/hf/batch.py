"""Decodes many requests at once over a transformers model; requests join and leave while others run.

    batch = HfBatch(model, vocabulary_size)
    ticket = batch.admit(plan)
    while not batch.is_idle:
        for event in batch.step():         # one token for every running row
            event.ticket, event.segments, event.generation

A row's driver decides about every sampled token before it counts as context, so replacing a stop is exact under any
sampling. On a card one step is sent ahead of that decision: where the driver puts something else in a token's place,
what the row computed from the token is thrown away. Quiet tokens, which are nearly all, lose nothing by it.

Where the rows outgrow the memory for keys and values, the youngest wait and are computed again (`request_queue`).
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from s1kit.engines.grammar import AnswerMatcher, Grammars
from s1kit.engines.hf.attention import ALL_SEE_ALL, Windows
from s1kit.engines.hf.cuda_graphs import RecordedSteps
from s1kit.engines.hf.device_state import NEXT, TEMPERATURE, UNIFORM, Flight, RowState
from s1kit.engines.hf.kv_cache import Slots
from s1kit.engines.hf.passes import Passes
from s1kit.engines.hf.request_queue import PrefillGroup, RequestQueue
from s1kit.engines.hf.running_rows import COLUMN, CONSTRAINED, DRAWS, LENGTH, QUEUED, QUIET, SHOWN, Active, RunningRows
from s1kit.engines.interface import Event, lost
from s1kit.forcing.plan import Plan
from s1kit.forcing.token_driver import TokenDriver
from s1kit.forcing.token_format import TokenFormat


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
        runs_ahead: bool | None = None,
        cuda_graphs: bool = True,
        windows: Windows = ALL_SEE_ALL,
        num_threads: int | None = None,
    ) -> None:
        """`vocabulary_size`: ids from there on are padding of the model's output layer and are never sampled.

        `expected`: rows and tokens a row, where they are known beforehand; memory is then allocated once.
        `tokens` are needed for requests with a grammar. `memory_tokens`: the most that the running rows take together,
        each counted as long as the longest of them; None: no limit. `prefill_tokens`: most tokens, padding
        included, in one prefill pass. `runs_ahead`: whether a step is sent before the last one's tokens are looked at;
        None: on a card, where the host would keep it waiting. `cuda_graphs`: whether a card's steps are recorded.
        `num_threads`: threads of a step on a CPU; None: as many as torch takes.
        """
        self._model = model
        self._num_threads = num_threads
        self._vocabulary_size = vocabulary_size
        self._expected = expected
        self._windows = windows
        self._tokens = tokens
        self._queue = RequestQueue(max_batch, memory_tokens, prefill_tokens)
        self._runs_ahead = model.device.type == "cuda" if runs_ahead is None else runs_ahead
        self._has_graphs = cuda_graphs and model.device.type == "cuda"
        self._grammars: Grammars | None = None
        self._joining: list[Active] = []
        """Taken from those that wait, and not running yet: a prefill pass is under way, or was interrupted."""
        self._num_admitted = 0
        self._late: list[Event] = []
        """News between two steps."""
        self._start_empty()

    def _start_empty(self) -> None:
        device = self._model.device
        self._rows = RunningRows()
        self._state = RowState(device)
        slots = Slots(device, *self._expected, self._queue.memory_tokens)
        self._passes = Passes(self._model, self._vocabulary_size, slots, self._windows)
        self._recorded = RecordedSteps(self._passes, self._state) if self._has_graphs else None
        self._flight: Flight | None = None

    @property
    def is_idle(self) -> bool:
        return not self._rows.active and not self._queue.waiting and not self._late

    @property
    def num_running(self) -> int:
        return len(self._rows)

    @property
    def num_preemptions(self) -> int:
        """How often a request had to leave for want of memory, to be computed again later."""
        return self._queue.num_preemptions

    def admit(self, plan: Plan, is_streamed: bool = False, driver: TokenDriver | None = None) -> int:
        """Queue a request; returns the ticket that its events carry. `driver`: to use in place of a new one."""
        driver = driver or TokenDriver(plan)
        context = driver.start()
        ticket = self._num_admitted
        self._num_admitted += 1
        request = plan.request
        matcher = self._matcher(request.answer_grammar) if request.answer_grammar else None
        active = Active(ticket, driver, request, is_streamed, matcher, Random(request.seed))
        self._queue.waiting.append((active, context))
        return ticket

    def _matcher(self, grammar: str) -> AnswerMatcher:
        if self._grammars is None:
            assert self._tokens is not None
            self._grammars = Grammars(self._tokens, self._vocabulary_size)
        return self._grammars.matcher(grammar)

    @torch.inference_mode()
    def cancel(self, ticket: int) -> None:
        """Forget a request, running or waiting; one that is already done is none."""
        self._queue.cancel(ticket)
        self._joining = [active for active in self._joining if active.ticket != ticket]
        for row, active in enumerate(self._rows.active):
            if active.ticket == ticket:
                self._retire(row)
                return

    @torch.inference_mode()
    def end_thinking(self, ticket: int) -> None:
        """End a request's thinking at the next token, as a budget spent there does; a no-op once it answers."""
        self._queue.end_thinking(ticket)
        if any(active.ticket == ticket for active in self._rows.active):
            # What is under way is looked at first: a row's newest token is then the one its driver knows.
            self._late += self._land()
        for row, active in enumerate(self._rows.active):
            if active.ticket == ticket and (ids := self._rows.tell(row).end_thinking()):
                self._force_more(row, ids)
                self._rows.listen(row)

    def _land(self) -> list[Event]:
        """Take what is in flight."""
        flight, self._flight = self._flight, None
        columns = self._rows.column(COLUMN).copy()
        self._rows.column(COLUMN)[:] = -1
        return self._take(flight, columns) if flight is not None else []

    def _force_more(self, row: int, ids: tuple[int, ...]) -> None:
        """These ids go into the context after the row's newest token and what is forced after that already."""
        rows, active = self._rows, self._rows.active[row]
        queued = int(rows.column(QUEUED)[row])
        active.forced = (*active.forced[len(active.forced) - queued :], *ids)
        rows.replace(row, len(active.forced), 0)
        self._state.set([row], [(0, len(active.forced), active.request.top_k, *active.forced)], column=NEXT)

    def fail(self, why: str) -> list[Event]:
        """Give up every request that is not done; their events say why and keep what they had."""
        running = [(active.ticket, self._rows.generation(row)) for row, active in enumerate(self._rows.active)]
        others = [*self._joining, *(active for active, _ in self._queue.waiting)]
        self._queue.waiting.clear()
        self._joining.clear()
        self._start_empty()
        return [lost(*each, why) for each in (*running, *((a.ticket, a.driver.generation()) for a in others))]

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """Let waiting requests in, then advance every running row by one token; returns what is new.

        Raises RuntimeError (torch's own kinds included) when the model fails; `fail` then settles the requests.
        """
        if self._model.device.type == "cuda":
            # Streams, events and recordings are the current card's, which need not be the model's.
            with torch.cuda.device(self._model.device):
                return self._step()
        if self._num_threads is None:
            return self._step()
        # The number is the whole process's, and others in it (training, vLLM's attention) count on theirs.
        before = torch.get_num_threads()
        torch.set_num_threads(self._num_threads)
        try:
            return self._step()
        finally:
            torch.set_num_threads(before)

    def _step(self) -> list[Event]:
        events = self._late + self._let_in()
        self._late = []
        flight = (self._flight or self._launch()) if self._rows.active else None
        if flight is None:
            self._flight = None
            return events
        columns = self._rows.column(COLUMN).copy()
        self._rows.column(COLUMN)[:] = -1
        self._flight = self._launch(is_ahead=True) if self._can_run_ahead() else None
        return events + self._take(flight, columns)

    def _can_run_ahead(self) -> bool:
        """Whether the next step can be sent before the tokens of the last one are known.

        Not where all rows are to be asked about them anyway, and not where one row's grammar needs them.
        """
        rows = self._rows
        if not self._runs_ahead or rows.column(CONSTRAINED).any():
            return False
        return bool((rows.column(QUIET) + rows.column(SHOWN)).any())

    def _launch(self, is_ahead: bool = False) -> Flight | None:
        """Send a step for all rows; None where none is left, or where a step ahead would take more memory."""
        rows = self._rows
        # Where every row has forced ids left, they take them in one pass.
        num_tokens = 1 + (int(rows.column(QUEUED).min()) if rows.how().has_forced else 0)
        width = int(rows.column(LENGTH).max()) + num_tokens
        if self._queue.is_over(len(rows), width) or not self._has_memory(width):
            if is_ahead:
                return None
            self._make_room(num_tokens)
            return self._launch() if rows.active else None
        self._send_random_numbers()
        if self._passes.is_unchecked and num_tokens == 1:
            self._passes.check(*self._state.next_ids(len(rows), 1), width)
        chosen = None
        if self._recorded is not None and num_tokens == 1 and not rows.column(CONSTRAINED).any():
            chosen = self._recorded.run(len(rows), width, rows.how())
        if chosen is None:
            start = width - num_tokens if len(rows) == 1 else None
            logits = self._passes.decode(*self._state.next_ids(len(rows), num_tokens), width, start)
            self._constrain(logits, 0, num_tokens)
            chosen = self._state.settle(logits, 0, rows.how(), num_tokens)
        rows.launched(num_tokens)
        return Flight.of(chosen)

    def _has_memory(self, width: int) -> bool:
        """Take memory for the running rows at that width, where there is some."""
        slots = self._passes.slots
        try:
            slots.reserve(len(self._rows), width)
        except RuntimeError:
            # There is less than was reckoned.
            slots.most_tokens = self._queue.memory_tokens = slots.capacity[0] * slots.capacity[1]
            return False
        return True

    def _make_room(self, num_tokens: int) -> None:
        """Preempt the youngest rows until the others can go on for a while; a last one that cannot is lost."""
        rows = self._rows
        if len(rows) == 1:
            width = int(rows.column(LENGTH)[0]) + num_tokens
            why = f"there is no memory for the keys and values of {width:,} tokens"
            self._late.append(lost(rows.active[0].ticket, rows.generation(0), why))
            self._retire(0)
        while len(rows) > 1:
            row = rows.youngest()
            self._queue.put_back(rows.suspend(row))
            self._retire(row)
            if not self._queue.is_over(len(rows), rows.reach(num_tokens)):
                break

    def _send_random_numbers(self) -> None:
        for row, place, numbers in self._rows.random_numbers(ahead=2):
            self._state.set_reals(row, UNIFORM + place, numbers)

    def _take(self, flight: Flight, columns: NDArray[np.int64]) -> list[Event]:
        """Look at the ids of a step, ask the drivers that must be asked, and do what they say.

        `columns`: for each row its place among the ids, or -1 where it takes no part.
        """
        if not (columns >= 0).any():
            return []
        rows = self._rows
        loud, tokens = rows.take(flight.read(), columns)
        replaced: dict[int, tuple[int, ...]] = {}
        for row, token in zip(loud.tolist(), tokens.tolist(), strict=True):
            active, driver = rows.active[row], rows.tell(row)
            if active.matcher is not None and driver.is_answering:
                active.matcher.accept(token)
            ids = driver.push(token)
            if driver.is_done:
                continue
            # What runs ahead of a grammar was not held to it.
            if ids != (token,) or driver.drop or active.is_constrained:
                replaced[row] = ids
            rows.listen(row)
        self._replace(replaced)
        events = []
        # From the last on: a row that leaves is replaced by the last one.
        for row in reversed(loud.tolist()):
            active = rows.active[row]
            is_done = active.driver.is_done
            segments = tuple(active.driver.new_segments()) if active.is_streamed else ()
            if is_done or segments:
                events.append(Event(active.ticket, segments, rows.generation(row) if is_done else None))
            if is_done:
                self._retire(row)
        return events

    def _replace(self, replaced: dict[int, tuple[int, ...]]) -> None:
        """These ids go into the context in place of the rows' newest tokens; what came of those is dropped."""
        if not replaced:
            return
        rows, sent = self._rows, []
        for row, ids in replaced.items():
            active = rows.active[row]
            active.forced = ids[1:]
            rows.replace(row, len(ids) - 1, active.driver.drop)
            length, draws = (int(rows.column(name)[row]) for name in (LENGTH, DRAWS))
            sent.append((ids[0], length, draws, 0, len(ids) - 1, active.request.top_k, *ids[1:]))
        self._state.set(list(replaced), sent)

    def _constrain(self, logits: torch.Tensor, first: int, num_tokens: int = 1) -> None:
        """Rule out, in place, what the grammar of an answer does not allow next, where the next token is not forced."""
        rows = self._rows
        for row in np.flatnonzero(rows.column(CONSTRAINED)[first:]).tolist():
            matcher = rows.active[first + row].matcher
            if matcher is not None and rows.column(QUEUED)[first + row] < num_tokens:
                allowed = torch.from_numpy(matcher.allowed()).to(logits.device)
                logits[row].masked_fill_(~allowed, -torch.inf)

    def _retire(self, row: int) -> None:
        """The last row takes the place of this one."""
        last = len(self._rows) - 1
        if row != last:
            self._passes.slots.move(last, row, int(self._rows.column(LENGTH)[last]))
            self._state.move(last, row)
        self._rows.remove(row)

    def _let_in(self) -> list[Event]:
        """Prefill waiting requests into free slots."""
        events: list[Event] = []
        while (group := self._queue.next_group(self._rows)) is not None:
            events += self._prefill(group)
        return events

    def _prefill(self, group: PrefillGroup) -> list[Event]:
        """Compute the group's contexts in one pass, and what its sharers add in another."""
        self._joining = group.members
        first, num_owners = len(self._rows), len(group.owners)
        logits, cache = self._passes.prefill(group.contexts)
        lengths = [len(context) for context in group.contexts]
        shared = [sharer.num_shared for sharer in group.sharers]
        sources = [*range(num_owners), *(sharer.owner for sharer in group.sharers)]
        width = max(group.width, int(self._rows.column(LENGTH).max(initial=0)))
        self._passes.slots.add(cache, first, sources, [*lengths, *shared], width)
        if group.sharers:
            tails = [sharer.tail for sharer in group.sharers]
            logits = torch.cat((logits, self._passes.extend(first + num_owners, tails, shared)))
            lengths += [num + len(tail) for num, tail in zip(shared, tails, strict=True)]
        if not bool(torch.isfinite(logits).all()):
            raise RuntimeError("the model's logits are not finite numbers")
        return self._begin(logits, lengths)

    def _begin(self, logits: torch.Tensor, lengths: Sequence[int]) -> list[Event]:
        """Run the joining requests from here on, with contexts of these lengths; sample their first tokens."""
        rows, first = self._rows, len(self._rows)
        self._state.reserve(first + len(lengths))
        for active, length in zip(self._joining, lengths, strict=True):
            rows.add(active, length)
        new = range(first, len(rows))
        requests = [active.request for active in self._joining]
        self._joining = []
        self._state.set(new, [(0, n, 0, 0, 0, r.top_k) for n, r in zip(lengths, requests, strict=True)])
        for row, r in zip(new, requests, strict=True):
            self._state.set_reals(row, TEMPERATURE, np.array([r.temperature, r.top_p]))
        self._send_random_numbers()
        self._constrain(logits, first)
        ids = self._state.settle(logits, first, rows.how(first), num_tokens=0)
        rows.column(DRAWS)[first:] = 1
        columns = np.full(len(rows), -1)
        columns[first:] = np.arange(len(new))
        return self._take(Flight.of(ids), columns)
