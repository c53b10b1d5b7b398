"""Ending the thinking of a request that runs: over HTTP, on every surface, in this process and in front of a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")

from serving import CLIENT, Running, ScriptedServing, ask, joined, post, read_events, serving
from test_serve_upstream import expected, proxied, tokenizer_folder  # noqa: F401 - a fixture

from s1kit.engines.scripted import Step
from s1kit.serve.local import Local
from s1kit.serve.state import Limits

WORDS = " ".join(f"w{i}" for i in range(2000))
ID = {"x-request-id": "second"}
KEYS = {"ann": "key-a", "bob": "key-b"}


@contextmanager
def slow(**more: Any) -> Iterator[Running]:
    """A model that would think for 2,000 words, one every 5 ms."""
    engine = ScriptedServing({"q": [Step(WORDS, "late")]}, seconds_a_step=0.005)

    async def backend(_: AsyncExitStack) -> Local:
        return Local(engine, "scripted")

    with serving(backend, **more) as running:
        yield running


def stop(url: str, name: str, **more: Any) -> Any:
    return CLIENT.post(f"{url}/v1/requests/{name}/stop_thinking", **more)


def stop_once_it_thinks(running: Running, name: str) -> int:
    running.wait_until(lambda: any(r.choices[0].tally.kind == "thinking" for r in running.state.running.find(name)))
    return int(stop(running.url, name).json()["stopped"])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_request_told_to_stop_thinking_answers_as_if_its_budget_were_spent(path: str, stream: bool) -> None:
    body: dict[str, Any] = {"stream": stream, "thinking_token_budget": 1500, "min_thinking_tokens": 1000}
    messages = [{"role": "user", "content": "q"}]
    body |= {"input": "q"} if path.endswith("responses") else {"messages": messages}
    body |= {"max_tokens": 3000} if path.endswith("messages") else {}
    with slow() as running, ThreadPoolExecutor(1) as pool:
        reply = pool.submit(post, running.url, body, path, headers={"x-request-id": "mine"})
        assert stop_once_it_thinks(running, "mine") == 1
        found = reply.result(10)
        running.wait_until(lambda: stop(running.url, "mine").status_code == 404)
    text = found.text
    if path.endswith("completions"):
        account = joined(read_events(text))[0]["s1kit"] if stream else found.json()["s1kit"]
    else:
        lines = [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: {")] if stream else []
        last = next((e for e in reversed(lines) if "s1kit" in json.dumps(e)), found.json() if not stream else {})
        account = last.get("s1kit") or last["response"]["s1kit"]
    assert account["stopped"] is True
    assert account["ending"] == "cut_off"
    assert account["budget"]["max_thinking_tokens"] == 1500
    assert "Final Answer:" in text
    assert "w1000" not in text


def test_the_usage_counts_the_thinking_that_there_was() -> None:
    with slow() as running, ThreadPoolExecutor(1) as pool:
        reply = pool.submit(ask, running.url, "q", n=2, temperature=1)
        running.wait_until(lambda: bool(running.state.streams))
        running.wait_until(lambda: running.state.admission.running == 2)
        (name,) = {n for n in running.state.running.names() if n.startswith("chatcmpl-")}
        assert stop(running.url, name).json() == {"id": name, "stopped": 2}
        found = reply.result(10).json()
    words = [len(c["message"]["reasoning"].split()) if c["message"]["reasoning"] else 0 for c in found["choices"]]
    assert found["usage"]["completion_tokens_details"]["reasoning_tokens"] == sum(words)
    assert found["id"] == name


def test_a_request_that_still_waits_for_its_place_begins_with_its_answer() -> None:
    with slow(limits=Limits(max_running=1)) as running, ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, running.url, "q")
        running.wait_until(lambda: running.state.admission.running == 1)
        second = pool.submit(post, running.url, {"messages": [{"role": "user", "content": "q"}]}, headers=ID)
        running.wait_until(lambda: running.state.admission.waiting == 1)
        assert stop(running.url, "second").json()["stopped"] == 1
        for name in running.state.running.names():
            stop(running.url, name)
        assert first.result(10).status_code == 200
        found = second.result(10).json()
    assert found["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0
    assert found["s1kit"]["stopped"] is True


def test_only_the_key_of_the_request_may_stop_it() -> None:
    with slow(api_keys=KEYS) as running, ThreadPoolExecutor(1) as pool:
        ann, bob = ({"authorization": f"Bearer {key}"} for key in KEYS.values())
        reply = pool.submit(
            post, running.url, {"messages": [{"role": "user", "content": "q"}]}, headers=ann | {"x-request-id": "a"}
        )
        running.wait_until(lambda: running.state.admission.running == 1)
        assert stop(running.url, "a").status_code == 401
        refused = stop(running.url, "a", headers=bob)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "unknown_request")
        assert stop(running.url, "a", headers=ann).status_code == 200
        assert reply.result(10).json()["s1kit"]["stopped"] is True


def test_a_request_that_answers_already_is_a_409_and_an_unknown_one_a_404() -> None:
    engine = ScriptedServing({"q": [Step("short .", " ".join(["word"] * 200))]}, seconds_a_step=0.005)

    async def backend(_: AsyncExitStack) -> Local:
        return Local(engine, "scripted")

    with serving(backend) as running, ThreadPoolExecutor(1) as pool:
        reply = pool.submit(post, running.url, {"messages": [{"role": "user", "content": "q"}]}, headers=ID)
        running.wait_until(lambda: any(r.choices[0].tally.answer_tokens for r in running.state.running.find("second")))
        refused = stop(running.url, "second")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "not_thinking")
        assert stop(running.url, "nobody").status_code == 404
        assert reply.result(10).json()["s1kit"]["ending"] == "closed"
        running.wait_until(lambda: not running.state.running.names())


@pytest.mark.parametrize("kind", ["vllm", "sglang", "plain"])
def test_a_server_behind_is_told_to_stop_and_then_answers(tokenizer_folder: Path, kind: str) -> None:  # noqa: F811
    with proxied(tokenizer_folder, kind) as found, ThreadPoolExecutor(1) as pool:
        found.model.stops_in, found.upstream.interval = 10_000, 0.01
        fields = {"thinking_token_budget": 1000, "answer_tokens": 12}
        body = {"messages": [{"role": "user", "content": "why"}], **fields}
        reply = pool.submit(post, found.url, body, headers=ID)
        assert stop_once_it_thinks(found.running, "second") == 1
        whole = reply.result(20).json()
        spent = whole["usage"]["completion_tokens_details"]["reasoning_tokens"]
        assert 0 < spent < 500
        assert whole["s1kit"]["stopped"] is True
        if kind == "vllm":
            row = expected(found, "why", **fields | {"thinking_token_budget": spent})
            wanted = row.generation()
            message = whole["choices"][0]["message"]
            assert (message["reasoning"], message["content"]) == (wanted.thinking, wanted.answer)
        found.running.wait_until(lambda: found.upstream.num_streaming == 0)
