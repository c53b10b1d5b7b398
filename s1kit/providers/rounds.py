"""Whether more requests in flight bring more, or only slower replies."""

from __future__ import annotations


class Rounds:
    """Compares rounds of replies, each about twice as many as were in flight.

    Lengths of replies scatter widely, so a round is long and the thresholds are wide.
    """

    def __init__(self, now: float, limit: float) -> None:
        self._best: tuple[float, float, float] | None = None
        """Limit, tokens a second and seconds a token of the round that all later ones are held against."""
        self._age = 0
        self._begin(now, limit)

    def _begin(self, now: float, limit: float) -> None:
        self._start, self._limit, self._count, self._tokens, self._seconds = now, limit, 0, 0, 0.0

    def add(self, now: float, seconds: float, tokens: int, limit: float) -> float | None:
        """The limit to go back to, when this reply ends a round that was no better for being larger."""
        self._count += 1
        self._tokens += max(1, tokens)
        self._seconds += seconds
        span = now - self._start
        if self._count < max(40.0, 2 * self._limit) or span < 2.0:
            return None
        rate, slowness = self._tokens / span, self._seconds / self._tokens
        back: float | None = None
        self._age += 1
        if self._best is not None:
            best_limit, best_rate, best_slowness = self._best
            if self._limit > best_limit * 1.3 and rate < best_rate * 1.1 and slowness > best_slowness * 1.25:
                back = best_limit
        if self._best is None or rate > self._best[1] * 1.05 or self._limit < self._best[0] or self._age > 30:
            self._best, self._age = (self._limit, rate, slowness), 0
        self._begin(now, back if back is not None else limit)
        return back
