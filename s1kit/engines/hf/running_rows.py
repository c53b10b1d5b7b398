"""What the host knows of the running rows, in columns, so that a quiet step is the same few operations for all of them.

A row's driver is told of many quiet tokens at once, and at the latest before anything that is not quiet: a stop, a room
that is filled, a look for loops. Which tokens are quiet the driver itself says (`quiet`, `watched`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random

import numpy as np
from numpy.typing import NDArray

from s1kit.engines.grammar import AnswerMatcher
from s1kit.engines.hf.device_state import RING, How
from s1kit.engines.hf.kv_cache import with_headroom
from s1kit.engines.hf.sampling import Cut
from s1kit.forcing.request import Request
from s1kit.forcing.token_driver import TokenDriver
from s1kit.records import Generation

Ints = NDArray[np.int64]

QUIET, LENGTH, DRAWS, FILLED, QUEUED, COLUMN, NOTED, TEMPERED, CUT, CONSTRAINED, SHOWN, MEASURED = range(12)
NUM_SAMPLED, LEAST, MOST, NUM_COLUMNS = range(12, 16)
_HISTORY = 256
"""Most quiet tokens of a row that its driver is not told of yet."""
HALF = RING // 2


@dataclass(slots=True)
class Active:
    """One request under way."""

    ticket: int
    driver: TokenDriver
    request: Request
    is_streamed: bool
    matcher: AnswerMatcher | None = None
    """Follows an answer that is held to a grammar."""
    random: Random = field(default_factory=Random)
    forced: tuple[int, ...] = ()
    """What was last forced after a token; some of it may not be in the context yet."""
    num_draws: int = 0
    """Random numbers used before the request was preempted."""
    num_sampled: int = 0
    logprob_sum: float = 0.0
    """Tokens sampled before the request was preempted, and the sum of their log-probabilities."""

    @property
    def is_constrained(self) -> bool:
        return self.matcher is not None and self.driver.is_answering


class RunningRows:
    """The host's table of the running requests: one row a request, one column a quantity, all whole numbers.

    Where the row stands. LENGTH and DRAWS mirror the device and include the step in flight.
        LENGTH       tokens in the context
        LEAST, MOST  length that the context will reach for certain, and at most
        COLUMN       the row's index among the ids in flight; -1: its id is ignored
        QUEUED       forced ids that were sent to the device and are not in the context yet
    When the driver is asked.
        QUIET        tokens that may be sampled before it must be, unless one of them is a watched token
        NOTED        quiet tokens sampled since it was last told
        SHOWN        1: it is asked about every token, because the request is streamed
    How the next token is chosen.
        TEMPERED     1: it is drawn at a temperature; 0: greedy
        CUT          how the candidates of a draw are found, a `Cut`
        DRAWS        random numbers used
        FILLED       random numbers sent to the device
        CONSTRAINED  1: a grammar restricts it
    Log-probabilities of the generation.
        MEASURED     0: not wanted; 1: summed; 2: wanted for the answer only, which has not begun
        NUM_SAMPLED  tokens in the sum
    """

    def __init__(self) -> None:
        self.active: list[Active] = []
        self._table = np.zeros((0, NUM_COLUMNS), dtype=np.int64)
        self._watched = np.zeros((0, 4), dtype=np.int64)
        self._history = np.zeros((0, _HISTORY), dtype=np.int64)
        self._logprobs = np.zeros((0, 1))
        """Sums over the sampled tokens; they mean nothing for rows that are not measured."""
        self._how: How | None = None
        """What all rows need, until one of them changes."""

    def __len__(self) -> int:
        return len(self.active)

    def column(self, name: int) -> Ints:
        """A column of the running rows; writing to it changes them."""
        return self._table[: len(self.active), name]

    def how(self, first: int = 0) -> How:
        """What the next step of the rows from `first` on must compute."""
        if first:
            return self._how_from(first)
        if self._how is None:
            self._how = self._how_from(0)
        return self._how

    def _how_from(self, first: int) -> How:
        tempered, cuts, queued = (self.column(name)[first:] for name in (TEMPERED, CUT, QUEUED))
        is_measured = bool(self.column(MEASURED)[first:].any())
        drawn = cuts[tempered > 0]
        cut = Cut(drawn[0]) if len(drawn) and (drawn == drawn[0]).all() else Cut.ANY if len(drawn) else Cut.NONE
        return How(len(drawn), cut, bool(queued.any()), is_measured)

    def add(self, active: Active, length: int) -> None:
        """A new last row with so many tokens in the cache."""
        row = len(self.active)
        self._reserve(row + 1)
        self.active.append(active)
        request = active.request
        is_tempered = request.temperature > 0
        self._how = None
        # A greedy request has one draw, and of a prefix that was given the probabilities are not known.
        is_measured = int(is_tempered and request.prefix is None and not active.is_streamed)
        if request.measures_answer:
            is_measured = 1 if active.driver.is_answering else 2
        self._table[row] = 0
        for name, value in (
            (LENGTH, length),
            (COLUMN, -1),
            (TEMPERED, is_tempered),
            (CUT, Cut.of(request.top_k, request.top_p)),
            (CONSTRAINED, active.is_constrained),
            (MEASURED, is_measured),
            (NUM_SAMPLED, active.num_sampled),
            (LEAST, active.driver.plan.least_tokens),
            (MOST, active.driver.plan.total_tokens),
        ):
            self._table[row, name] = value
        self._logprobs[row] = active.logprob_sum

    def remove(self, row: int) -> None:
        """Forget a row; the last one takes its place."""
        last = len(self.active) - 1
        for table in (self._table, self._watched, self._history, self._logprobs):
            table[row] = table[last]
        self._how = None
        moved = self.active.pop()
        if row != last:
            self.active[row] = moved

    def suspend(self, row: int) -> Active:
        """What is needed to go on with a row later, where nothing of it is in flight. It is still among the rows."""
        active = self.active[row]
        self.tell(row)
        active.forced = ()
        if self._table[row, TEMPERED]:
            # Some random numbers are on the device that no token was drawn with.
            active.num_draws += int(self._table[row, DRAWS])
            active.random = Random(active.request.seed)
            for _ in range(active.num_draws):
                active.random.random()
        active.num_sampled = int(self._table[row, NUM_SAMPLED])
        active.logprob_sum = float(self._logprobs[row, 0])
        return active

    def reach(self, num_tokens: int = 0) -> int:
        """Positions that the cache must have for the longest row to go on for a while after so many tokens more."""
        lengths = self.column(LENGTH) + num_tokens
        return int(reach(lengths, self.column(LEAST), self.column(MOST)).max(initial=0))

    def youngest(self) -> int:
        """The row that was admitted last."""
        return max(range(len(self.active)), key=lambda row: self.active[row].ticket)

    def launched(self, num_tokens: int) -> None:
        """A step was sent for all rows that feeds each so many tokens, all but the first of them forced."""
        self.column(LENGTH)[:] += num_tokens
        if not self.how().has_forced:
            self.column(DRAWS)[:] += 1
            self.column(COLUMN)[:] = np.arange(len(self.active))
            return
        queued = self.column(QUEUED)
        queued -= num_tokens - 1
        is_forced = queued > 0
        self.column(DRAWS)[:] += ~is_forced
        self.column(COLUMN)[:] = np.where(is_forced, -1, np.arange(len(queued)))
        queued -= is_forced
        self._how = None

    def replace(self, row: int, num_queued: int, num_dropped: int) -> None:
        """Other ids go into the context in place of the row's newest token, the last so many of them forced.

        So many tokens are taken out of its context before, and what is in flight of it is not looked at.
        """
        line = self._table[row]
        is_in_flight = line[COLUMN] >= 0
        line[LENGTH] -= num_dropped + is_in_flight
        line[DRAWS] -= is_in_flight
        line[COLUMN], line[QUEUED] = -1, num_queued
        self._how = None

    def take(self, chosen: Ints, columns: Ints) -> tuple[Ints, Ints]:
        """Note what was sampled; returns the rows whose drivers must be asked, and their tokens.

        `chosen`: as `RowState.settle` returns it; `columns`: for each row its place there, or -1.
        """
        fresh = (columns >= 0).nonzero()[0]
        found = chosen[columns[fresh], 0]
        if chosen.shape[1] > 1:
            self._logprobs[fresh, 0] += chosen[columns[fresh], 1].view(np.float64)
            self._table[fresh, NUM_SAMPLED] += 1
        is_loud = (self._table[fresh, QUIET] == 0) | (self._watched[fresh] == found[:, None]).any(1)
        if is_loud.any():
            calm, calm_ids = fresh[~is_loud], found[~is_loud]
        else:
            calm, calm_ids = fresh, found
        self._history[calm, self._table[calm, NOTED]] = calm_ids
        self._table[calm, NOTED] += 1
        self._table[calm, QUIET] -= 1
        return fresh[is_loud], found[is_loud]

    def tell(self, row: int) -> TokenDriver:
        """The row's driver, told of everything before its newest token."""
        driver = self.active[row].driver
        if noted := self._table[row, NOTED]:
            driver.note(self._history[row, :noted].tolist())
            self._table[row, NOTED] = 0
        return driver

    def generation(self, row: int) -> Generation:
        """The row's record so far."""
        generation = self.tell(row).generation()
        matcher = self.active[row].matcher
        if matcher is not None and matcher.is_closing:
            generation = generation.model_copy(update={"note": "the answer repeated itself and was closed"})
        if self._table[row, MEASURED] != 1 or not (num := int(self._table[row, NUM_SAMPLED])):
            return generation
        return generation.model_copy(update={"mean_logprob": float(self._logprobs[row, 0]) / num})

    def listen(self, row: int) -> None:
        """The driver has changed: how long is it quiet now, and for which tokens is it not?"""
        active = self.active[row]
        # Whoever watches a row decode is told of each token, and a grammar reads each.
        is_loud = active.is_streamed or active.matcher is not None
        self._table[row, QUIET] = 0 if is_loud else min(active.driver.quiet, _HISTORY)
        self._table[row, CONSTRAINED] = active.is_constrained
        self._table[row, SHOWN] = is_loud and active.driver.quiet > 0
        if self._table[row, MEASURED] == 2 and active.driver.is_answering:
            # What was counted until here was thinking.
            self._table[row, MEASURED], self._table[row, NUM_SAMPLED], self._logprobs[row] = 1, 0, 0.0
        watched = active.driver.watched
        if len(watched) > self._watched.shape[1]:
            self._watched = np.pad(
                self._watched, ((0, 0), (0, len(watched) - self._watched.shape[1])), constant_values=-1
            )
        self._watched[row] = -1
        self._watched[row, : len(watched)] = list(watched)

    def random_numbers(self, ahead: int) -> deque[tuple[int, int, NDArray[np.float64]]]:
        """Random numbers that the device needs: the row, their place in its ring, and the numbers.

        So that no row runs out within `ahead` steps; half a ring at a time, so that one that is taken back still has
        the numbers before.
        """
        needed: deque[tuple[int, int, NDArray[np.float64]]] = deque()
        if not self.how().num_drawn:
            return needed
        few = (self.column(FILLED) - self.column(DRAWS) < ahead + 2) & (self.column(TEMPERED) > 0)
        for row in np.flatnonzero(few):
            random = self.active[row].random.random
            place = int(self._table[row, FILLED]) % RING
            needed.append((int(row), place, np.array([random() for _ in range(HALF)])))
            self._table[row, FILLED] += HALF
        return needed

    def _reserve(self, num_rows: int) -> None:
        if num_rows > len(self._table):
            more = max(num_rows, 2 * len(self._table)) - len(self._table)
            for name in ("_table", "_watched", "_history", "_logprobs"):
                setattr(self, name, np.pad(getattr(self, name), ((0, more), (0, 0))))


def reach(length: Ints | int, least: Ints | int, most: Ints | int) -> Ints:
    """Positions that a context of that length needs to go on for a while; `least`, `most`: see LEAST, MOST.

    >>> [int(reach(n, 0, 4096)) for n in (0, 800, 1600, 4090, 5000)]
    [128, 928, 1800, 4096, 5001]
    """
    wanted = np.minimum(most, np.maximum(least, with_headroom(length)))
    # Thinking that was opened again may go beyond what was reckoned.
    found: Ints = np.maximum(wanted, np.add(length, 1))
    return found
