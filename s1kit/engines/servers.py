"""What each server behind an engine did, for a stage's receipt; engines in this process have none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

ServerFigures = dict[str, dict[str, float]]
"""By URL: requests `done` and `failed`, `tokens`, `seconds` of requests, `seconds_out`."""


class ServerMeter:
    """Reads the figures of engines shard by shard, so that they can be added up over processes."""

    def __init__(self) -> None:
        self._before: ServerFigures = {}

    def take(self, engines: Iterable[Any]) -> ServerFigures:
        """What was added since the last time."""
        now: ServerFigures = {}
        for engine in engines:
            add_up(now, getattr(engine, "figures", None) or {})
        before, self._before = self._before, now
        return {
            url: {name: round(value - before.get(url, {}).get(name, 0), 1) for name, value in figures.items()}
            for url, figures in now.items()
        }


def add_up(total: ServerFigures, part: ServerFigures) -> None:
    """Add the figures of a part to the total."""
    for url, figures in part.items():
        of_server = total.setdefault(url, {})
        for name, value in figures.items():
            of_server[name] = round(of_server.get(name, 0) + value, 1)
