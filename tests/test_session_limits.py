"""Plans by the hours or the week: how long is said at once, a day is waited out, a week is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from s1kit.providers.chat import Problem, Stopped
from s1kit.providers.patience import Patience
from s1kit.providers.rate_limits import retry_after
from s1kit.providers.signs import kind_of_status, problem_of_error
from s1kit.providers.throttle import Throttle

HOUR = 3600.0
CODEX = {"error": {"type": "usage_limit_reached", "message": "The usage limit has been reached"}}


@dataclass(frozen=True)
class Soon:
    """Five hours from when the test runs, however long after its collection that is."""

    at: datetime

    @property
    def in_beijing(self) -> str:
        return f"{self.at.astimezone(timezone(timedelta(hours=8))):%Y-%m-%d %H:%M:%S}"


def zai(message: str) -> dict[str, Any]:
    return {"error": {"code": "1308", "message": message}}


def of_error(**fields: Any) -> dict[str, Any]:
    return {"error": {**CODEX["error"], **fields}}


@pytest.mark.parametrize(
    ("body_of", "hours"),
    [
        (lambda soon: zai(f"Usage limit reached for 5 hour. Your limit will reset at {soon.in_beijing}"), 5),
        (lambda soon: zai(f"已达到 5 小时的使用上限。您的限额将在 {soon.in_beijing} 重置。"), 5),
        (lambda soon: zai(f"Weekly/Monthly Limit Exhausted. Your limit will reset at {soon.in_beijing}"), 5),
        (lambda soon: of_error(resets_in_seconds=7200), 2),
        (lambda soon: of_error(resets_at=int(soon.at.timestamp())), 5),
        (lambda soon: {"error": "You've hit your usage limit. Try again in 5 hours 30 minutes."}, 5.5),
        (
            lambda soon: {"error": "you have reached your weekly usage limit; it resets in 3 days, 2 hours and 30 min"},
            74.5,
        ),
        (lambda soon: zai(f"Usage limit reached. Available again at {soon.at:%Y-%m-%d %H:%M:%S} UTC"), 5),
    ],
)
def test_a_limit_that_says_when_it_ends_is_a_wait(body_of: Callable[[Soon], dict[str, Any]], hours: float) -> None:
    body = body_of(Soon(datetime.now(UTC) + timedelta(hours=5)))
    wait = retry_after({}, body)
    assert wait == pytest.approx(hours * HOUR, abs=60)
    message = body["error"] if isinstance(body["error"], str) else body["error"]["message"]
    assert kind_of_status(429, body, message, wait) == "rate"
    inside = problem_of_error(body)
    assert (inside.kind, inside.retry_after) == ("rate", pytest.approx(wait, abs=2))


@pytest.mark.parametrize(
    "message",
    [
        "you have reached your session usage limit, upgrade for higher limits",
        "you've reached your hourly usage limit, please wait or upgrade to continue",
        "Usage limit reached for 5 hour.",
    ],
)
def test_one_that_does_not_say_stops_the_run(message: str) -> None:
    assert kind_of_status(429, {"error": message}, message, retry_after({}, {"error": message})) == "credit"


@pytest.mark.parametrize(
    "message", ["Rate limit exceeded: retry after 6 seconds", "Slow down", "Please try again in 7h12m3.5s."]
)
def test_a_rate_stays_one(message: str) -> None:
    assert kind_of_status(429, {"error": message}, message, retry_after({}, {"error": message})) == "rate"


def test_a_day_is_waited_out_and_a_week_stops_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    patience = Patience("zai", "chat:zai/glm", Throttle())
    patience.hear(Problem("rate", "limit", status=429, retry_after=24 * HOUR))
    assert "zai asks to wait 24.0 h, until " in capsys.readouterr().err
    with pytest.raises(Stopped, match=r"asks to wait 6.0 days, until .*: a quota is used up .*Run the same command"):
        patience.hear(Problem("rate", "limit", status=429, retry_after=6 * 24 * HOUR))
