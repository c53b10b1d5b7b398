"""The servers that stand in for providers satisfy the providers' own clients, online and in batches."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.servers.provider_server import KEY, Fault, ProviderServer, answer_of, fail_first, thinking_of

QUESTION = "What is 2 + 2?"


def test_the_openai_client_accepts_chat_completions(server: ProviderServer) -> None:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=server.openai, api_key=KEY, max_retries=2) as client:
        messages = [{"role": "user", "content": QUESTION}]
        reply = client.chat.completions.create(model="o3", messages=messages, max_completion_tokens=100)
        assert reply.choices[0].message.content == answer_of(QUESTION)
        assert reply.usage.completion_tokens_details.reasoning_tokens > 0
        server.num_requests = 0
        server.faults = fail_first(1, Fault(status=429, retry_after="0.01"))
        assert client.chat.completions.create(model="o3", messages=messages, max_completion_tokens=9).id
        assert server.num_requests == 2
    with openai.OpenAI(base_url=server.openai, api_key="wrong") as client, pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(model="o3", messages=messages, max_completion_tokens=100)


def test_the_openai_client_sees_deepseek_s_thinking(server: ProviderServer) -> None:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{server.root}/deepseek/v1", api_key=KEY) as client:
        reply = client.chat.completions.create(
            model="deepseek-reasoner", messages=[{"role": "user", "content": QUESTION}]
        )
        assert reply.choices[0].message.reasoning_content == thinking_of(QUESTION)


def test_the_openai_client_accepts_the_stream(server: ProviderServer) -> None:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{server.root}/deepseek/v1", api_key=KEY) as client:
        chunks = list(
            client.chat.completions.create(
                model="deepseek-reasoner",
                messages=[{"role": "user", "content": QUESTION}],
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(getattr(d, "reasoning_content", "") or "" for d in deltas) == thinking_of(QUESTION)
    assert "".join(d.content or "" for d in deltas) == answer_of(QUESTION)
    assert chunks[-1].usage.completion_tokens > 0


def test_the_anthropic_client_accepts_the_stream(server: ProviderServer) -> None:
    anthropic = pytest.importorskip("anthropic")
    with (
        anthropic.Anthropic(base_url=server.anthropic.removesuffix("/v1"), api_key=KEY) as client,
        client.messages.stream(
            model="claude-opus-5-5",
            max_tokens=2000,
            thinking={"type": "enabled", "budget_tokens": 1024},
            messages=[{"role": "user", "content": QUESTION}],
        ) as stream,
    ):
        reply = stream.get_final_message()
    assert [block.type for block in reply.content] == ["thinking", "text"]
    assert reply.content[0].thinking == thinking_of(QUESTION)
    assert reply.stop_reason == "end_turn"


def test_the_google_client_accepts_the_stream(server: ProviderServer) -> None:
    genai = pytest.importorskip("google.genai")
    client = genai.Client(api_key=KEY, http_options={"base_url": server.root})
    config = {"thinking_config": {"include_thoughts": True}}
    thinking, answer = "", ""
    for chunk in client.models.generate_content_stream(model="gemini-2.5-flash", contents=QUESTION, config=config):
        for part in chunk.candidates[0].content.parts:
            thinking += part.text if part.thought else ""
            answer += "" if part.thought else part.text
    assert (thinking, answer) == (thinking_of(QUESTION), answer_of(QUESTION))
    client.close()


def test_the_openai_client_runs_a_batch(server: ProviderServer, tmp_path: Path) -> None:
    openai = pytest.importorskip("openai")
    body = {"model": "o3", "messages": [{"role": "user", "content": QUESTION}], "max_completion_tokens": 9}
    row = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")
    with openai.OpenAI(base_url=server.openai, api_key=KEY) as client:
        with (tmp_path / "in.jsonl").open("rb") as file:
            uploaded = client.files.create(file=file, purpose="batch")
        batch = client.batches.create(
            input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"s1kit": "t"}
        )
        assert batch.status == "in_progress"
        assert [b.metadata["s1kit"] for b in client.batches.list()] == ["t"]
        batch = client.batches.retrieve(batch.id)
        assert (batch.status, batch.request_counts.completed) == ("completed", 1)
        line = json.loads(client.files.content(batch.output_file_id).text)
        assert line["response"]["body"]["choices"][0]["message"]["content"] == answer_of(QUESTION)


def test_the_anthropic_client_accepts_messages_with_thinking(server: ProviderServer) -> None:
    anthropic = pytest.importorskip("anthropic")
    with anthropic.Anthropic(base_url=server.anthropic.removesuffix("/v1"), api_key=KEY) as client:
        reply = client.messages.create(
            model="claude-opus-5-5",
            max_tokens=2000,
            thinking={"type": "enabled", "budget_tokens": 1024},
            messages=[{"role": "user", "content": QUESTION}],
        )
        assert [block.type for block in reply.content] == ["thinking", "text"]
        assert reply.content[0].thinking == thinking_of(QUESTION)
        assert reply.stop_reason == "end_turn"
    bad = anthropic.Anthropic(base_url=server.anthropic.removesuffix("/v1"), api_key="wrong")
    with bad, pytest.raises(anthropic.AuthenticationError):
        bad.messages.create(model="m", max_tokens=10, messages=[{"role": "user", "content": QUESTION}])


def test_the_anthropic_client_runs_a_batch(server: ProviderServer) -> None:
    anthropic = pytest.importorskip("anthropic")
    server.expire = lambda number, question: question == "late"
    with anthropic.Anthropic(base_url=server.anthropic.removesuffix("/v1"), api_key=KEY) as client:
        batch = client.messages.batches.create(
            requests=[
                {
                    "custom_id": q,
                    "params": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": q}]},
                }
                for q in ("now", "late")
            ]
        )
        assert batch.processing_status == "in_progress"
        assert client.messages.batches.retrieve(batch.id).processing_status == "ended"
        results = {row.custom_id: row.result for row in client.messages.batches.results(batch.id)}
        assert results["now"].message.content[0].text == answer_of("now")
        assert results["late"].type == "expired"


def test_the_google_client_accepts_content_with_thoughts(server: ProviderServer) -> None:
    genai = pytest.importorskip("google.genai")
    client = genai.Client(api_key=KEY, http_options={"base_url": server.root})
    config = {"thinking_config": {"include_thoughts": True}}
    reply = client.models.generate_content(model="gemini-2.5-flash", contents=QUESTION, config=config)
    assert [(part.thought, part.text) for part in reply.candidates[0].content.parts] == [
        (True, thinking_of(QUESTION)),
        (None, answer_of(QUESTION)),
    ]
    assert reply.usage_metadata.thoughts_token_count > 0
    client.close()
    wrong = genai.Client(api_key="wrong", http_options={"base_url": server.root})
    with pytest.raises(genai.errors.ClientError, match="API key not valid"):
        wrong.models.generate_content(model="gemini-2.5-flash", contents=QUESTION)
    wrong.close()


def test_the_google_client_runs_a_batch_from_a_file(server: ProviderServer, tmp_path: Path) -> None:
    genai = pytest.importorskip("google.genai")
    row = {"key": "a", "request": {"contents": [{"role": "user", "parts": [{"text": QUESTION}]}]}}
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")
    client = genai.Client(api_key=KEY, http_options={"base_url": server.root})
    uploaded = client.files.upload(
        file=tmp_path / "in.jsonl", config={"mime_type": "application/jsonl", "display_name": "t"}
    )
    job = client.batches.create(model="gemini-2.5-flash", src=uploaded.name, config={"display_name": "t"})
    assert job.state.name == "JOB_STATE_RUNNING"
    job = client.batches.get(name=job.name)
    assert job.state.name == "JOB_STATE_SUCCEEDED"
    line = json.loads(client.files.download(file=job.dest.file_name))
    assert line["response"]["candidates"][0]["content"]["parts"][-1]["text"] == answer_of(QUESTION)
    client.close()
