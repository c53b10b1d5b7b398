"""Adaptive rate limiting of one (provider, model, key), learned from its replies.

A request is sent when four limits allow it:

- Concurrency. The number in flight doubles each round of replies until the first complaint, then grows by one a round.
  Overload (503, 529, timeouts) halves it. A step up that only made replies slower is undone.
- Requests a minute. The limit comes from the setting, from the provider's headers, or from the rate accepted before the
  first 429. Each 429 multiplies it down; time without one adds to it.
- Tokens a minute. The limit comes from the setting or the headers; what is counted is the usage of the replies.
- Circuit breaker. After many failures in a row nothing is sent for a while, then a single request; in the end it gives
  up.

Pure: no sockets, no prices. The clock is a parameter, so that tests need not wait.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from s1kit.providers.chat import Problem, Stopped
from s1kit.providers.rate_limits import Rounds, TokenBucket, limit_in_headers

BELOW_LIMIT = 0.995
"""A known limit is undercut by so much, for the clocks of two machines differ."""
CUT = 0.975
"""A 429 brings the pace down to so much of what was accepted."""
RISES = ((120.0, 0.001), (300.0, 0.005), (float("inf"), 0.05))
"""Within so many seconds of the last 429, every five seconds the pace rises by so much: a cut is made good in about two
minutes, so one in a hundred requests or fewer is refused even at 60 a minute."""

QUICK_RISE = 0.25
"""By so much the pace rises each second once a limit is probed."""
FIRST_TRUST = 3.0
"""So many seconds without a 429, and a limit that was found is probed, for it may be gone."""
SECONDS_TO_FORGET = 900.0
"""After a probe that ended in a 429 the next one comes only so much later; a 429 later still is the first again."""


@dataclass(frozen=True)
class ThrottleSettings:
    """Limits of the user's, and how the circuit breaker behaves."""

    max_in_flight: int = 64
    requests_per_minute: float | None = None
    """None: as the provider's headers say, else as fast as it lets us."""
    tokens_per_minute: float | None = None
    first_in_flight: int = 32
    breaker_failures: int = 12
    """Failures in a row that open the breaker."""
    breaker_seconds: float = 10.0
    """How long it stays open the first time; doubled each time, up to eight times as long."""
    breaker_trials: int = 6
    """Trials that may fail before the run gives up."""


@dataclass(slots=True, eq=False)
class Slot:
    """One request in flight."""

    sent: float
    """When it went out."""
    is_free: bool = False


