"""When to stop asking: after how many attempts for one request, and for which complaints for all of them."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from s1kit.progress import say
from s1kit.providers.bodies import parse_body
from s1kit.providers.chat import Problem, ProblemKind, Stopped
from s1kit.providers.throttle import Throttle

MAX_ATTEMPTS = 6
"""Sendings of one request that may fail; refusals for speed are counted apart."""
MAX_CUTS = 3
"""Streams of one request that may be cut after the model has begun to write: each may be charged."""
MAX_REFUSALS = 60
"""429s one request may get: the throttle learns from them, so many mean that it cannot."""
MAX_SECONDS_BETWEEN = 60.0
MAX_COMPLAINTS = 8
"""The same refusal so many times in a row, without an answer in between, stops the run."""
SECONDS_WORTH_SAYING = 60.0
"""A wait that a provider asks for is said from so many seconds on."""
SECONDS_OF_FAILURES = 60.0
"""What keeps failing for so long without an answer is said, and again each time that has doubled."""
MAX_SECONDS_TO_WAIT = 90_000.0
"""The longest wait that is waited out: a quota of the day comes back within it, one of the week may not."""
MAX_UNREACHED = 2
"""Failed connections after which a server that never answered is called unreachable."""


@dataclass
class Attempts:
    """What happened to one request so far."""

    failures: int = 0
    refusals: int = 0
    cuts: int = 0
    partial: dict[str, Any] | None = None
    """The last part of a reply that a cut stream brought."""

    def add(self, problem: Problem) -> None:
        self.refusals += problem.kind == "rate"
        self.failures += problem.kind != "rate"
        if problem.partial is not None:
            self.cuts += 1
            self.partial = problem.partial

    @property
    def are_enough(self) -> bool:
        return self.failures >= MAX_ATTEMPTS or self.refusals >= MAX_REFUSALS or self.cuts >= MAX_CUTS


class Patience:
    """Listens to the problems of all requests to one model, and stops the run when every request would meet them."""

    def __init__(self, provider: str, reference: str, throttle: Throttle) -> None:
        self._provider, self._reference, self._throttle = provider, reference, throttle
        self._complaints: Counter[str] = Counter()
        """Refusals since the last answer, by their text."""
        self._has_answered = False
        self._unreached = 0
        self._said_until = 0.0
        self._failing_since: float | None = None
        """When the first problem after the last answer came."""
        self._said_after = 0.0
        """How many seconds without an answer have been told of."""
        self._jitter = random.Random()

    def answered(self) -> None:
        self._complaints.clear()
        self._has_answered = True
        self._failing_since, self._said_after = None, 0.0

    def soften(self, problem: Problem) -> None:
        """A page that is not found, of a server that has answered there: a balancer's, while the server is replaced."""
        if problem.status == 404 and self._has_answered and parse_body(problem.raw) is None:
            problem.kind = "server"

    def hear(self, problem: Problem) -> None:
        """Returns where another attempt may help. Raises the problem if only this request is affected, else Stopped."""
        if problem.retriable and (problem.retry_after or 0.0) > MAX_SECONDS_TO_WAIT:
            raise self._stopped(f"{self._provider} {_asks_to_wait(problem)} ({problem})", problem, _LONG_WAIT)
        self._say_wait(problem)
        if problem.kind == "unreachable" and not self._has_answered:
            self._unreached += 1
            if self._unreached > MAX_UNREACHED or "in time" in problem.text:
                raise self._stopped(f"{self._provider} cannot be reached: {problem.text}", problem)
        if problem.retriable:
            self._say_failures(problem)
            return
        if not problem.is_of_this_request:
            raise self._stopped(f"{self._provider} refuses every request: {problem}", problem)
        # One bad question is a row; the same complaint about question after question is a wrong setting or account.
        complaint = _IDS.sub("#", problem.text)
        self._complaints[complaint] += 1
        if self._complaints[complaint] >= MAX_COMPLAINTS:
            raise self._stopped(
                f"{self._provider} refused {MAX_COMPLAINTS} requests in a row alike: {problem}", problem
            )
        raise problem

    def seconds_between(self, problem: Problem, attempts: Attempts) -> float:
        """Seconds before a request's next attempt, with jitter. The throttle keeps a Retry-After, for all requests."""
        if problem.kind == "rate":
            return self._jitter.uniform(0.0, 0.05)  # the throttle holds it back
        longest = min(MAX_SECONDS_BETWEEN, 0.5 * 2.0**attempts.failures)
        return self._jitter.uniform(longest / 4, longest)

    def _say_wait(self, problem: Problem) -> None:
        """One line for a long wait, not one for each of the requests in flight that were told of it."""
        seconds = problem.retry_after or 0.0
        if not problem.retriable or seconds < SECONDS_WORTH_SAYING or time.monotonic() < self._said_until:
            return
        self._said_until = time.monotonic() + seconds
        say(
            f"{self._provider} {_asks_to_wait(problem)} ({problem}). Nothing is sent until then. Ctrl-C ends the run "
            "now; the same command goes on later."
        )

    def _say_failures(self, problem: Problem) -> None:
        """What has been failing for a minute: a provider may refuse for speed, or be down, for hours."""
        now = time.monotonic()
        self._failing_since = now if self._failing_since is None else self._failing_since
        seconds = now - self._failing_since
        if now < self._said_until or seconds < max(SECONDS_OF_FAILURES, 2 * self._said_after):
            return
        self._said_after = seconds
        say(
            f"{self._provider} has brought no answer for {human(seconds)}, the last time: {problem}. It is asked "
            "again. Ctrl-C ends the run now; the same command goes on later."
        )

    def _stopped(self, what: str, problem: Problem, fix: str = "") -> Stopped:
        stop = Stopped(what, where=self._reference, fix=fix or REMEDY[problem.kind])
        stop.__cause__ = problem
        self._throttle.give_up(stop)
        return stop


_IDS = re.compile(r"\b(?=\w*\d)[\w-]{12,}\b")
"""Ids of requests, which some providers name in each message (Volcengine)."""


def _asks_to_wait(problem: Problem) -> str:
    """How long, until when and why, in words."""
    seconds = problem.retry_after or 0.0
    try:
        until = f"{datetime.now() + timedelta(seconds=seconds):%Y-%m-%d %H:%M}"
    except OverflowError:
        until = "further than the calendar goes"
    why = "a quota is used up" if problem.kind == "rate" else "it is down"
    return f"asks to wait {human(seconds)}, until {until}: {why}"


def human(seconds: float) -> str:
    """A duration for people.

    >>> human(70), human(7200), human(86400 * 3)
    ('70 s', '2.0 h', '3.0 days')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86400:.1f} days"


_LONG_WAIT = (
    "Run the same command again then: what was paid is kept. Or take another provider, a larger plan, or a key of the "
    "kind that is paid by the token."
)
REMEDY: dict[ProblemKind, str] = {
    "key": "Check the key (s1kit doctor shows which is set), then run the same command again.",
    "model": "Check the model's name and the base URL, then run the same command again.",
    "credit": "Fill the account, or wait for its quota, then run the same command again; what was paid is kept.",
    "location": "Use a provider that serves your country, or another base URL.",
    "certificate": "Check the base URL; for a certificate of your own, name its file in SSL_CERT_FILE.",
    "proxy": "Check HTTPS_PROXY and its password, or put the host into NO_PROXY.",
    "unreachable": "Check the base URL, the network and the proxy, then run the same command again.",
    "request": "Correct the setting it names, then run the same command again.",
    "refused": "Change the prompt or the teacher, then run the same command again.",
}
