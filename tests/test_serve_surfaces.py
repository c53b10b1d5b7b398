"""`/v1/messages` and `/v1/responses` with the official clients, and the endpoints that count tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("anthropic")
pytest.importorskip("openai")

import anthropic
import openai
from serving import CLIENT, Running, ScriptedServing, post, serving

from s1kit.engines.scripted import Step
from s1kit.serve.local import Local

SCRIPT = {"1+1?": [Step("I add one and one and get two", "Two it is")]}
LOCAL = anthropic.DefaultHttpxClient(trust_env=False)
TURN = [{"role": "user", "content": "1+1?"}]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    async def backend(_: AsyncExitStack) -> Local:
        return Local(ScriptedServing(SCRIPT), "scripted")

    with serving(backend, api_keys=("secret",)) as running:
        yield running


@pytest.fixture(scope="module")
def claude(server: Running) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.url, api_key="secret", http_client=LOCAL, max_retries=0)


@pytest.fixture(scope="module")
def client(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url + "/v1", api_key="secret", http_client=CLIENT, max_retries=0)


@pytest.mark.parametrize("budget", [1, 3, 5])
def test_anthropics_client_gets_thinking_to_the_token_whole_and_streamed(
    claude: anthropic.Anthropic, budget: int
) -> None:
    fields = {"model": "scripted", "max_tokens": 60, "messages": TURN}
    thinking = {"type": "enabled", "budget_tokens": budget}
    whole = claude.messages.create(**fields, thinking=thinking)
    assert [block.type for block in whole.content] == ["thinking", "text"]
    assert whole.stop_reason == "end_turn"
    assert whole.usage.output_tokens_details.thinking_tokens == budget
    with claude.messages.stream(**fields, thinking=thinking) as stream:
        gathered = stream.get_final_message()
    assert [b.model_dump() for b in gathered.content] == [b.model_dump() for b in whole.content]
    assert gathered.usage.output_tokens == whole.usage.output_tokens
    turns = [*TURN, {"role": "assistant", "content": [b.model_dump() for b in whole.content]}, *TURN]
    assert claude.messages.create(**fields | {"messages": turns}).content[0].type == "text"


def test_a_message_that_says_nothing_of_thinking_begins_with_its_text(claude: anthropic.Anthropic) -> None:
    reply = claude.messages.create(model="scripted", max_tokens=60, messages=TURN, system="Be brief.")
    assert [block.type for block in reply.content] == ["text"]
    assert reply.usage.output_tokens_details.thinking_tokens > 0
    counted = claude.messages.count_tokens(model="scripted", messages=TURN, system="Be brief.")
    assert counted.input_tokens == reply.usage.input_tokens


@pytest.mark.parametrize(("stops", "which"), [(["it"], "it"), (["it", "nowhere"], None)])
def test_a_message_says_that_a_stop_sequence_ended_it(
    claude: anthropic.Anthropic, stops: list[str], which: str | None
) -> None:
    fields = {"model": "scripted", "max_tokens": 60, "messages": TURN, "stop_sequences": stops}
    whole = claude.messages.create(**fields)
    with claude.messages.stream(**fields) as stream:
        gathered = stream.get_final_message()
    for reply in (whole, gathered):
        assert (reply.stop_reason, reply.stop_sequence) == ("stop_sequence", which)
        assert reply.content[0].text.strip() == "Two"


def test_errors_are_anthropics_kinds(claude: anthropic.Anthropic, server: Running) -> None:
    with pytest.raises(anthropic.BadRequestError, match="min_thinking_tokens"):
        claude.messages.create(model="scripted", max_tokens=20, messages=TURN, extra_body={"min_thinking_tokens": 5000})
    stranger = anthropic.Anthropic(base_url=server.url, api_key="wrong", http_client=LOCAL, max_retries=0)
    with pytest.raises(anthropic.AuthenticationError):
        stranger.messages.create(model="scripted", max_tokens=20, messages=TURN)


@pytest.mark.parametrize("summary", [None, "auto"])
def test_openais_client_gets_reasoning_items_whole_and_streamed(client: openai.OpenAI, summary: str | None) -> None:
    fields = {"model": "scripted", "input": "1+1?", "instructions": "Be brief.", "store": False}
    fields |= {"reasoning": {"summary": summary}, "extra_body": {"thinking_token_budget": 4}}
    whole = client.responses.create(**fields)
    assert [item.type for item in whole.output] == ["reasoning", "message"]
    assert whole.usage.output_tokens_details.reasoning_tokens == 4
    assert whole.status == "completed"
    shown = whole.output[0].summary if summary else whole.output[0].content
    assert shown[0].text
    events = list(client.responses.create(**fields, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    final = events[-1].response
    assert final.output_text == whole.output_text
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == whole.output_text
    kind = "response.reasoning_summary_text.delta" if summary else "response.reasoning_text.delta"
    assert "".join(e.delta for e in events if e.type == kind) == shown[0].text
    echoed = [{"role": "user", "content": "1+1?"}, *(i.model_dump() for i in whole.output), *TURN]
    assert client.responses.create(model="scripted", input=echoed).output_text


def test_a_response_is_counted_as_it_is_then_charged(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "scripted", "input": "2+2?", "instructions": "Be brief."}
    counted = client.responses.input_tokens.count(**asked)
    assert counted.object == "response.input_tokens"
    assert counted.input_tokens == client.responses.create(**asked).usage.input_tokens
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.input_tokens.count(**asked, previous_response_id="resp_1")
    assert refused.value.param == "previous_response_id"


def test_a_response_cut_by_its_total_is_incomplete(client: openai.OpenAI) -> None:
    reply = client.responses.create(model="scripted", input="1+1?", max_output_tokens=2)
    assert (reply.status, reply.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert reply.usage.output_tokens == 2


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "c"}, "conversation"),
        ({"max_output_tokens": 5, "min_thinking_tokens": 9}, "max_output_tokens"),
        ({"max_tokens": 5}, "max_tokens"),
    ],
)
def test_what_a_response_cannot_have_is_refused_in_its_own_names(server: Running, fields: dict, param: str) -> None:
    key = {"authorization": "Bearer secret"}
    reply = post(server.url, {"input": "1+1?"} | fields, "/v1/responses", headers=key)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param, reply.text


def test_text_goes_to_ids_and_back(server: Running) -> None:
    key = {"x-api-key": "secret"}
    ids = post(server.url, {"prompt": "I add one"}, "/tokenize", headers=key).json()
    assert ids["count"] == len(ids["tokens"]) > 0
    back = post(server.url, {"tokens": ids["tokens"]}, "/detokenize", headers=key).json()
    assert back["prompt"].strip() == "I add one"
    assert post(server.url, {"messages": TURN}, "/tokenize", headers=key).json()["count"] > 0
    assert post(server.url, {"prompt": "x", "messages": TURN}, "/tokenize", headers=key).status_code == 400
    assert post(server.url, {"tokens": [1 << 30]}, "/detokenize", headers=key).status_code == 400
    assert json.loads(CLIENT.get(server.url + "/version").text)["version"]
