"""Any JSON, any types, lone surrogates and huge numbers: readers raise nothing, and what came is on disk first."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1kit.journal import UNREAD, Journal
from s1kit.providers.bodies import parse_body
from s1kit.providers.chat import Reply, WireFormat
from s1kit.providers.classify import problem_in
from s1kit.providers.client import _tokens_of, open_client
from s1kit.providers.rate_limits import retry_after
from s1kit.providers.signs import kind_of_status
from s1kit.providers.sync import chat_many
from s1kit.providers.wires.bedrock import BedrockWire
from s1kit.providers.wires.events import EventParser
from s1kit.providers.wires.reading import output_limit
from s1kit.providers.wires.replies import read_reply
from s1kit.providers.wires.streams import CUT
from tests.fixtures_providers import MODELS, url_of
from tests.servers.provider_server import Fault, ProviderServer, answer_of
from tests.test_provider_replies import GOOD as GOOD_REPLIES
from tests.test_provider_replies import WIRES as OTHER_WIRES
from tests.test_provider_replies import check, mutated

WIRES: dict[str, WireFormat] = {**OTHER_WIRES, "bedrock": BedrockWire()}
GOOD = GOOD_REPLIES | {
    "bedrock": {
        "output": {
            "message": {
                "content": [
                    {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "x"}}},
                    {"text": "4"},
                    {"toolUse": {"toolUseId": "c", "name": "f", "input": {"x": 1}}},
                ]
            }
        },
        "stopReason": "end_turn",
        "usage": {"inputTokens": 3, "outputTokens": 5, "totalTokens": 8, "cacheReadInputTokens": 1},
    }
}


def names_in(value: Any) -> set[str]:
    """Every key and every short text: what a reader may look for."""
    if isinstance(value, dict):
        return set(value) | {name for inner in value.values() for name in names_in(inner)}
    if isinstance(value, list):
        return {name for inner in value for name in names_in(inner)}
    return {value} if isinstance(value, str) else set()


EVENTS = (
    *("response.output_text.delta", "response.refusal.delta", "response.reasoning_text.delta", "response.completed"),
    *("response.reasoning_summary_text.delta", "response.output_item.added", "response.output_item.done", "error"),
    *("response.function_call_arguments.delta", "response.failed", "message_start", "content_block_start"),
    *("content_block_delta", "message_delta", "message_stop", "contentBlockStart", "contentBlockDelta", "messageStop"),
    *("metadata", "delta", "index", "output_index", "summary_index", "content_index", "response", "item", "start"),
)
NAMES = sorted({name for body in GOOD.values() for name in names_in(body)} | set(EVENTS))
ODD_TEXT = st.text(st.characters(codec=None), max_size=6)  # lone surrogates and controls included
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([10**400, -(10**30), float("inf"), float("nan"), 1e308, 2**63, "\ud800", "\x00"])
    | st.sampled_from(NAMES)
    | ODD_TEXT
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | ODD_TEXT, inner, max_size=5),
    max_leaves=25,
)
BODIES = st.dictionaries(st.sampled_from(NAMES) | ODD_TEXT, JSON, max_size=6)
MUTATED = st.builds(
    lambda name, seed: mutated(GOOD[name], random.Random(seed)), st.sampled_from(sorted(GOOD)), st.integers(0, 2**32)
)


@settings(max_examples=200, deadline=None)
@given(BODIES | MUTATED)
def test_every_reader_takes_every_body(body: dict[str, Any]) -> None:
    for wire in WIRES.values():
        wire.read(body)  # `read_reply` would call it malformed
        check(read_reply(wire, body))
    problem_in(body, b"")
    _tokens_of(body)
    output_limit(body)
    retry_after({}, body)
    kind_of_status(400, body)


@settings(max_examples=120, deadline=None)
@given(st.lists(BODIES | MUTATED, max_size=6), st.sampled_from(sorted(WIRES)))
def test_every_assembler_takes_every_event(events: list[dict[str, Any]], name: str) -> None:
    wire = WIRES[name]
    assembler = wire.assembler()
    for event in events:
        assembler.add(event)
    assembler.end()
    body = json.loads(json.dumps(assembler.body()))
    assert isinstance(body, dict)
    wire.read(body)
    check(read_reply(wire, body))
    assert isinstance(assembler.is_whole, bool)


@settings(max_examples=120, deadline=None)
@given(st.binary(max_size=60), BODIES, st.integers(0, 200), st.sampled_from(sorted(WIRES)))
def test_every_stream_takes_every_byte(junk: bytes, body: dict[str, Any], cut: int, name: str) -> None:
    wire = WIRES[name]
    stream = EventParser(wire.assembler())
    data = b"data: " + json.dumps(body).encode() + b"\n\n" + junk + b"\n\ndata: " + junk + b"\r\n\r\n"
    stream.feed(data[:cut])
    stream.feed(data[cut:])
    stream.end()
    check(read_reply(wire, stream.assembler.body()))
    raw = junk + json.dumps(body).encode()
    problem_in(parse_body(raw), raw)


# ---- through the whole client ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(("provider", "name"), [("compatible", "openai"), ("openai-responses", "responses"), ("gemini", "gemini"), ("anthropic", "anthropic")])  # fmt: skip # noqa: E501
def test_odd_replies_are_rows_or_problems_and_never_end_the_run(
    server: ProviderServer, journal: Journal, provider: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s1kit.providers.patience.MAX_ATTEMPTS", 1)
    monkeypatch.setattr("s1kit.providers.patience.MAX_COMPLAINTS", 10**6)
    monkeypatch.setattr("s1kit.providers.throttle.ThrottleSettings.breaker_failures", 10**6)
    account = ("key", "model", "credit", "location")  # these end the run, and rightly
    bodies = []
    seed = 0
    while len(bodies) < 60:
        body = mutated(GOOD[name], random.Random(seed))
        seed += 1
        problem = problem_in(json.loads(json.dumps(body)), b"")
        if problem is None or problem.kind not in account:
            bodies.append(json.dumps(body))
    server.faults = lambda number, question: Fault(body=bodies[int(question)])
    client = open_client(MODELS[provider], journal, base_url=url_of(server, provider), price={"input": 1, "output": 1})
    replies = chat_many(client, [[{"role": "user", "content": str(n)}] for n in range(60)], journal)
    assert len(replies) == 60
    for reply in replies:
        check(reply)
    kept = {entry.request["messages"][-1]["content"]: entry for entry in journal.entries()}
    assert len(kept) > 20
    assert all(entry.finish_reason != UNREAD for entry in kept.values())
    for number, entry in kept.items():
        came = {name: value for name, value in entry.reply.items() if name != CUT}  # of one that an error ended
        assert json.dumps(came) == json.dumps(json.loads(bodies[int(number)]))


def test_a_token_count_beyond_all_measure_does_not_lose_the_reply(server: ProviderServer, journal: Journal) -> None:
    server.faults = lambda number, question: Fault(
        change=lambda reply: reply | {"usage": {"total_tokens": 10**400, "completion_tokens": 10**400}}, whole=True
    )
    (reply,) = chat_many(f"chat:{server.compatible}#m", [[{"role": "user", "content": "q"}]], journal)
    assert reply.answer == answer_of("q")


# ---- written first, then read ---------------------------------------------------------------------------------------


def test_a_reply_whose_reading_kills_the_process_is_on_disk_and_is_read_the_next_time(
    server: ProviderServer, tmp_path: Path
) -> None:
    code = (
        "import os, sys; from pathlib import Path; from s1kit.journal import Journal;"
        "from s1kit.providers.sync import chat_many; from s1kit.providers.wires.openai import OpenAIWire\n"
        "OpenAIWire.read = lambda self, body: os._exit(9)\n"
        f"chat_many('chat:{server.compatible}#m', [[{{'role': 'user', 'content': 'q'}}]], Journal(Path(sys.argv[1])),"
        " price={'input': 1000, 'output': 1000}, cap_usd=100.0, run='r')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "j.sqlite")], capture_output=True, check=False)
    assert done.returncode == 9, done.stderr
    with Journal(tmp_path / "j.sqlite") as journal:
        (entry,) = journal.entries()
        assert (entry.finish_reason, entry.cost_usd) == (UNREAD, 0.0)
        held = journal.ledger.held("r")
        assert held > 0, "its reservation counts until it is read"
        options: dict[str, Any] = {"price": {"input": 1000, "output": 1000}, "cap_usd": 100.0, "run": "r"}
        (reply,) = chat_many(f"chat:{server.compatible}#m", [[{"role": "user", "content": "q"}]], journal, **options)
        assert (reply.answer, reply.was_paid_before, server.num_requests) == (answer_of("q"), True, 1)
        assert reply.cost_usd == pytest.approx((reply.usage.input_tokens + reply.usage.output_tokens) / 1000)
        (entry,) = journal.entries()
        assert (entry.finish_reason, entry.cost_usd) == ("stop", pytest.approx(reply.cost_usd))
        assert journal.ledger.total("r") == pytest.approx(held), "as a request that was lost, at the most it may cost"


def test_the_body_is_committed_before_any_of_it_is_read(
    server: ProviderServer, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    read = OTHER_WIRES["openai"].read

    def reading(self: Any, body: Any) -> Reply:
        seen.extend(entry.finish_reason for entry in journal.entries())
        return read(body)

    monkeypatch.setattr("s1kit.providers.wires.openai.OpenAIWire.read", reading)

    async def run() -> None:
        async with open_client(f"chat:{server.compatible}#m", journal) as client:
            await client.chat([{"role": "user", "content": "q"}])

    asyncio.run(run())
    assert seen == [UNREAD]
    assert [entry.finish_reason for entry in journal.entries()] == ["stop"]
