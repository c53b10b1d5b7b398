"""The cap of a run holds over processes, kills, copies, and requests that ask for more than they seem to."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from s1kit.journal import Journal
from s1kit.providers.chat import Parameters
from s1kit.providers.client import open_client
from s1kit.providers.spend_cap import CapReached
from s1kit.providers.sync import chat_many
from s1kit.providers.throttle import ThrottleSettings
from tests.servers.provider_server import Fault, ProviderServer, answer_of, thinking_of, words

PRICE = {"input": 1000.0, "output": 1000.0}
"""Dollars per million tokens, so a reply of the server costs some $0.03."""

CHILD = """
import sys
from pathlib import Path
from s1kit.journal import Journal
from s1kit.providers.chat import Parameters, Stopped
from s1kit.providers.client import open_client
from s1kit.providers.sync import chat_many
url, journal, run, first, cap = sys.argv[1:]
with Journal(Path(journal)) as j:
    client = open_client(f"chat:{url}#m", j, price={"input": 1000.0, "output": 1000.0}, cap_usd=float(cap), run=run,
        parameters=Parameters(max_output_tokens=60))
    try:
        chat_many(client, [[{"role": "user", "content": f"q {n}"}] for n in range(int(first), int(first) + 200)], j)
    except Stopped as error:
        print(type(error).__name__)
"""


def charged(server: ProviderServer) -> float:
    """What the server would write on its bill."""
    return sum(
        num * (words(q) + words(thinking_of(q)) + words(answer_of(q))) * 1000.0 / 1e6
        for q, num in server.answered.items()
    )


def start(
    server: ProviderServer, journal: Path, first: int, run: str = "r", cap: float = 1.0
) -> subprocess.Popen[bytes]:
    arguments = [server.compatible, str(journal), run, str(first), str(cap)]
    return subprocess.Popen([sys.executable, "-c", CHILD, *arguments], stdout=subprocess.PIPE)


def client_of(server: ProviderServer, journal: Journal, **options: Any) -> Any:
    options = {"price": PRICE, "cap_usd": 1.0, "parameters": Parameters(max_output_tokens=60)} | options
    return open_client(f"chat:{server.compatible}#m", journal, **options)


def conversations(num: int, name: str = "q") -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": f"{name} {n}"}] for n in range(num)]


def test_three_processes_of_one_run_share_one_cap(server: ProviderServer, tmp_path: Path) -> None:
    server.faults = lambda number, question: Fault(seconds=0.01)
    children = [start(server, tmp_path / "j.sqlite", first) for first in (0, 1000, 2000)]
    assert {child.communicate(timeout=60)[0].strip() for child in children} == {b"CapReached"}
    assert 0.8 < charged(server) <= 1.0


def test_kills_do_not_loosen_the_cap(server: ProviderServer, tmp_path: Path) -> None:
    server.faults = lambda number, question: Fault(seconds=0.05)
    for life in range(3):
        before = server.num_requests
        child = start(server, tmp_path / "j.sqlite", life * 1000, cap=6.0)
        while server.num_requests < before + 5 and child.poll() is None:
            time.sleep(0.005)
        child.kill()
        child.wait()
    assert start(server, tmp_path / "j.sqlite", 5000, cap=6.0).communicate(timeout=60)[0].strip() == b"CapReached"
    assert charged(server) <= 6.0
    with Journal(tmp_path / "j.sqlite") as journal:
        assert journal.ledger.held("r") == 0.0
        assert journal.ledger.total("r") <= 6.0 + 1e-9


def test_another_run_on_the_same_journal_has_its_own_cap(server: ProviderServer, journal: Journal) -> None:
    for run in ("a", "b"):
        with pytest.raises(CapReached):
            chat_many(client_of(server, journal, run=run), conversations(200, run), journal)
        assert 0.8 < journal.ledger.total(run) <= 1.0


@pytest.mark.parametrize("extra", [{"n": 8}, {"max_tokens": 480}, {"best_of": 8}])
def test_what_extra_asks_for_is_reserved(server: ProviderServer, journal: Journal, extra: dict[str, int]) -> None:
    client = client_of(server, journal, cap_usd=0.3, parameters=Parameters(max_output_tokens=60, extra=extra))
    with pytest.raises(CapReached):
        chat_many(client, conversations(1), journal)
    assert server.num_requests == 0


def test_a_server_that_ignores_the_output_limit_is_expected_to_do_so_again(
    server: ProviderServer, journal: Journal
) -> None:
    client = client_of(server, journal, parameters=Parameters(max_output_tokens=5))
    with pytest.raises(CapReached):
        chat_many(client, conversations(200), journal, concurrency=1)
    assert charged(server) <= 1.0


def test_reservations_made_before_a_server_was_seen_to_ignore_the_limit_are_made_anew(
    server: ProviderServer, journal: Journal
) -> None:
    one = ThrottleSettings(max_in_flight=1, first_in_flight=1)
    client = client_of(server, journal, parameters=Parameters(max_output_tokens=5), throttle=one)
    with pytest.raises(CapReached):
        chat_many(client, conversations(200), journal, concurrency=40)
    assert charged(server) <= 1.0


def test_a_reply_that_an_error_ended_counts_at_the_most_it_could_cost(
    server: ProviderServer, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s1kit.providers.patience.MAX_SECONDS_BETWEEN", 0.01)
    ended = json.dumps({"choices": [{"message": {"content": "The"}}], "error": {"code": 502, "message": "gone"}})
    server.faults = lambda number, question: Fault(body=ended)
    client = client_of(server, journal, run="r")
    (reply,) = chat_many(client, conversations(1), journal)
    assert (reply.answer, reply.finish_reason, client.spend_cap.num_lost) == ("The", "cut", 3)
    assert journal.ledger.total("r") == pytest.approx(3 * client.spend_cap.most(35, 60), rel=0.05)


def test_refused_connections_cost_nothing_and_gateway_timeouts_all_they_may(
    server: ProviderServer, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s1kit.providers.patience.MAX_SECONDS_BETWEEN", 0.01)
    server.faults = lambda number, question: Fault(status=504) if number < 3 else None
    client = client_of(server, journal, run="r")
    chat_many(client, conversations(1), journal)
    assert client.spend_cap.num_lost == 3
    assert journal.ledger.total("r") == pytest.approx(3 * client.spend_cap.most(35, 60) + charged(server), rel=0.05)


def test_a_reservation_is_freed_when_its_request_is_cancelled_before_it_is_sent(
    server: ProviderServer, journal: Journal
) -> None:
    async def go() -> None:
        async with client_of(server, journal, run="r") as client:
            client.throttle._closed_until = float("inf")
            task = asyncio.create_task(client.chat(conversations(1)[0]))
            await asyncio.sleep(0.2)
            assert journal.ledger.held("r") > 0
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(go())
    assert journal.ledger.total("r") == pytest.approx(0.0)


def test_attempts_that_are_charged_and_lost_count_one_by_one_and_stop_at_the_cap(
    server: ProviderServer, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s1kit.providers.patience.MAX_SECONDS_BETWEEN", 0.01)
    server.faults = lambda number, question: Fault(status=504)
    client = client_of(server, journal, run="r", cap_usd=0.3)
    most = client.spend_cap.most(35, 60)
    with pytest.raises(CapReached):
        chat_many(client, conversations(30), journal, concurrency=8)
    assert journal.ledger.total("r") <= 0.3
    assert server.num_requests == int(0.3 / most)
    assert client.spend_cap.reserved == pytest.approx(0.0)