@dataclass
class Throttle:
    """Limits concurrency and rate of all requests to one model under one key."""

    settings: ThrottleSettings = field(default_factory=ThrottleSettings)
    now: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        s = self.settings
        self.in_flight = 0
        self.limit = float(min(s.first_in_flight, s.max_in_flight))
        self.pace: float | None = s.requests_per_minute and s.requests_per_minute / 60.0 * BELOW_LIMIT
        """Requests a second; None: as fast as the other limits let them."""
        self._ceiling = self.pace
        """What the setting or the headers allow, where they say."""
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._is_slow_start = True
        self._next_slot = 0.0
        self._closed_until = 0.0
        self._last_cut = -1e9
        self._last_pace_cut = -1.0
        self._last_rise = 0.0
        self._trust, self._is_probing = FIRST_TRUST, False
        self._first_sent: float | None = None
        self._sent: deque[float] = deque()
        self._refused: deque[float] = deque()
        """When requests of the last minute were sent, and which of those were refused."""
        self._tokens = TokenBucket(s.tokens_per_minute)
        self._failures = 0
        self._trials_failed = self._refusals_in_a_row = 0
        self._is_trying = False
        self._last_failure = ""
        self._gave_up: Stopped | None = None
        """Set for good: nobody waits for a provider that is down."""
        self._over = asyncio.Event()
        self._rounds = Rounds(self.now(), self.limit)

    async def enter(self) -> Slot:
        """Returns when a request may go out. Its slot goes to `succeeded`, `refused`, `failed` or `forget`.

        Raises Stopped once the breaker has given up.
        """
        if self._gave_up is not None:
            raise self._gave_up
        if self._waiting or self._seconds_to_wait() > 0:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            self._pump()
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self.in_flight -= 1
                    self._pump()
                raise
        else:
            self._take()
        return Slot(self.now())

    def succeeded(self, slot: Slot, tokens: int, headers: Mapping[str, str]) -> None:
        """A reply came: free the slot, learn from its tokens and its rate-limit headers."""
        now = self.now()
        # A limit that was not reached has proved nothing: something else, the pace say, held the requests back.
        was_reached = self.in_flight >= int(self.limit)
        self._free(slot)
        self._failures = self._trials_failed = self._refusals_in_a_row = 0
        self._is_trying = False
        self._tokens.spend(tokens, now)
        self._learn_from_headers(headers, now)
        if was_reached and self.limit < self.settings.max_in_flight:
            step = 1.0 if self._is_slow_start else 1.0 / self.limit
            self.limit = min(float(self.settings.max_in_flight), self.limit + step)
        self._raise_pace(now)
        if self.pace is None:
            self._judge_round(now, now - slot.sent, tokens)
        self._pump()

    def refused(self, slot: Slot, retry_after: float | None) -> None:
        """HTTP 429: too fast. Raises nothing; the request is worth asking again."""
        now = self.now()
        self._free(slot)
        self._refused.append(slot.sent)
        self._is_slow_start = False
        if retry_after is not None:
            self._closed_until = max(self._closed_until, now + retry_after)
        # Requests sent before the last cut complain about the same crowd.
        if slot.sent >= self._last_pace_cut:
            self._cut_pace(now, retry_after)
        self._pump()

    def failed(self, slot: Slot, reason: str, retry_after: float | None = None) -> None:
        """A 5xx, a timeout or a cut connection. Raises Stopped when the breaker has tried often enough."""
        now = self.now()
        self._free(slot)
        self._is_slow_start = False
        self._last_failure = reason
        if slot.sent > self._last_cut:
            self.limit, self._last_cut = max(1.0, self.limit / 2), now
        if retry_after is not None:
            self._closed_until = max(self._closed_until, now + retry_after)
        self._failures += 1
        if self._failures >= self.settings.breaker_failures and (self._is_trying or self._closed_until <= now):
            self._open_breaker(now)
        self._pump()

    def met(self, slot: Slot, problem: Problem) -> None:
        """A request got no answer. Raises Stopped when the breaker has tried often enough."""
        if problem.kind == "rate":
            self.refused(slot, problem.retry_after)
        elif problem.retriable:
            self.failed(slot, str(problem), problem.retry_after)
        else:
            self.forget(slot)

    def forget(self, slot: Slot) -> None:
        """The request ended in a way that says nothing about speed: a bad request, a cancellation.

        A slot that was given back before stays so.
        """
        if slot.is_free:
            return
        self._free(slot)
        self._is_trying = False
        self._pump()

    def give_up(self, stopped: Stopped) -> None:
        """Send nothing more: whoever waits, or comes later, gets this error. What is in flight may still finish."""
        self._gave_up = self._gave_up or stopped
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(self._gave_up)
        self._over.set()

    async def pause(self, seconds: float) -> None:
        """Sleep before another attempt. Raises what the throttle gave up with, as soon as it does."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)
        if self._gave_up is not None:
            raise self._gave_up

    def queue_seen(self, waiting: int, running: int) -> None:
        """vLLM's own queue: requests that wait there gain nothing."""
        if waiting > max(4, running // 4):
            self._is_slow_start = False
            self.limit = max(1.0, min(self.limit, float(self.in_flight)) * 0.9)

    def _free(self, slot: Slot) -> None:
        if not slot.is_free:
            slot.is_free = True
            self.in_flight -= 1

    def _seconds_to_wait(self) -> float:
        """0: go now; positive: not before; infinite: only a reply can open the gate."""
        now = self.now()
        if self._is_trying or self.in_flight >= int(self.limit):
            return float("inf")
        wait = max(0.0, self._closed_until - now, self._tokens.seconds_to_wait(now))
        if self.pace is not None:
            wait = max(wait, self._next_slot - now)
        return wait if wait > 1e-4 else 0.0

    def _take(self) -> None:
        now = self.now()
        self.in_flight += 1
        if self._first_sent is None:
            self._first_sent = now
        self._sent.append(now)
        if self._sent[0] < now - 120.0:
            self._sent.popleft()
        if self._failures >= self.settings.breaker_failures:
            self._is_trying = True
        if self.pace is not None:
            # Slots missed by more than a moment are gone: no bursts after a pause.
            self._next_slot = max(self._next_slot, now - 0.05) + 1.0 / self.pace

    def _pump(self) -> None:
        """Let waiters in as far as the limits go; come back when time opens the gate again."""
        while self._waiting:
            wait = self._seconds_to_wait()
            if wait > 0:
                if wait != float("inf"):
                    self._come_back(wait)
                return
            waiter = self._waiting.popleft()
            if not waiter.done():
                self._take()
                waiter.set_result(None)

    def _come_back(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._pump)

    def _cut_pace(self, now: float, retry_after: float | None) -> None:
        """Down to just below what was accepted lately: over a minute where the limit is by the minute."""
        is_first, since = self._last_pace_cut < 0.0, now - self._last_pace_cut
        self._last_pace_cut = self._last_rise = now
        self._refusals_in_a_row += 1
        if is_first or since > SECONDS_TO_FORGET:
            self._trust = FIRST_TRUST
        elif self._is_probing:
            self._trust = SECONDS_TO_FORGET  # the limit is real
        self._is_probing = False
        if is_first and retry_after is not None and retry_after < 30.0:
            return  # the gate is closed until then; a limit that lasts will say so again, and be measured better
        # What was accepted in the last minute is allowed by any limit by the minute, so it is the floor; over a shorter
        # time more may have been, where the limit is by the second.
        floor = self._num_accepted(now, 60.0) / 60.0
        if floor * 60.0 < 5:  # too few to tell a pace from: wait, longer each time
            if retry_after is None:
                wait = min(30.0, 0.1 * 2.0**self._refusals_in_a_row)
                self._closed_until = max(self._closed_until, now + wait)
            return
        span = now - (self._first_sent if self._first_sent is not None else now)
        if span >= 60.0 or (retry_after or 0.0) > 2.0:
            found = floor
        else:
            recent = self._num_accepted(now, 5.0)
            found = max(floor, recent / max(0.5, min(5.0, span)))
            if self.pace is not None:
                found = max(floor, min(found, self.pace), self.pace / 2)
        self.pace = max(found * CUT, 1.0 / 60.0)
        self._next_slot = max(self._next_slot, now + 1.0 / self.pace, self._closed_until)

    def _num_accepted(self, now: float, seconds: float) -> int:
        """Requests sent in the last so many seconds and not refused, or not yet."""
        for times in (self._sent, self._refused):
            while times and times[0] < now - 60.0:
                times.popleft()
        since = now - seconds
        sent, refused = (sum(moment >= since for moment in times) for times in (self._sent, self._refused))
        return sent - refused

    def _raise_pace(self, now: float) -> None:
        """Slowly while the last 429 is fresh, quickly once it is old: the limit may be gone."""
        if self.pace is None:
            return
        quiet = now - max(self._last_pace_cut, self._closed_until)
        self._is_probing = quiet >= self._trust
        if now - self._last_rise < (1.0 if self._is_probing else 5.0):
            return
        step = QUICK_RISE if self._is_probing else next(step for until, step in RISES if quiet < until)
        self._last_rise = now
        self.pace *= 1.0 + step
        if self._ceiling is not None:
            self.pace = min(self.pace, self._ceiling)

    def _learn_from_headers(self, headers: Mapping[str, str], now: float) -> None:
        requests = limit_in_headers(headers, "requests")
        if requests is not None and self.settings.requests_per_minute is None:
            if requests.limit:
                self._ceiling = requests.limit / 60.0 * BELOW_LIMIT
                if self.pace is None or self.pace > self._ceiling:
                    self.pace, self._next_slot = self._ceiling, max(self._next_slot, now)
            if requests.remaining == 0 and requests.reset_seconds is not None:
                self._closed_until = max(self._closed_until, now + min(requests.reset_seconds, 60.0))
        tokens = limit_in_headers(headers, "tokens")
        if tokens is not None and self.settings.tokens_per_minute is None:
            self._tokens.learn(tokens, now)

    def _judge_round(self, now: float, seconds: float, tokens: int) -> None:
        back = self._rounds.add(now, seconds, tokens, self.limit)
        if back is not None:
            self._is_slow_start = False
            self.limit = max(1.0, min(self.limit, back))

    def _open_breaker(self, now: float) -> None:
        s = self.settings
        if self._is_trying:
            self._trials_failed += 1
        self._is_trying = False
        if self._trials_failed >= s.breaker_trials:
            stopped = Stopped(
                f"the provider failed {self._failures} times in a row: {self._last_failure}",
                fix="Run the same command again when it is back; what arrived is kept.",
            )
            self.give_up(stopped)
            raise stopped
        self._closed_until = now + s.breaker_seconds * min(8.0, 2.0**self._trials_failed)
