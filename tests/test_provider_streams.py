"""Replies that come as streams: the same as unstreamed ones, and what was cut is kept."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import replace
from typing import Any

import pytest

from s1kit.journal import Journal
from s1kit.providers.chat import Parameters, Problem, Reply, WireFormat
from s1kit.providers.client import Client, open_client
from s1kit.providers.wires.events import EventParser
from s1kit.providers.wires.replies import read_reply
from tests.fixtures_providers import MODELS, url_of
from tests.servers.provider_server import Fault, ProviderServer, answer_of, chat_completion, fail_first, thinking_of
from tests.servers.provider_streams import chat_events
from tests.test_provider_replies import GOOD, WIRES, mutated

QUESTION = "What is 2 + 2?"

pytestmark = pytest.mark.usefixtures("keys")


def ask(server: ProviderServer, journal: Journal, provider: str, *questions: str, **options: Any) -> list[Reply]:
    options = {"price": "free", "base_url": url_of(server, provider)} | options
    client: Client = open_client(MODELS[provider], journal, **options)

    async def run() -> list[Reply]:
        async with client:
            return await asyncio.gather(*(client.chat([{"role": "user", "content": q}]) for q in questions))

    return asyncio.run(run())


@pytest.mark.parametrize("provider", MODELS)
def test_a_streamed_reply_is_read_as_an_unstreamed_one(server: ProviderServer, journal: Journal, provider: str) -> None:
    (streamed,) = ask(server, journal, provider, QUESTION)
    assert server.num_streamed == 1
    with Journal(journal.path.with_name("other.sqlite")) as other:
        (plain,) = ask(server, other, provider, QUESTION, stream=False)
    assert server.num_streamed == 1
    assert streamed == plain
    assert streamed.answer == answer_of(QUESTION)
    (again,) = ask(server, journal, provider, QUESTION, stream=False)
    assert again == replace(streamed, was_paid_before=True)


@pytest.mark.parametrize("provider", ["compatible", "deepseek", "openai-responses", "gemini", "anthropic"])
def test_a_stream_that_is_cut_each_time_is_a_row_that_says_so_with_what_came(
    server: ProviderServer, journal: Journal, provider: str
) -> None:
    server.faults = lambda number, question: Fault(cut=True)
    price = {"input": 1.0, "output": 1.0}
    (reply,) = ask(server, journal, provider, QUESTION, price=price, parameters=Parameters(max_output_tokens=100))
    assert (reply.finish_reason, reply.note[:22]) == ("cut", "the stream was cut; th")
    assert reply.thinking
    assert thinking_of(QUESTION).startswith(reply.thinking.strip())
    assert server.num_requests == 3
    assert reply.cost_usd > 0
    assert journal.summary()[0]["finish_reason"] == "cut"
    (kept,) = journal.failures()  # the same part each time
    assert (kept.times, b"s1kit_cut" in kept.body) == (3, True)


def test_a_stream_that_is_cut_once_is_asked_again_and_the_part_is_kept(
    server: ProviderServer, journal: Journal
) -> None:
    server.faults = fail_first(1, Fault(cut=True))
    (reply,) = ask(server, journal, "deepseek", QUESTION)
    assert (reply.finish_reason, reply.answer) == ("stop", answer_of(QUESTION))
    (kept,) = journal.failures()
    assert json.loads(kept.body)["choices"][0]["message"]["reasoning_content"]


@pytest.mark.parametrize(
    "reason",
    [
        "Extra inputs are not permitted: stream_options",
        "Your organization must be verified to stream this model.",
    ],
)
def test_a_server_that_refuses_streams_is_asked_without(server: ProviderServer, journal: Journal, reason: str) -> None:
    name = "stream_options" if "options" in reason else "stream"
    server.refuses = lambda body: reason if name in body else None
    replies = ask(server, journal, "openai", *[f"{n} and {n}" for n in range(12)])
    assert {reply.finish_reason for reply in replies} == {"stop"}
    assert server.num_streamed == (12 if name == "stream_options" else 0)


def test_a_server_that_answers_whole_though_a_stream_was_asked_for_is_read(
    server: ProviderServer, journal: Journal
) -> None:
    server.faults = lambda number, question: Fault(whole=True)
    assert ask(server, journal, "compatible", QUESTION)[0].answer == answer_of(QUESTION)


@pytest.mark.parametrize("error", [{"error": {"code": 502, "message": "Provider returned error"}}])
def test_an_error_within_a_stream_is_asked_again_and_kept(
    server: ProviderServer, journal: Journal, error: dict[str, Any]
) -> None:
    server.faults = fail_first(2, Fault(change=lambda reply: error))
    (reply,) = ask(server, journal, "openrouter", QUESTION)
    assert reply.finish_reason == "stop"
    (kept,) = journal.failures()
    assert (kept.kind, kept.times) == ("server", 2)
    assert b"Provider returned error" in kept.body


def test_every_body_that_was_no_answer_is_kept_as_it_came(server: ProviderServer, journal: Journal) -> None:
    bodies = ["<html>down</html>", '{"error": {"message": "busy"}}', ""]
    server.faults = lambda number, question: Fault(body=bodies[number]) if number < len(bodies) else None
    ask(server, journal, "compatible", QUESTION)
    assert {failure.body for failure in journal.failures()} == {b.encode() for b in bodies if b}
    with Journal(journal.path.with_name("other.sqlite")) as other:
        other.merge(journal.path)
        assert len(list(other.failures())) == 2


def test_a_reply_longer_in_coming_than_a_gateway_s_patience_comes_whole(
    server: ProviderServer, journal: Journal
) -> None:
    """A gateway that gives up on a silent connection sees bytes all along."""
    server.seconds_between_events = 0.02
    (reply,) = ask(server, journal, "deepseek", QUESTION)
    assert reply.answer == answer_of(QUESTION)


# ---- the parser ------------------------------------------------------------------------------------------------------


def assembled(wire: WireFormat, data: bytes, cuts: list[int]) -> Reply:
    stream = EventParser(wire.assembler())
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        stream.feed(data[start:end])
    stream.end()
    return read_reply(wire, stream.assembler.body())


def test_a_stream_is_the_same_however_its_bytes_arrive_and_its_lines_end() -> None:
    wire, dice = WIRES["openai"], random.Random(0)
    body = {"messages": [{"content": "Wie heißt 数学 — 🧮?"}], "model": "m", "max_completion_tokens": 9}
    data = b"".join(chat_events(chat_completion(body, "deepseek")))
    whole = assembled(wire, data, [])
    assert whole.thinking == thinking_of("Wie heißt 数学 — 🧮?")
    for ending in (b"\n", b"\r\n"):
        sent = b"\xef\xbb\xbf: hello\n\n" * (ending == b"\n") + data.replace(b"\n", ending)
        for _ in range(50):
            cuts = sorted(dice.randrange(len(sent)) for _ in range(dice.randint(1, 40)))
            assert assembled(wire, sent, cuts) == whole


def test_mistral_s_parts_and_the_text_after_them_are_one_message() -> None:
    def chunk(content: Any, finish: str | None = None) -> bytes:
        return b"data: " + json.dumps({"choices": [{"delta": {"content": content}, "finish_reason": finish}]}).encode()

    thinking = [[{"type": "thinking", "thinking": [{"type": "text", "text": text}]}] for text in ("h", "m")]
    data = b"\n\n".join([chunk(""), *map(chunk, thinking), chunk("4"), chunk("2", "stop")])
    reply = assembled(WIRES["openai"], data, [])
    assert (reply.thinking, reply.answer, reply.finish_reason) == ("hm", "42", "stop")


def test_a_half_character_in_each_of_two_events_is_one_character() -> None:
    data = b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\ndata: {"choices":[{"delta":{"content":"\\ude00"},'
    data += b'"finish_reason":"stop"}]}\n\n'
    assert assembled(WIRES["openai"], data, []).answer == "😀"


@pytest.mark.parametrize("name", WIRES)
def test_any_events_are_put_together_without_an_exception(name: str) -> None:
    dice = random.Random(0)
    events: list[dict[str, Any]] = [
        *GOOD.values(),
        {"choices": [{"index": 0, "delta": {"content": "x", "tool_calls": [{"index": 0, "id": "a"}]}}]},
        {"choices": [{"delta": {"content": [{"type": "thinking", "thinking": [{"text": "x"}]}]}}]},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "x"}},
        {"type": "message_start", "message": {"usage": {"input_tokens": 1}}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning", "summary": []}},
        {"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "x"},
        {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "x"},
        {"type": "response.output_item.done", "output_index": 1, "item": {"type": "message", "content": []}},
        {"type": "response.completed", "response": {"object": "response", "status": "completed", "output": []}},
    ]
    for _ in range(1000):
        assembler = WIRES[name].assembler()
        for _ in range(4):
            assembler.add(mutated(dice.choice(events), dice))
        read_reply(WIRES[name], assembler.body())


def test_a_problem_that_names_streams_but_not_as_a_refusal_of_them_is_no_reason_to_stop_streaming(
    server: ProviderServer, journal: Journal
) -> None:
    server.faults = lambda number, question: Fault(status=500, body="stream closed") if number == 0 else None
    ask(server, journal, "compatible", QUESTION)
    assert server.num_streamed == 1
    server.faults = lambda number, question: Fault(status=400, body="upstream refuses this")
    with pytest.raises(Problem):
        ask(server, journal, "compatible", "other")
