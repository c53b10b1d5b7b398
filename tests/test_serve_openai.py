"""The official `openai` client, unchanged, against the server: chat, streaming, errors, async, completions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

pytest.importorskip("starlette")
pytest.importorskip("openai")

import openai
from serving import Running, ScriptedServing, serving

from s1kit.engines.scripted import Step
from s1kit.serve.local import Local

SUM = "1+1?"
SCRIPT = {SUM: [Step("one and one is three .", "3"), Step(" no , it is two .", "2")]}
MESSAGES = [{"role": "user", "content": SUM}]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    async def backend(_: AsyncExitStack) -> Local:
        return Local(ScriptedServing(SCRIPT), "scripted")

    with serving(backend, api_keys=["sesame"]) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="sesame", max_retries=0, timeout=20) as found:
        yield found


def test_chat_with_thinking_fields_in_extra_body(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="scripted", messages=MESSAGES, extra_body={"num_waits": 1, "thinking_token_budget": 60}
    )
    message = reply.choices[0].message
    assert message.content == "2"
    assert message.reasoning == message.reasoning_content == "one and one is three .\nWait no , it is two ."
    assert reply.usage.completion_tokens_details.reasoning_tokens == 14
    assert reply.s1kit["num_waits"] == 1


def test_a_reply_can_be_sent_back_as_a_turn(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(model="scripted", messages=MESSAGES)
    turn = first.choices[0].message.model_dump(exclude={"reasoning", "reasoning_content"})
    again = client.chat.completions.create(model="scripted", messages=[*MESSAGES, turn, *MESSAGES])
    assert again.choices[0].message.content == "3"
    whole = first.choices[0].message.model_dump()
    assert client.chat.completions.create(model="scripted", messages=[*MESSAGES, whole, *MESSAGES]).choices


def test_streaming_gives_thinking_then_answer_then_usage(client: openai.OpenAI) -> None:
    thinking, answer, usage, finish = "", "", None, None
    for chunk in client.chat.completions.create(
        model="scripted", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    ):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            thinking += getattr(choice.delta, "reasoning", None) or ""
            answer += choice.delta.content or ""
            finish = choice.finish_reason or finish
    assert (thinking, answer, finish) == ("one and one is three .", "3", "stop")
    assert usage is not None
    assert usage.completion_tokens_details.reasoning_tokens == 6


def test_the_helper_that_gathers_a_stream_works(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="scripted", messages=MESSAGES) as stream:
        stream.until_done()
        assert stream.get_final_completion().choices[0].message.content == "3"


def test_errors_are_the_clients_own_kinds(server: Running, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="scripted", messages=MESSAGES, extra_body={"num_wait": 1})
    assert bad.value.param == "num_wait"
    assert bad.value.code == "unknown_field"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="other", messages=MESSAGES)
    with (
        openai.OpenAI(base_url=server.url + "/v1", api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()


def test_effort_is_a_budget(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="scripted", messages=MESSAGES, reasoning_effort="none")
    assert reply.usage.completion_tokens_details.reasoning_tokens == 0
    assert reply.choices[0].message.content == "Final Answer:?"


def test_models_and_completions(client: openai.OpenAI) -> None:
    assert [m.id for m in client.models.list()] == ["scripted"]
    assert client.models.retrieve("scripted").id == "scripted"
    reply = client.completions.create(model="scripted", prompt=["Hello", "there"], n=2, max_tokens=3)
    assert [c.index for c in reply.choices] == [0, 1, 2, 3]
    streamed = client.completions.create(model="scripted", prompt="Hello", max_tokens=3, stream=True)
    assert "".join(c.text for chunk in streamed for c in chunk.choices) == reply.choices[0].text


def test_many_async_clients_at_once(server: Running) -> None:
    async def main() -> list[str]:
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="sesame", max_retries=0) as client:

            async def one(i: int) -> str:
                waits = {"num_waits": i % 2}
                reply = await client.chat.completions.create(model="scripted", messages=MESSAGES, extra_body=waits)
                return str(reply.choices[0].message.content)

            return await asyncio.gather(*(one(i) for i in range(24)))

    assert asyncio.run(main()) == ["3", "2"] * 12


def test_closing_a_stream_early_ends_the_work(server: Running, client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model="scripted", messages=MESSAGES, stream=True, n=8)
    next(iter(stream))
    stream.close()
    server.wait_until(lambda: server.state.admission.running == 0)
