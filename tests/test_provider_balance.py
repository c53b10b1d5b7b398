"""Several servers of one model, and headers of the user's own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from s1kit.errors import InputError
from s1kit.journal import Journal
from s1kit.providers.chat import Problem
from s1kit.providers.client import open_client
from s1kit.providers.keys import read_headers
from s1kit.providers.sync import chat_many
from tests.servers.provider_server import Fault, ProviderServer, answer_of

pytestmark = pytest.mark.usefixtures("keys")
DEAD = "http://127.0.0.1:9/v1"


def conversations(num: int) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": f"q {n}"}] for n in range(num)]


def test_requests_are_shared_by_what_is_in_flight(journal: Journal) -> None:
    with ProviderServer() as quick, ProviderServer() as slow:
        quick.faults = lambda number, question: Fault(seconds=0.01)
        slow.faults = lambda number, question: Fault(seconds=0.2)
        client = open_client("chat:compatible/m", journal, base_url=[quick.compatible, slow.compatible])
        replies = chat_many(client, conversations(60), journal, concurrency=8)
        assert {reply.finish_reason for reply in replies} == {"stop"}
        assert 0 < slow.num_requests < quick.num_requests


def test_a_dead_server_is_left_out_and_comes_back(
    server: ProviderServer, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = open_client("chat:compatible/m", journal, base_url=[DEAD, server.compatible])
    replies = chat_many(client, conversations(30), journal, concurrency=4)
    assert [reply.answer for reply in replies] == [answer_of(f"q {n}") for n in range(30)]
    assert not client.tally.problems

    async def again() -> None:
        tried = []

        async def ask(http: object) -> object:
            tried.append(http)
            if http is client.servers[0] and len(tried) == 1:
                raise Problem("unreachable", "x")
            return "answer"

        balance = type(client._balance)(client.servers)
        assert await balance.send(ask) == "answer"  # type: ignore[arg-type]
        await balance.send(ask)  # type: ignore[arg-type]
        assert tried == [client.servers[0], client.servers[1], client.servers[1]]
        clock[0] = 3.0
        await balance.send(ask)  # type: ignore[arg-type]
        assert tried[-1] is client.servers[0]

    clock = [0.0]
    monkeypatch.setattr("s1kit.providers.balance.time", SimpleNamespace(monotonic=lambda: clock[0]))
    asyncio.run(again())


def test_servers_that_are_all_dead_are_named(journal: Journal) -> None:
    with pytest.raises(Exception, match="cannot be reached"):
        chat_many(open_client("chat:compatible/m", journal, base_url=[DEAD, DEAD]), conversations(5), journal)


def test_a_header_of_one_s_own_goes_to_the_teacher_and_into_no_file(
    server: ProviderServer, journal: Journal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GATEWAY", "s3cret-of-the-gateway")
    monkeypatch.delenv("S1KIT_API_KEY", raising=False)
    server.faults = lambda number, question: Fault(change=lambda reply: reply | {"echo": "s3cret-of-the-gateway"})
    headers = {"X-Gateway-Key": "env:GATEWAY", "X-Team": "maths"}
    client = open_client("chat:compatible/m", journal, base_url=server.compatible, headers=headers)
    assert client.http._headers == {"X-Gateway-Key": "s3cret-of-the-gateway", "X-Team": "maths"}
    chat_many(client, conversations(1), journal)
    assert "s3cret" not in str(next(journal.entries()).reply)


@pytest.mark.parametrize(
    ("headers", "complaint"),
    [
        ({"Authorization": "Bearer abc"}, "holds a secret in plain text"),
        ({"X-Key": "env:NOT_SET_ANYWHERE"}, "the environment has no NOT_SET_ANYWHERE"),
        ({"X-Team": "a\r\nX-Evil: b"}, "cannot be an HTTP header"),
    ],
)
def test_a_header_that_cannot_be_is_refused(headers: dict[str, str], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read_headers(headers)
