"""The throttle against model servers, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from s1kit.providers.chat import Problem, Stopped
from s1kit.providers.patience import Patience
from s1kit.providers.rate_limits import Rounds, limit_in_headers, seconds_in
from s1kit.providers.throttle import Throttle, ThrottleSettings
from tests.virtual_time import run_virtually


@dataclass
class FixedWindow:
    """So many requests in each minute of the clock."""

    per_minute: int
    tells: bool
    _window: int = -1
    _count: int = 0

    def take(self, now: float) -> float | None:
        """None: accepted; else the seconds until it may be, -1 where it does not say."""
        if int(now // 60) != self._window:
            self._window, self._count = int(now // 60), 0
        if self._count < self.per_minute:
            self._count += 1
            return None
        return 60.0 - now % 60.0 if self.tells else -1.0


@dataclass
class SlidingWindow:
    """So many requests in any 60 seconds."""

    per_minute: int
    tells: bool
    _taken: deque[float] = field(default_factory=deque)

    def take(self, now: float) -> float | None:
        while self._taken and self._taken[0] <= now - 60.0:
            self._taken.popleft()
        if len(self._taken) < self.per_minute:
            self._taken.append(now)
            return None
        return self._taken[0] + 60.0 - now if self.tells else -1.0


@dataclass
class Bucket:
    """Refilled evenly, with room for a burst of ten seconds."""

    per_minute: int
    tells: bool
    _level: float = -1.0
    _at: float = 0.0

    def take(self, now: float) -> float | None:
        room = self.per_minute / 6.0
        self._level = room if self._level < 0 else min(room, self._level + (now - self._at) * self.per_minute / 60.0)
        self._at = now
        if self._level >= 1.0:
            self._level -= 1.0
            return None
        return (1.0 - self._level) * 60.0 / self.per_minute if self.tells else -1.0


@dataclass
class Result:
    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    def share(self, per_minute: float, start: float, end: float) -> float:
        return sum(start <= t < end for t in self.accepted) / (per_minute * (end - start) / 60.0)

    def refused_share(self, start: float, end: float) -> float:
        refused, accepted = (sum(start <= t < end for t in times) for times in (self.refused, self.accepted))
        return refused / max(1, refused + accepted)


async def drive(
    take: Callable[[float], float | None],
    seconds: float,
    *,
    settings: ThrottleSettings,
    latency: tuple[float, float] = (1.0, 4.0),
    headers: dict[str, str] | None = None,
) -> Result:
    loop, dice, result = asyncio.get_running_loop(), random.Random(0), Result()
    throttle = Throttle(settings, now=loop.time)

    async def worker() -> None:
        while loop.time() < seconds:
            slot = await throttle.enter()
            await asyncio.sleep(0.03)
            wait = take(loop.time())
            if wait is not None:
                result.refused.append(loop.time())
                throttle.refused(slot, None if wait < 0 else wait)
                continue
            result.accepted.append(loop.time())
            await asyncio.sleep(dice.uniform(*latency))
            throttle.succeeded(slot, 1000, headers or {})

    workers = [asyncio.create_task(worker()) for _ in range(settings.max_in_flight)]
    await asyncio.wait(workers, timeout=seconds)
    for task in workers:
        task.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    return result


@pytest.mark.parametrize("tells", [True, False], ids=["retry-after", "silent"])
@pytest.mark.parametrize("kind", [FixedWindow, SlidingWindow, Bucket])
@pytest.mark.parametrize("per_minute", [60, 600, pytest.param(3000, marks=pytest.mark.slow)])
def test_a_limit_by_the_minute_is_found_and_kept(kind: type[FixedWindow], per_minute: int, tells: bool) -> None:
    server = kind(per_minute, tells)
    result = run_virtually(
        drive(server.take, 900.0, settings=ThrottleSettings(max_in_flight=64 if per_minute < 3000 else 256))
    )
    assert result.share(per_minute, 180.0, 900.0) >= 0.95
    assert result.refused_share(180.0, 900.0) < 0.01


@pytest.mark.parametrize("seconds", [0.0, 5.0])
@pytest.mark.parametrize("tells", [True, False], ids=["retry-after", "silent"])
@pytest.mark.parametrize("at", [10, 200])
def test_a_short_burst_of_429_costs_seconds(at: int, tells: bool, seconds: float) -> None:
    """1,500 requests of 0.4 s with 64 in flight take 10 s without it."""
    count, until = 0, 0.0

    def take(now: float) -> float | None:
        nonlocal count, until
        count += 1
        if count == at:
            until = now + seconds
        return (3.0 if tells else -1.0) if count == at or now < until else None

    result = run_virtually(drive(take, 120.0, settings=ThrottleSettings(max_in_flight=64), latency=(0.4, 0.4)))
    assert sum(t < 45.0 for t in result.accepted) >= 1500


def test_a_limit_in_the_headers_is_never_overstepped() -> None:
    server = SlidingWindow(600, tells=False)
    headers = {"x-ratelimit-limit-requests": "600"}
    result = run_virtually(
        drive(server.take, 600.0, settings=ThrottleSettings(max_in_flight=64, first_in_flight=8), headers=headers)
    )
    assert result.share(600, 60.0, 600.0) >= 0.95
    assert not result.refused


def test_a_limit_in_the_settings_is_never_overstepped() -> None:
    server = SlidingWindow(600, tells=True)
    settings = ThrottleSettings(max_in_flight=64, requests_per_minute=600)
    result = run_virtually(drive(server.take, 600.0, settings=settings))
    assert result.share(600, 60.0, 600.0) >= 0.95
    assert not result.refused


def test_tokens_by_the_minute_are_kept_on_average() -> None:
    settings = ThrottleSettings(max_in_flight=64, tokens_per_minute=120_000)
    result = run_virtually(drive(lambda now: None, 600.0, settings=settings))
    assert 0.95 <= result.share(120, 120.0, 600.0) <= 1.05  # a reply takes 1,000 tokens


def test_without_limits_all_that_may_be_in_flight_is_in_a_few_rounds() -> None:
    result = run_virtually(
        drive(lambda now: None, 60.0, settings=ThrottleSettings(max_in_flight=256), latency=(0.2, 0.2))
    )
    assert result.share(256 / 0.23 * 60, 2.0, 60.0) > 0.97


def test_a_server_that_gets_slower_and_not_faster_with_more_in_flight_gets_less() -> None:
    """It works on 8 at a time and queues the rest, without a word: 200 in flight only wait."""

    async def work() -> float:
        loop = asyncio.get_running_loop()
        throttle = Throttle(ThrottleSettings(max_in_flight=200, first_in_flight=8), now=loop.time)
        slots = asyncio.Semaphore(8)

        async def worker() -> None:
            while loop.time() < 600.0:
                slot = await throttle.enter()
                async with slots:
                    await asyncio.sleep(1.0)
                throttle.succeeded(slot, 500, {})

        await asyncio.gather(*(worker() for _ in range(200)))
        return throttle.limit

    assert run_virtually(work()) < 100


def test_the_breaker_lets_one_request_try_and_closes_when_it_succeeds() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        throttle = Throttle(ThrottleSettings(breaker_failures=3, breaker_seconds=10.0), now=loop.time)
        for _ in range(3):
            throttle.failed(await throttle.enter(), "HTTP 503")
        slot = await throttle.enter()
        assert slot.sent == pytest.approx(10.0, abs=0.01)
        second = asyncio.create_task(throttle.enter())
        await asyncio.sleep(5.0)
        assert not second.done()  # only one tries
        throttle.succeeded(slot, 1, {})
        await second

    run_virtually(work())


def test_the_breaker_gives_up_after_its_trials() -> None:
    async def work() -> float:
        loop = asyncio.get_running_loop()
        throttle = Throttle(ThrottleSettings(breaker_failures=3, breaker_seconds=10.0, breaker_trials=3), now=loop.time)
        for _ in range(5):
            throttle.failed(await throttle.enter(), "HTTP 503")
        slot = await throttle.enter()
        with pytest.raises(Stopped, match="failed 6 times in a row: HTTP 503"):
            throttle.failed(slot, "HTTP 503")
        return loop.time()

    assert run_virtually(work()) == pytest.approx(10 + 20 + 40, abs=0.1)


def test_who_is_cancelled_while_waiting_holds_no_place() -> None:
    async def work() -> None:
        throttle = Throttle(ThrottleSettings(max_in_flight=1), now=asyncio.get_running_loop().time)
        slot = await throttle.enter()
        waiting = [asyncio.create_task(throttle.enter()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        waiting[1].cancel()
        await asyncio.sleep(0)
        throttle.succeeded(slot, 1, {})
        await asyncio.wait_for(waiting[2], 1.0)
        assert throttle.in_flight == 1

    run_virtually(work())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360.0),
        ("1h2m3s", 3723.0),
        ("250ms", 0.25),
        ("13s", 13.0),
        ("0", 0.0),
        ("-5", 0.0),
        ("", None),
        ("nan", None),
    ],
)
def test_durations_as_providers_write_them(text: str, seconds: float | None) -> None:
    assert seconds_in(text) == seconds


def test_anthropic_s_headers_are_read() -> None:
    seen = limit_in_headers(
        {
            "anthropic-ratelimit-requests-limit": "50",
            "anthropic-ratelimit-requests-remaining": "0",
            "anthropic-ratelimit-requests-reset": "2020-01-01T00:00:00Z",
        },
        "requests",
    )
    assert seen is not None
    assert (seen.limit, seen.remaining, seen.reset_seconds) == (50.0, 0, 0.0)


@pytest.mark.parametrize(
    ("more", "slower", "goes_back"),
    [
        (1.05, 1.4, True),  # hardly more tokens a second, and each much slower: the server is full
        (1.2, 1.4, False),  # slower, but more comes out of it
        (1.05, 1.1, False),  # no more of them, but none slower: something else holds them back
    ],
)
def test_more_in_flight_is_taken_back_only_where_it_brings_slower_replies_and_no_more_of_them(
    more: float, slower: float, goes_back: bool
) -> None:
    def play(rounds: Rounds, start: float, limit: float, tokens: float, seconds: float) -> list[float | None]:
        """100 replies within ten seconds, of so many tokens a second together, and so many seconds each."""
        return [rounds.add(start + 0.1 * (n + 1), seconds, int(tokens / 10), limit) for n in range(100)]

    rounds = Rounds(0.0, 10.0)
    play(rounds, 0.0, 10.0, 10_000.0, 1.0)
    told = play(rounds, 10.0, 20.0, 10_000.0, 1.0)  # the first round began at the old limit
    told = play(rounds, 20.0, 20.0, 10_000.0 * more, slower * more)
    assert ([limit for limit in told if limit is not None] != []) is goes_back, told


def test_what_fails_for_a_minute_without_an_answer_is_said_and_again_when_that_has_doubled(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    at = [0.0]
    monkeypatch.setattr("s1kit.providers.patience.time", SimpleNamespace(monotonic=lambda: at[0]))
    patience = Patience("moonshot", "chat:x#m", Throttle())
    told = []
    for second in range(0, 400, 10):
        at[0] = float(second)
        if second == 300:
            patience.answered()
        patience.hear(Problem("rate", "The engine is currently overloaded", status=429))
        if "moonshot has brought no answer" in capfd.readouterr().err:
            told.append(second)
    assert told == [60, 120, 240, 360]
