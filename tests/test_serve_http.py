"""The HTTP contract, over a scripted engine in this process: shapes, streams, refusals, limits, leaving clients."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

pytest.importorskip("starlette")

from serving import CLIENT, Running, ScriptedServing, ask, joined, post, read_events, serving

from s1kit.engines.scripted import Step
from s1kit.errors import InputError
from s1kit.forcing.formats import FORMATS
from s1kit.serve import logs
from s1kit.serve.local import Local
from s1kit.serve.options import Options
from s1kit.serve.server import run
from s1kit.serve.state import Limits

SUM = "1+1?"
SCRIPT = {
    SUM: [Step("one and one is three .", "3"), Step(" no , it is two .", "2"), Step(" yes , two .", "2")],
    "tell": [Step("let me see", "a b STOP c d")],
    "long": [Step(" ".join(f"word{i}" for i in range(400)), "done")],
    "round": [Step("and so on " * 400, "done")],
}


@dataclass
class Scripted:
    running: Running
    engine: ScriptedServing

    @property
    def url(self) -> str:
        return self.running.url


@contextmanager
def scripted(seconds_a_step: float = 0.0, limits: Limits | None = None, **more: Any) -> Iterator[Scripted]:
    engine = ScriptedServing(SCRIPT, seconds_a_step=seconds_a_step)

    async def backend(_: AsyncExitStack) -> Local:
        return Local(engine, "scripted")

    with serving(backend, limits, **more) as running:
        yield Scripted(running, engine)


@pytest.fixture(scope="module")
def server() -> Iterator[Scripted]:
    with scripted() as found:
        yield found


def test_a_reply_has_openais_shape_and_the_thinking_beside_the_answer(server: Scripted) -> None:
    reply = ask(server.url, SUM).json()
    (choice,) = reply["choices"]
    assert reply["object"] == "chat.completion"
    assert choice["message"] == {
        "role": "assistant",
        "refusal": None,
        "content": "3",
        "reasoning": "one and one is three .",
        "reasoning_content": "one and one is three .",
    }
    assert choice["finish_reason"] == "stop"
    assert reply["usage"]["completion_tokens_details"] == {"reasoning_tokens": 6}
    assert reply["usage"]["total_tokens"] == reply["usage"]["prompt_tokens"] + reply["usage"]["completion_tokens"]
    assert {"ending": "closed", "num_waits": 0}.items() <= reply["s1kit"].items()


def test_a_wait_goes_on_thinking_and_changes_the_answer(server: Scripted) -> None:
    reply = ask(server.url, SUM, num_waits=1).json()
    assert reply["choices"][0]["message"]["content"] == "2"
    assert reply["choices"][0]["message"]["reasoning"] == "one and one is three .\nWait no , it is two ."
    assert reply["s1kit"]["num_waits"] == 1


def test_thinking_that_goes_round_in_circles_is_ended_and_says_so(server: Scripted) -> None:
    reply = ask(server.url, "round").json()
    assert reply["s1kit"]["ending"] == "loop"
    assert reply["usage"]["completion_tokens_details"]["reasoning_tokens"] < 300
    assert reply["choices"][0]["message"]["content"].startswith("Final Answer:")


def test_waits_are_used_in_turn(server: Scripted) -> None:
    reply = ask(server.url, SUM, num_waits=2, wait=[" Hmm", " But"]).json()
    thinking = reply["choices"][0]["message"]["reasoning"]
    assert thinking == "one and one is three . Hmm no , it is two . But yes , two ."


def test_a_budget_cuts_thinking_and_asks_for_the_answer(server: Scripted) -> None:
    reply = ask(server.url, SUM, thinking_token_budget=3).json()
    assert reply["choices"][0]["message"]["reasoning"] == "one and one"
    assert reply["choices"][0]["message"]["content"] == "Final Answer:?"
    assert reply["s1kit"]["ending"] == "cut_off"
    assert reply["usage"]["completion_tokens_details"]["reasoning_tokens"] == 3


def test_a_closing_phrase_can_be_given(server: Scripted) -> None:
    reply = ask(server.url, SUM, thinking_token_budget=0, closing_phrase="So:").json()
    assert reply["choices"][0]["message"]["content"] == "So:?"
    assert reply["choices"][0]["message"]["reasoning"] is None


def test_stop_strings_act_on_the_answer_only(server: Scripted) -> None:
    reply = ask(server.url, "tell", stop=["STOP", "let", "see"]).json()
    assert reply["choices"][0]["message"]["content"] == "a b "
    assert reply["choices"][0]["message"]["reasoning"] == "let me see"
    assert reply["choices"][0]["finish_reason"] == "stop"


def test_an_answer_that_fills_its_room_says_length(server: Scripted) -> None:
    reply = ask(server.url, "tell", answer_tokens=3).json()
    assert reply["choices"][0]["finish_reason"] == "length"
    assert (
        ask(server.url, "tell", max_tokens=20, thinking_token_budget=5).json()["choices"][0]["finish_reason"] == "stop"
    )


def test_thinking_can_be_left_out_of_the_reply_but_not_of_the_count(server: Scripted) -> None:
    for fields in ({"include_reasoning": False}, {"reasoning": {"exclude": True}}):
        reply = ask(server.url, SUM, **fields).json()
        assert reply["choices"][0]["message"]["reasoning"] is None
        assert reply["usage"]["completion_tokens_details"]["reasoning_tokens"] == 6


def test_a_stream_begins_with_the_role_and_ends_with_done(server: Scripted) -> None:
    reply = ask(server.url, SUM, stream=True, num_waits=1, stream_options={"include_usage": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    events = read_events(reply.text)
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["completion_tokens_details"]["reasoning_tokens"] == 14
    assert all(e["usage"] is None for e in events[:-1])
    forced = [e["choices"][0] for e in events[:-1] if e["choices"][0]["s1kit"].get("origin") == "forced"]
    assert [c["delta"].get("reasoning") for c in forced if c["s1kit"]["kind"] == "wait"] == ["\nWait"]


def test_several_choices_come_back_in_one_reply_and_in_one_stream(server: Scripted) -> None:
    whole = ask(server.url, SUM, n=3).json()
    assert [c["index"] for c in whole["choices"]] == [0, 1, 2]
    assert whole["usage"]["completion_tokens_details"]["reasoning_tokens"] == 18
    streamed = joined(read_events(ask(server.url, SUM, n=3, stream=True).text))
    assert {i: c["answer"] for i, c in streamed.items()} == {0: "3", 1: "3", 2: "3"}


def test_requests_are_batched_and_join_while_others_run() -> None:
    with scripted(seconds_a_step=0.002) as slow, ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda _: ask(slow.url, "long").json(), range(12)))
        assert all(r["choices"][0]["message"]["content"] == "done" for r in replies)
        assert slow.engine.batch.most_rows >= 6


def test_nothing_of_one_request_shows_in_another(server: Scripted) -> None:
    def one(i: int) -> bool:
        question, budget = (SUM, i % 5 + 1) if i % 2 else ("tell", -1)
        reply = ask(server.url, question, thinking_token_budget=budget, stream=bool(i % 3))
        got = joined(read_events(reply.text))[0] if i % 3 else None
        message = reply.json()["choices"][0]["message"] if got is None else None
        thinking = got["thinking"] if got else message["reasoning"]
        expected = " ".join(["one", "and", "one", "is", "three", "."][:budget]) if i % 2 else "let me see"
        return bool(thinking == expected)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(96)))


@pytest.mark.parametrize(
    "extra", [{"thinking_token_budget": 4000, "max_tokens": 100}, {"reasoning": {"max_tokens": 4090}}]
)
def test_a_maximum_above_the_room_is_honoured_by_the_room_and_reported(server: Scripted, extra: dict) -> None:
    reply = ask(server.url, **extra)
    assert reply.status_code == 200, reply.text
    asked = extra.get("thinking_token_budget") or extra["reasoning"]["max_tokens"]
    assert 0 < reply.json()["s1kit"]["budget"]["max_thinking_tokens"] < asked


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"extra_body": {"thinking_token_budget": 5}}, "extra_body"),
        ({"thinking_budgets": 5}, "thinking_budgets"),
        ({"thinking_token_budget": -2}, "thinking_token_budget"),
        ({"thinking_token_budget": "5"}, "thinking_token_budget"),
        ({"thinking_token_budget": True}, "thinking_token_budget"),
        ({"thinking_token_budget": 1.5}, "thinking_token_budget"),
        ({"thinking": {"type": "on"}}, "thinking.type"),
        ({"thinking": {"type": "enabled", "budget": 5}}, "thinking.budget"),
        ({"max_tokens": 4, "answer_tokens": 9}, "max_tokens"),
        ({"max_tokens": 2, "min_thinking_tokens": 3}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"min_thinking_tokens": 50, "max_tokens": 40}, "min_thinking_tokens"),
        ({"num_waits": 1, "wait": ""}, "wait"),
        ({"num_waits": 1, "wait": []}, "wait"),
        ({"num_waits": 1, "wait": "<|im_start|>"}, "wait"),
        ({"closing_phrase": "<|im_end|>"}, "closing_phrase"),
        ({"n": 0}, "n"),
        ({"n": 65}, "n"),
        ({"temperature": 3}, "temperature"),
        ({"stop": ""}, "stop"),
        ({"stop": [""]}, "stop.0"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"min_p": 0.1}, "min_p"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages.0"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "user", "content": "x", "x-y": 1}]}, "messages.0.x-y"),
        ({"max-tokens": 5}, "max-tokens"),
        ({"str": 5}, "str"),
        ({"Message": {"a[": 1}}, "Message"),
        ({"repetition_penalty": 1.1}, "repetition_penalty"),
        ({"max_tokens": 50, "max_completion_tokens": 60}, "max_completion_tokens"),
    ],
)
def test_what_cannot_be_honoured_is_a_400_that_names_the_field(
    server: Scripted, fields: dict[str, Any], param: str
) -> None:
    reply = ask(server.url, **fields)
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert error["param"] == param, error
    assert set(error) == {"message", "type", "param", "code"}


def test_a_misspelt_field_gets_the_nearest_name_and_extra_body_a_hint(server: Scripted) -> None:
    assert "Did you mean num_waits?" in ask(server.url, num_wait=1).json()["error"]["message"]
    assert "top level" in ask(server.url, extra_body={}).json()["error"]["message"]


def test_an_unknown_model_is_a_404_that_names_those_served(server: Scripted) -> None:
    reply = ask(server.url, model="gpt-9")
    assert (reply.status_code, reply.json()["error"]["param"]) == (404, "model")
    assert "scripted" in reply.json()["error"]["message"]
    assert CLIENT.get(server.url + "/v1/models/gpt-9").status_code == 404
    assert CLIENT.get(server.url + "/v1/models/scripted").json()["id"] == "scripted"


def test_bodies_that_are_no_json_too_large_or_of_another_type_are_refused(server: Scripted) -> None:
    url = server.url + "/v1/chat/completions"
    json_type = {"content-type": "application/json"}
    assert CLIENT.post(url, content=b"{", headers=json_type).status_code == 400
    assert CLIENT.post(url, content=b'"x"', headers=json_type).status_code == 400
    assert CLIENT.post(url, content=b"\xff", headers=json_type).status_code == 400
    assert CLIENT.post(url, content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
    assert CLIENT.post(url, content=b"x" * (9 << 20), headers=json_type).status_code == 413

    def pieces() -> Iterator[bytes]:
        for _ in range(10):
            yield b" " * (1 << 20)

    assert CLIENT.post(url, content=pieces(), headers=json_type).status_code == 413


def test_a_prompt_beyond_the_context_is_refused(server: Scripted) -> None:
    reply = ask(server.url, "word " * 5000)
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "context_length_exceeded"


def test_the_models_list_shows_the_effort_map() -> None:
    with scripted(efforts={"low": 3}, limits=Limits(default_budget=2)) as found:
        (card,) = CLIENT.get(found.url + "/v1/models").json()["data"]
        assert card["s1kit"]["reasoning_effort"] == {"low": 3}
        assert ask(found.url, reasoning_effort="low").json()["choices"][0]["message"]["reasoning"] == "one and one"
        assert ask(found.url).json()["choices"][0]["message"]["reasoning"] == "one and"
        # The client stated no maximum: it is the server's that is named.
        assert (
            "the server's default budget, which is 2"
            in ask(found.url, min_thinking_tokens=3).json()["error"]["message"]
        )
        assert ask(found.url, reasoning_effort="high").json()["error"]["param"] == "reasoning_effort"


def test_a_key_is_asked_for_and_never_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    with scripted(api_keys=["sesame", "other"]) as found:
        assert ask(found.url).status_code == 401
        wrong = post(found.url, {}, headers={"Authorization": "Bearer wrong-key"})
        assert wrong.status_code == 401
        assert "wrong-key" not in wrong.text
        right = {"Authorization": "Bearer other"}
        body = {"messages": [{"role": "user", "content": SUM}]}
        assert post(found.url, body, headers=right).status_code == 200
        assert CLIENT.get(found.url + "/v1/models").status_code == 401
        assert CLIENT.get(found.url + "/health").status_code == 200
    assert "sesame" not in capsys.readouterr().err


def test_only_its_own_names_are_answered_where_it_is_private() -> None:
    with scripted(limits=Limits(allowed_hosts=("127.0.0.1", "localhost", "::1"))) as found:
        assert CLIENT.get(found.url + "/v1/models").status_code == 200
        assert CLIENT.get(found.url + "/v1/models", headers={"host": "evil.example"}).status_code == 403
        assert post(found.url, {}, headers={"host": "evil.example:80"}).status_code == 403
        assert CLIENT.get(found.url + "/health", headers={"host": "localhost:9"}).status_code == 200
        assert CLIENT.get(found.url + "/health", headers={"host": "[::1]:9"}).status_code == 200


def test_a_full_server_says_when_to_come_back() -> None:
    with scripted(seconds_a_step=0.005, limits=Limits(max_running=1, max_waiting=1)) as found:
        with ThreadPoolExecutor(4) as pool:
            replies = list(pool.map(lambda _: ask(found.url, "long"), range(4)))
        statuses = sorted(r.status_code for r in replies)
        assert statuses == [200, 200, 429, 429]
        full = next(r for r in replies if r.status_code == 429)
        assert int(full.headers["retry-after"]) >= 1
        assert ask(found.url).status_code == 200
        assert ask(found.url, n=3).json()["error"]["param"] == "n"


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_row_within_a_second(stream: bool) -> None:
    with scripted(seconds_a_step=0.01) as found:
        body = json.dumps({"messages": [{"role": "user", "content": "long"}], "stream": stream}).encode()
        address = found.url.removeprefix("http://").split(":")
        with socket.create_connection((address[0], int(address[1]))) as client:
            head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            client.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            found.running.wait_until(lambda: bool(found.engine.batch.rows))
            time.sleep(0.1)
        left = time.monotonic()
        found.running.wait_until(lambda: found.engine.batch.num_cancelled == 1, seconds=2)
        assert time.monotonic() - left < 1
        found.running.wait_until(lambda: found.running.state.admission.running == 0)
        page = CLIENT.get(found.url + "/metrics").text
        assert "s1kit_cancelled_total 1" in page
        assert 's1kit_requests_total{endpoint="chat",status="499"} 1' in page


def test_a_failing_engine_is_an_error_and_the_next_request_works() -> None:
    with scripted() as found:
        found.engine.batch.breaks = True
        reply = ask(found.url)
        assert reply.status_code == 500
        assert "out of memory" in reply.json()["error"]["message"]
        found.engine.batch.breaks = False
        assert ask(found.url).status_code == 200


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_an_engine_leaves_nobody_waiting() -> None:
    with scripted(seconds_a_step=0.01) as found, ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(ask, found.url, "long")
        found.running.wait_until(lambda: bool(found.engine.batch.rows))
        found.engine.batch.rows["bug"] = None  # type: ignore[index, assignment]
        assert waiting.result(5).status_code == 500
        assert ask(found.url).status_code == 500
        assert CLIENT.get(found.url + "/health").status_code == 503


def test_shutting_down_lets_streams_finish_then_fails_them_cleanly() -> None:
    with scripted(seconds_a_step=0.01) as found:
        state, texts = found.running.state, []
        worker = threading.Thread(target=lambda: texts.append(ask(found.url, "long", stream=True).text))
        worker.start()
        found.running.wait_until(lambda: state.admission.running == 1)
        time.sleep(0.1)
        found.running.loop.call_soon_threadsafe(state.drain)
        found.running.wait_until(lambda: state.is_draining)
        assert ask(found.url).status_code == 503
        assert CLIENT.get(found.url + "/health").status_code == 503
        found.running.loop.call_soon_threadsafe(state.abort)
        worker.join(5)
        assert not worker.is_alive()
        events = read_events(texts[0])
        assert events[-1]["error"]["code"] == "shutting_down"


def test_metrics_count_what_happened() -> None:
    with scripted() as found:
        ask(found.url, SUM, num_waits=2)
        ask(found.url, SUM, thinking_token_budget=2)
        ask(found.url, SUM, nonsense=1)
        page = CLIENT.get(found.url + "/metrics").text
    for line in (
        "s1kit_waits_inserted_total 2",
        "s1kit_forced_ends_total 1",
        "s1kit_natural_ends_total 1",
        "s1kit_thinking_tokens_count 2",
        "s1kit_in_flight 0",
        's1kit_requests_total{endpoint="chat",status="200"} 2',
        's1kit_requests_total{endpoint="chat",status="400"} 1',
    ):
        assert line in page.splitlines()


def test_completions_think_only_where_asked_to(server: Scripted) -> None:
    prompt = f"<|im_start|>user\n{SUM}<|im_end|>\n<|im_start|>assistant\n"
    thought = post(server.url, {"prompt": prompt, "num_waits": 0, "thinking_token_budget": 9}, "/v1/completions").json()
    assert thought["object"] == "text_completion"
    assert thought["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
    opened = post(server.url, {"prompt": prompt + "<|im_start|>think\n", "max_tokens": 60}, "/v1/completions").json()
    assert opened["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
    assert opened["usage"]["prompt_tokens"] == thought["usage"]["prompt_tokens"]


def test_a_model_without_thinking_answers_at_once_and_refuses_a_budget() -> None:
    engine = ScriptedServing({SUM: [Step("", "2")]}, format=replace(FORMATS["direct"], answer_end="<|im_end|>"))

    async def backend(_: AsyncExitStack) -> Local:
        return Local(engine, "direct")

    with serving(backend) as found:
        reply = ask(found.url, SUM).json()
        assert reply["choices"][0]["message"]["content"] == "2"
        assert reply["usage"]["completion_tokens_details"] == {"reasoning_tokens": 0}
        assert ask(found.url, SUM, thinking_token_budget=0).status_code == 200
        assert ask(found.url, SUM, thinking_token_budget=9).json()["error"]["param"] == "thinking_token_budget"


def test_pages_and_documents_are_served_and_other_paths_are_404s(server: Scripted) -> None:
    page = CLIENT.get(server.url + "/")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert CLIENT.get(server.url + "/openapi.json").json()["openapi"].startswith("3.1")
    for path in ("/nothing", "/page/../app.py", "/page/__init__.py"):
        reply = CLIENT.get(server.url + path)
        assert reply.status_code == 404
    assert CLIENT.get(server.url + "/v1/chat/completions").status_code == 405


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("total", [1, 2, 3])
def test_a_total_without_room_for_an_answer_is_spent_on_thinking(server: Scripted, total: int, stream: bool) -> None:
    reply = ask(server.url, max_tokens=total, stream=stream, stream_options={"include_usage": True} if stream else None)
    assert reply.status_code == 200, reply.text
    if stream:
        events = read_events(reply.text)
        usage, choice = events[-1]["usage"], joined(events)[0]
        assert (choice["answer"], choice["finish"]) == ("", "length")
    else:
        usage, choice = reply.json()["usage"], reply.json()["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("", "length")
    assert usage["completion_tokens"] == usage["completion_tokens_details"]["reasoning_tokens"] == total


def test_an_exact_number_of_thinking_tokens_is_had(server: Scripted) -> None:
    reply = ask(server.url, thinking_token_budget=9, min_thinking_tokens=9).json()
    assert reply["usage"]["completion_tokens_details"]["reasoning_tokens"] == 9
    assert reply["s1kit"]["budget"] == {"max_thinking_tokens": 9, "min_thinking_tokens": 9, "num_waits": 0}


@pytest.mark.parametrize("effort", ["minimal", "low", "medium", "high", "xhigh", "max"])
def test_every_effort_is_honoured_by_the_room_there_is(server: Scripted, effort: str) -> None:
    reply = ask(server.url, reasoning_effort=effort, max_tokens=60)
    assert reply.status_code == 200, reply.text
    assert reply.json()["s1kit"]["budget"]["max_thinking_tokens"] < 60


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": {"a": "b"}, "service_tier": "auto", "store": True, "user": "u"},
        {"prompt_cache_key": "k", "safety_identifier": "s", "verbosity": "medium", "modalities": ["text"]},
        {"prediction": None, "audio": None, "never_heard_of": None, "stop": None, "tools": None},
        {"repetition_penalty": 1.0, "tool_choice": "auto", "parallel_tool_calls": False, "tools": []},
        {"stream_options": {"include_usage": True}},
        {"chat_template_kwargs": {"enable_thinking": True}},
        {"messages": [{"role": "user", "content": "1+1?", "name": "bob", "tool_calls": None}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "1+1?", "cache_control": {"type": "x"}}]}]},
        {
            "messages": [
                {"role": "user", "content": "1+1?"},
                {
                    "role": "assistant",
                    "content": "2",
                    "annotations": [],
                    "reasoning": "so",
                    "refusal": None,
                    "reasoning_details": [{"type": "reasoning.text", "text": "so"}],
                    "thinking_blocks": [{"type": "thinking", "thinking": "so", "signature": ""}],
                },
                {
                    "role": "assistant",
                    "content": [{"type": "thinking", "thinking": "x"}, {"type": "text", "text": "2"}],
                },
                {"role": "user", "content": "1+1?"},
            ]
        },
    ],
)
def test_what_cannot_change_the_output_is_accepted(server: Scripted, fields: dict[str, Any]) -> None:
    reply = ask(server.url, **fields)
    assert reply.status_code == 200, reply.text


def test_a_templates_switch_for_thinking_is_a_budget_of_zero(server: Scripted) -> None:
    reply = ask(server.url, chat_template_kwargs={"enable_thinking": False}).json()
    assert reply["s1kit"]["budget"]["max_thinking_tokens"] == 0


def test_a_lenient_server_lists_unknown_fields_in_the_reply() -> None:
    async def backend(_: AsyncExitStack) -> Local:
        return Local(ScriptedServing({}), "scripted")

    with serving(backend, Limits(is_lenient=True)) as running:
        turn = {"role": "user", "content": "x", "mood": 1}
        reply = post(running.url, {"messages": [turn], "x-y": 5, "max_tokens": 30})
        assert reply.status_code == 200, reply.text
        assert sorted(reply.json()["s1kit"]["ignored"]) == ["messages.0.mood", "x-y"]
        assert post(running.url, {"messages": [turn], "x-y": 5, "max_tokens": "30"}).status_code == 400


def test_a_field_name_cannot_forge_a_line_of_the_log() -> None:
    record = logging.LogRecord("s1kit", logging.INFO, "", 0, "request", None, None)
    record.fields = {"param": "x\n2026 error hacked\x1b]0;pwn\x07"}
    line = logs._TextLines().format(record)
    assert line.isprintable()


@pytest.mark.parametrize("options", [{"api_key": [""]}, {"api_key": ["a", " "]}, {"port": 99999}, {"port": -1}])
def test_an_empty_key_and_a_port_that_cannot_be_are_refused_at_the_start(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        run(Options(**options))
