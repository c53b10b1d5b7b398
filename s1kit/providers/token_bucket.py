"""A limit in tokens a minute, when a reply's tokens are known only once it is there."""

from __future__ import annotations

from dataclasses import dataclass

from s1kit.providers.limit_headers import SeenLimit


@dataclass
class TokenBucket:
    """Tokens a minute; what replies take is known only afterwards, so it may run a debt and waits it out."""

    per_minute: float | None

    def __post_init__(self) -> None:
        self._level = self.per_minute or 0.0
        self._at: float | None = None

    def spend(self, tokens: int, now: float) -> None:
        if self.per_minute is not None:
            self._refill(now)
            self._level -= tokens

    def seconds_to_wait(self, now: float) -> float:
        if self.per_minute is None:
            return 0.0
        self._refill(now)
        return max(0.0, -self._level * 60.0 / self.per_minute)

    def learn(self, seen: SeenLimit, now: float) -> None:
        if seen.limit:
            if self.per_minute is None:
                self._level, self._at = seen.limit, now
            self.per_minute = seen.limit
        if seen.remaining is not None and self.per_minute is not None:
            self._level, self._at = min(self._level, float(seen.remaining)), now

    def _refill(self, now: float) -> None:
        assert self.per_minute is not None
        if self._at is not None:
            self._level = min(self.per_minute, self._level + (now - self._at) * self.per_minute / 60.0)
        self._at = now
