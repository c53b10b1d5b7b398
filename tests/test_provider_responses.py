"""The Responses API: summaries of the thinking, what a reply's status means, streams, batches' endpoint."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from s1kit.errors import InputError
from s1kit.journal import Journal
from s1kit.providers.bodies import parse_body
from s1kit.providers.catalog import find_model
from s1kit.providers.chat import ChatRequest, Parameters, Problem, Reply, Stopped
from s1kit.providers.classify import problem_in
from s1kit.providers.client import open_client
from s1kit.providers.money import price_of
from s1kit.providers.terms import terms_of
from s1kit.providers.wires.events import EventParser
from s1kit.providers.wires.reading import is_hidden
from s1kit.providers.wires.replies import read_reply
from s1kit.providers.wires.responses import ResponsesWire
from tests.fixtures_providers import url_of
from tests.servers.provider_server import KEY, Fault, ProviderServer, answer_of, fail_first, response, thinking_of
from tests.servers.provider_streams import response_events

QUESTION = "What is 2 + 2?"
WIRE = ResponsesWire()

pytestmark = pytest.mark.usefixtures("keys")


def ask(server: ProviderServer, journal: Journal, reference: str = "chat:openai-responses/o3", **options: Any) -> Reply:
    options = {"price": "free", "base_url": url_of(server, "openai-responses")} | options

    async def run() -> Reply:
        async with open_client(reference, journal, **options) as client:
            return await client.chat([{"role": "user", "content": QUESTION}])

    return asyncio.run(run())


def body_of(*output: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"object": "response", "status": "completed", "error": None, "output": list(output), **fields}


def message(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": list(parts)}


def text(said: str) -> dict[str, Any]:
    return {"type": "output_text", "text": said, "annotations": []}


@pytest.mark.parametrize("stream", [True, False])
def test_the_official_client_accepts_the_server_that_stands_in(server: ProviderServer, stream: bool) -> None:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{server.root}/openai-responses/v1", api_key=KEY) as client:
        asked = {"model": "o3", "input": [{"role": "user", "content": QUESTION}], "reasoning": {"summary": "auto"}}
        if stream:
            with client.responses.stream(**asked) as events:
                reply = events.until_done().get_final_response()
        else:
            reply = client.responses.create(**asked)
    assert reply.output_text == answer_of(QUESTION)
    assert reply.output[0].summary[0].text == thinking_of(QUESTION)
    assert reply.usage.output_tokens_details.reasoning_tokens > 0


@pytest.mark.parametrize("stream", [True, False])
def test_the_summary_is_the_thinking_and_the_row_says_so(
    server: ProviderServer, journal: Journal, stream: bool
) -> None:
    reply = ask(server, journal, stream=stream)
    assert (reply.thinking, reply.answer) == (thinking_of(QUESTION), answer_of(QUESTION))
    assert reply.note == "the thinking is the provider's summary of it"
    assert reply.thinking_tokens == len(thinking_of(QUESTION).split())
    (entry,) = journal.entries()
    assert entry.provider == "openai-responses"


def test_a_server_of_ones_own_is_asked_at_its_responses_address_and_shows_all_of_the_thinking(
    server: ProviderServer, journal: Journal
) -> None:
    reply = ask(server, journal, f"chat:{server.compatible}/responses#Qwen3", base_url="")
    assert (reply.thinking, reply.note) == (thinking_of(QUESTION), "")
    assert terms_of(f"chat:{server.compatible}/responses#Qwen3-8B").terms == "permits"


def test_thinking_that_is_asked_to_stay_hidden_is_noted(server: ProviderServer, journal: Journal) -> None:
    reply = ask(server, journal, parameters=Parameters(thinking=False))
    assert reply.thinking == ""
    assert is_hidden(reply.note)


def test_names_keys_prices_and_terms_are_openai_s() -> None:
    model = find_model("chat:openai-responses/o3")
    assert (model.kind, model.base_url, model.needs_key) == ("openai", "https://api.openai.com/v1", True)
    assert price_of(model) == price_of(find_model("chat:openai/o3"))
    assert terms_of("chat:openai-responses/o3").terms == terms_of("chat:openai/o3").terms == "forbids"


def test_the_request_stores_nothing_and_names_limits_and_effort_as_the_api_does() -> None:
    parameters = Parameters(max_output_tokens=9, reasoning_effort="high", temperature=0.5, extra={"service_tier": "x"})
    messages = ({"role": "system", "content": "s"}, {"role": "user", "content": "q"})
    call = WIRE.call(ChatRequest("openai-responses", "o3", messages, parameters))
    assert call.path == "/responses"
    assert call.body == {
        "model": "o3",
        "input": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}],
        "max_output_tokens": 9,
        "store": False,
        "temperature": 0.5,
        "reasoning": {"summary": "auto", "effort": "high"},
        "service_tier": "x",
    }


@pytest.mark.parametrize("parameters", [Parameters(seed=1), Parameters(thinking_budget=5)])
def test_a_parameter_that_the_api_lacks_is_refused(parameters: Parameters) -> None:
    with pytest.raises(InputError, match="takes no"):
        WIRE.call(ChatRequest("openai-responses", "o3", ({"role": "user", "content": "q"},), parameters))


@pytest.mark.parametrize(
    ("fields", "finish"),
    [
        ({}, "stop"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "refused"),
        ({"status": "incomplete", "incomplete_details": None}, "length"),
    ],
)
def test_what_a_status_means(fields: dict[str, Any], finish: str) -> None:
    body = body_of(message(text("4")), **fields)
    assert problem_in(body, b"") is None
    assert read_reply(WIRE, body).finish_reason == finish


def test_a_refusal_is_one_whether_it_comes_whole_or_streamed() -> None:
    body = body_of(message({"type": "refusal", "refusal": "I cannot."}))
    for read in (body, assembled(b"".join(response_events(body)))):
        reply = read_reply(WIRE, read)
        assert (reply.finish_reason, reply.answer) == ("refused", "I cannot.")


def test_several_summaries_and_messages_are_joined_and_calls_of_tools_are_kept() -> None:
    summary = [{"type": "summary_text", "text": "one"}, {"type": "summary_text", "text": "two"}]
    call = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 1}'}
    thought = {"type": "reasoning", "summary": summary}
    reply = read_reply(WIRE, body_of(thought, message(text("a"), text("b")), call))
    assert (reply.thinking, reply.answer, reply.finish_reason) == ("one\n\ntwo", "ab", "stop")
    assert reply.tool_calls == ({"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},)
    assert read_reply(WIRE, body_of(call)).finish_reason == "stop"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (body_of(status="failed", error={"code": "server_error", "message": "The server had an error"}), "server"),
        (body_of(status="failed", error={"code": "rate_limit_exceeded", "message": "Rate limit"}), "rate"),
        (
            body_of(status="failed", error={"code": "invalid_prompt", "message": "flagged as violating"}),
            "refused",
        ),
        (body_of(status="in_progress"), "server"),
        (body_of(status="queued"), "server"),
        (body_of(status="cancelled"), "server"),
        (body_of(), "server"),
        ({"type": "error", "code": "insufficient_quota", "message": "You exceeded your current quota"}, "credit"),
    ],
)
def test_what_is_no_answer_is_a_problem(body: dict[str, Any], kind: str) -> None:
    problem = problem_in(body, b"")
    assert problem is not None
    assert problem.kind == kind


def test_a_failed_response_is_asked_again(server: ProviderServer, journal: Journal) -> None:
    failed = {"status": "failed", "error": {"code": "server_error", "message": "busy"}, "output": []}
    server.faults = fail_first(2, Fault(change=lambda reply: reply | failed))
    assert ask(server, journal).answer == answer_of(QUESTION)
    assert server.num_requests == 3
    (kept,) = journal.failures()
    assert (kept.kind, kept.times) == ("server", 2)


def test_an_organisation_that_may_see_no_summaries_is_told_so(server: ProviderServer, journal: Journal) -> None:
    reason = "Your organization must be verified to generate reasoning summaries."
    server.refuses = lambda body: reason if "reasoning" in body else None
    with pytest.raises((Problem, Stopped), match="must be verified"):
        ask(server, journal)


# ---- streams --------------------------------------------------------------------------------------------------------


def assembled(data: bytes) -> dict[str, Any]:
    stream = EventParser(WIRE.assembler())
    stream.feed(data)
    stream.end()
    body = parse_body(json.dumps(stream.assembler.body()).encode())
    assert body is not None
    return body


def test_a_stream_amounts_to_the_body_that_would_have_come_unstreamed() -> None:
    body = response({"model": "o3", "input": QUESTION, "reasoning": {"summary": "auto"}})
    assert assembled(b"".join(response_events(body))) == body


def test_a_stream_cut_anywhere_reads_as_a_part_of_the_whole() -> None:
    body = response({"model": "o3", "input": QUESTION, "reasoning": {"summary": "auto"}})
    events = list(response_events(body))
    whole = read_reply(WIRE, body)
    lengths = []
    for num in range(1, len(events)):
        stream = EventParser(WIRE.assembler())
        stream.feed(b"".join(events[:num]))
        stream.end()
        assert not stream.assembler.is_whole
        part = read_reply(WIRE, stream.assembler.body())
        assert whole.thinking.startswith(part.thinking)
        assert whole.answer.startswith(part.answer)
        lengths.append(len(part.thinking) + len(part.answer))
    assert lengths == sorted(lengths)
    assert lengths[-1] == len(whole.thinking) + len(whole.answer)


def test_a_last_event_without_output_does_not_lose_what_came() -> None:
    body = response({"model": "o3", "input": QUESTION})
    events = [e.replace(b'"output": [{', b'"output": [], "x": [{') if b"response.completed" in e else e for e in response_events(body)]  # fmt: skip # noqa: E501
    assert read_reply(WIRE, assembled(b"".join(events))).answer == answer_of(QUESTION)


def test_an_error_event_is_a_problem() -> None:
    event = {"type": "error", "code": "server_error", "message": "overloaded", "param": None, "sequence_number": 3}
    problem = problem_in(assembled(f"data: {json.dumps(event)}\n\n".encode()), b"")
    assert problem is not None
    assert (problem.kind, problem.text) == ("server", "overloaded")


def test_the_cost_that_openrouter_reports_counts_here_too() -> None:
    """Recorded in pydantic-ai (4fda389), `test_openrouter_responses_prompt_cache_e2e`."""
    usage = {"input_tokens": 9, "output_tokens": 5, "total_tokens": 14, "cost": 0.025, "is_byok": False}
    assert WIRE.read(body_of(message(text("4")), usage=usage)).reported_cost_usd == 0.025


def test_a_background_response_is_refused_since_each_attempt_would_buy_another() -> None:
    request = ChatRequest(
        "openai-responses", "o3", ({"role": "user", "content": QUESTION},), Parameters(extra={"background": True})
    )
    with pytest.raises(InputError, match="background"):
        WIRE.call(request)
