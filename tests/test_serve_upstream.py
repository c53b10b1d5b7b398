"""The dial in front of another server: exact forcing over HTTP, as it streams, and every way an upstream fails."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")

from servers.scripted_upstream import ScriptedUpstream
from servers.threaded import in_thread
from serving import CLIENT, Running, ask, joined, post, read_events, serving

from s1kit.completions.capabilities import DIALECTS, Capabilities
from s1kit.completions.client import CompletionsServer
from s1kit.completions.discovery import Identity, discover
from s1kit.completions.protocol import CompletionRun, CompletionSettings
from s1kit.completions.stream import Chunk, read_reply
from s1kit.errors import InputError
from s1kit.forcing.budget import ThinkingBudget
from s1kit.forcing.detection import detect_format
from s1kit.forcing.plan import Plan, make_plan
from s1kit.forcing.request import Request
from s1kit.forcing.segment_driver import Complete
from s1kit.forcing.token_driver import TokenDriver
from s1kit.forcing.token_format import TokenFormat
from s1kit.forcing.tokenizer import FileTokenizer
from s1kit.serve.chat import ChatBody
from s1kit.serve.connect_upstream import connect
from s1kit.serve.jobs import parse_chat
from s1kit.serve.options import Options
from s1kit.serve.upstream import Upstream


@dataclass
class HashModel:
    """A model that is a function of its context: bytes of text, now and then an attempt to stop."""

    tokens: TokenFormat
    stops_in: int = 12
    alphabet: Sequence[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        text = "abcdefg é€😀\n"
        self.alphabet = sorted({i for c in text for i in self.tokens.tokenizer.encode(c, add_special_tokens=False)})

    def __call__(self, context: Sequence[int]) -> int:
        digest = hashlib.sha256(repr(list(context)[-40:]).encode()).digest()
        if int.from_bytes(digest[8:16], "big") % self.stops_in == 0:
            return min(self.tokens.eos_ids) if digest[1] % 3 == 0 else self.tokens.end_ids[0]
        return self.alphabet[int.from_bytes(digest[2:6], "big") % len(self.alphabet)]


@dataclass
class Proxied:
    running: Running
    upstream: ScriptedUpstream
    backend: Upstream
    model: HashModel

    @property
    def url(self) -> str:
        return self.running.url


@contextmanager
def proxied(folder: Path, kind: str = "vllm", silent_seconds: float = 5, **more: Any) -> Iterator[Proxied]:
    tokenizer = FileTokenizer(folder)
    tokens = TokenFormat(detect_format(tokenizer), tokenizer)
    model = HashModel(tokens)
    upstream = ScriptedUpstream(tokenizer, model, owned_by=kind, more_prompt_tokens=more.pop("more_prompt_tokens", 0))
    made: list[Upstream] = []

    async def backend(stack: AsyncExitStack) -> Upstream:
        url = await stack.enter_async_context(upstream.running())
        server, identity = CompletionsServer(url, "key", silent_seconds), Identity("scripted", owner=kind)
        capabilities = await discover(server, identity, tokens, kind)
        made.append(Upstream(server, "scripted", tokens, 2048, capabilities))
        return made[0]

    with serving(backend, **more) as running:
        yield Proxied(running, upstream, made[0], model)


@pytest.fixture(scope="module")
def server(tokenizer_folder: Path) -> Iterator[Proxied]:
    with proxied(tokenizer_folder) as found:
        yield found


@pytest.fixture(autouse=True)
def _no_faults(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "server" in request.fixturenames:
        upstream = request.getfixturevalue("server").upstream
        upstream.fault, upstream.interval, upstream.tokens_per_event = "", 0.0, 1
        request.getfixturevalue("server").model.stops_in = 12


@pytest.fixture(scope="module")
def tokenizer_folder(shown_think_folder: Path) -> Path:
    return shown_think_folder


def expected(server: Proxied, text: str, **fields: Any) -> TokenDriver:
    """What the token-level driver makes of the same model: the truth that the proxy must tell."""
    body = ChatBody.model_validate_json(json.dumps({"messages": [{"role": "user", "content": text}]} | fields))
    plan: Plan = parse_chat(body, server.backend, {}, None).jobs[0].plan
    row = TokenDriver(plan)
    context = list(row.start())
    while not row.is_done:
        new = row.push(server.model(context))
        if row.drop:
            del context[-row.drop :]
        context += new
    return row


def long_question(server: Proxied) -> str:
    """A question whose first run of thinking is not over after a few tokens."""
    for i in range(100):
        if expected(server, f"long {i}", thinking_token_budget=100).thinking_tokens > 8:
            return f"long {i}"
    raise AssertionError("the model stops too early on every question")


@pytest.mark.parametrize("tokens_per_event", [1, 3])
@pytest.mark.parametrize("stream", [True, False])
def test_the_proxy_says_token_for_token_what_the_engine_would(
    server: Proxied, stream: bool, tokens_per_event: int
) -> None:
    server.upstream.tokens_per_event = tokens_per_event
    for i in range(30):
        fields = {
            "thinking_token_budget": [0, 1, 7, 40, 200][i % 5],
            "num_waits": i % 3 if i % 5 else 0,
            "answer_tokens": 8 + i,
        }
        truth = expected(server, f"question {i}", **fields).generation()
        reply = ask(server.url, f"question {i}", stream=stream, **fields)
        assert reply.status_code == 200, reply.text
        if stream:
            got = joined(read_events(reply.text))[0]
            thinking, answer, account = got["thinking"], got["answer"], got["s1kit"]
        else:
            (choice,) = reply.json()["choices"]
            thinking, answer = choice["message"]["reasoning"] or "", choice["message"]["content"]
            account = choice["s1kit"]
            assert reply.json()["usage"]["completion_tokens_details"]["reasoning_tokens"] == truth.thinking_tokens
        assert thinking == truth.thinking
        assert answer == truth.answer
        assert account.pop("budget")["max_thinking_tokens"] == fields["thinking_token_budget"]
        assert account == {
            "ending": truth.ending,
            "num_waits": truth.num_waits,
            "forced_tokens": truth.forced_tokens,
            "seam": "ids",
        }


def test_a_wait_continues_on_token_ids_and_asks_only_for_what_is_left(server: Proxied) -> None:
    server.upstream.bodies.clear()
    ask(server.url, "question 3", thinking_token_budget=30, num_waits=2, answer_tokens=9)
    first, second = server.upstream.bodies[:2]
    assert first["max_tokens"] == 30
    assert second["prompt"][: len(first["prompt"])] == first["prompt"]
    grown = len(second["prompt"]) - len(first["prompt"])
    assert second["max_tokens"] == 30 - grown
    assert set(first["stop_token_ids"]) == set(server.backend.tokens.thinking_stop_ids)
    assert server.upstream.headers[0]["authorization"] == "Bearer key"
    assert "temperature" not in first


def test_sampling_fields_reach_the_upstream_and_choices_get_seeds_of_their_own(server: Proxied) -> None:
    server.upstream.bodies.clear()
    ask(server.url, n=2, seed=5, temperature=0.7, top_p=0.9, top_k=4, min_p=0.1, thinking_token_budget=0)
    first, second = server.upstream.bodies
    assert {"temperature": 0.7, "top_p": 0.9, "top_k": 4, "min_p": 0.1}.items() <= first.items()
    assert {first["seed"], second["seed"]} == {5, 6}


def test_stop_strings_are_sent_for_the_answer_only(server: Proxied) -> None:
    server.upstream.bodies.clear()
    reply = ask(server.url, "question 1", thinking_token_budget=20, stop=["b"], answer_tokens=40).json()
    assert all("stop" not in body for body in server.upstream.bodies[:-1])
    assert server.upstream.bodies[-1]["stop"] == ["b"]
    assert "b" not in reply["choices"][0]["message"]["content"].removeprefix("Final Answer:")


def test_log_probabilities_of_the_answer_are_passed_on(server: Proxied) -> None:
    reply = ask(server.url, thinking_token_budget=2, logprobs=True, top_logprobs=1, answer_tokens=12).json()
    content = reply["choices"][0]["logprobs"]["content"]
    assert len(content) == len(joined_tokens(content))
    assert all(len(entry["top_logprobs"]) == 2 for entry in content)
    streamed = ask(server.url, thinking_token_budget=2, logprobs=True, top_logprobs=1, answer_tokens=12, stream=True)
    pieces = [c["logprobs"]["content"] for e in read_events(streamed.text) for c in e["choices"] if c.get("logprobs")]
    assert [entry for piece in pieces for entry in piece] == content


def test_a_probability_of_zero_has_a_logarithm_that_json_can_hold() -> None:
    chunk, least = Chunk(), -math.inf
    logprobs = {"tokens": ["x"], "token_logprobs": [least], "top_logprobs": [{"y": least, "z": -1.5}]}
    read_reply({"choices": [{"text": "x", "logprobs": logprobs}]}, chunk)
    assert [(t.logprob, t.top) for t in chunk.logprobs] == [(-9999.0, (("y", -9999.0), ("z", -1.5)))]


def test_log_probabilities_are_read_as_llama_cpp_writes_them() -> None:
    rivals = [{"id": 1, "token": "x", "bytes": [120], "logprob": -0.5}, {"id": 2, "token": "y", "logprob": -3.4e38}]
    chunk = Chunk()
    read_reply({"choices": [{"text": "x", "logprobs": {"content": [rivals[0] | {"top_logprobs": rivals}]}}]}, chunk)
    assert [(t.token, t.logprob, t.top) for t in chunk.logprobs] == [("x", -0.5, (("x", -0.5), ("y", -9999.0)))]


def joined_tokens(content: list[dict[str, Any]]) -> list[str]:
    return [entry["token"] for entry in content]


def test_the_format_of_the_answer_is_asked_for_in_the_answer_only(server: Proxied) -> None:
    server.upstream.bodies.clear()
    ask(server.url, response_format={"type": "json_object"}, thinking_token_budget=3)
    assert "response_format" not in server.upstream.bodies[0]
    assert server.upstream.bodies[-1]["response_format"] == {"type": "json_object"}


def test_completions_go_through_as_they_are_or_think_when_asked(server: Proxied) -> None:
    server.upstream.bodies.clear()
    plain = post(server.url, {"prompt": "abc", "max_tokens": 9}, "/v1/completions").json()
    (body,) = server.upstream.bodies
    assert server.backend.tokens.tokenizer.decode(body["prompt"], skip_special_tokens=False) == "abc"
    assert plain["usage"]["completion_tokens_details"] == {"reasoning_tokens": 0}
    assert plain["s1kit"]["ending"] is None
    ids = {"prompt": [[65, 66], [67]], "max_tokens": 60, "thinking_token_budget": 5, "n": 2}
    several = post(server.url, ids, "/v1/completions").json()
    assert [c["index"] for c in several["choices"]] == [0, 1, 2, 3]
    assert several["choices"][0]["text"] == several["choices"][1]["text"]
    assert post(server.url, {"prompt": [10**6]}, "/v1/completions").json()["error"]["param"] == "prompt"
    assert post(server.url, {"prompt": ""}, "/v1/completions").json()["error"]["param"] == "prompt"


def test_events_cut_inside_a_character_do_not_matter(server: Proxied) -> None:
    server.upstream.fault = "split"
    seen = ""
    for i in range(8):
        truth = expected(server, f"question {i}", thinking_token_budget=60).generation()
        split = joined(read_events(ask(server.url, f"question {i}", thinking_token_budget=60, stream=True).text))[0]
        assert (split["thinking"], split["answer"]) == (truth.thinking, truth.answer)
        seen += truth.thinking + truth.answer
    assert any(ord(c) > 0x7FF for c in seen)


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        ("500", 502, "500"),
        ("400", 400, "asked to fail"),
        ("429", 429, "full"),
        ("wrong_type", 502, "text/html"),
        ("bad_utf8", 502, "cannot be read"),
        ("garbage", 502, "cannot be read"),
        ("error_event", 502, "error inside its reply"),
        ("too_many", 502, "tokens"),
        ("die", 502, "127.0.0.1"),
    ],
)
def test_a_faulty_upstream_is_an_error_that_says_which(server: Proxied, fault: str, status: int, said: str) -> None:
    server.upstream.fault, server.upstream.fault_after = fault, 0
    reply = ask(server.url, "question 4", thinking_token_budget=50)
    assert reply.status_code == status, reply.text
    assert said in reply.json()["error"]["message"]
    if fault == "429":
        assert reply.headers["retry-after"] == "7"
    server.upstream.fault = ""
    assert ask(server.url, "question 4", thinking_token_budget=5).status_code == 200


def test_an_upstream_that_dies_in_mid_stream_ends_the_stream_with_an_error(server: Proxied) -> None:
    server.upstream.fault, server.upstream.fault_after = "die", 3
    reply = ask(server.url, long_question(server), thinking_token_budget=100, stream=True)
    assert reply.status_code == 200
    events = read_events(reply.text)
    assert joined(events[:-1])[0]["tokens"] == 3
    assert events[-1]["error"]["code"] == "upstream_died"


def test_an_upstream_that_is_down_is_a_502_with_its_address(tokenizer_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with proxied(tokenizer_folder) as found:
        found.backend.server.url = address
        reply = ask(found.url)
        assert reply.status_code == 502
        assert address in reply.json()["error"]["message"]
        assert CLIENT.get(found.url + "/health").status_code == 503


@pytest.mark.parametrize("fault", ["silent", "stall"])
def test_a_silent_upstream_is_a_504(tokenizer_folder: Path, fault: str) -> None:
    with proxied(tokenizer_folder, silent_seconds=0.4) as found:
        found.upstream.fault, found.upstream.fault_after = fault, 2
        started = time.monotonic()
        reply = ask(found.url, long_question(found), thinking_token_budget=100)
        assert reply.status_code == 504
        assert time.monotonic() - started < 3
        found.running.wait_until(lambda: found.upstream.num_open == 0)
        metrics = CLIENT.get(found.url + "/metrics").text
        assert 's1kit_upstream_errors_total{kind="upstream_silent"} 1' in metrics


def test_a_kept_connection_that_the_upstream_closed_is_replaced(server: Proxied) -> None:
    for _ in range(3):
        assert ask(server.url, thinking_token_budget=3).status_code == 200

        async def close_all() -> None:
            for task in list(server.upstream._tasks):
                task.cancel()

        server.running.run(close_all())
        server.running.wait_until(lambda: server.upstream.num_open == 0)


def test_a_client_that_leaves_ends_the_work_upstream_within_a_second(server: Proxied) -> None:
    server.upstream.interval, server.model.stops_in = 0.02, 1 << 60
    before = server.upstream.num_abandoned
    body = {"messages": [{"role": "user", "content": "question 0"}], "stream": True, "num_waits": 50}
    with CLIENT.stream("POST", server.url + "/v1/chat/completions", json=body) as reply:
        next(reply.iter_raw())
    left = time.monotonic()
    server.running.wait_until(lambda: server.upstream.num_abandoned == before + 1, seconds=2)
    assert server.upstream.last_abandoned - left < 1


def test_many_cancelled_streams_leave_nothing_behind(server: Proxied) -> None:
    server.upstream.interval = 0.01
    body = json.dumps({"messages": [{"role": "user", "content": "q"}], "stream": True, "num_waits": 99}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    port = int(server.url.rsplit(":", 1)[1])
    request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    num_tasks = server.running.run(count_tasks())

    def begin_and_leave(_: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(request)
            client.recv(100)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(begin_and_leave, range(100)))
    server.running.wait_until(lambda: server.upstream.num_streaming == 0, seconds=10)
    server.running.wait_until(lambda: server.running.state.admission.running == 0)
    assert not server.running.state.streams
    server.running.wait_until(lambda: server.running.run(count_tasks()) <= num_tasks + 2)
    assert ask(server.url, thinking_token_budget=3).status_code == 200


async def count_tasks() -> int:
    return len(asyncio.all_tasks())


def test_thinking_that_repeats_itself_is_ended_while_it_streams(server: Proxied) -> None:
    letter = server.backend.tokens.tokenizer.encode("a")[0]
    end = server.backend.tokens.end_ids[0]

    def stuck(context: Sequence[int]) -> int:
        return min(server.backend.tokens.eos_ids) if end in context else letter

    model, server.upstream.next_id = server.upstream.next_id, stuck
    try:
        for stream in (False, True):
            reply = ask(server.url, "q", stream=stream, thinking_token_budget=400)
            account = joined(read_events(reply.text))[0]["s1kit"] if stream else reply.json()["s1kit"]
            assert account["ending"] == "loop"
        counts = [c["s1kit"] for e in read_events(reply.text) for c in e["choices"]]
        assert sum(c["num_tokens"] for c in counts if c.get("kind") == "thinking") == 192
    finally:
        server.upstream.next_id = model


@pytest.mark.parametrize("kind", ["sglang", "llama.cpp", "plain"])
def test_servers_that_answer_in_text_are_forced_too_and_the_reply_says_so(tokenizer_folder: Path, kind: str) -> None:
    with proxied(tokenizer_folder, kind) as found:
        for i in range(12):
            fields = {"thinking_token_budget": 25, "num_waits": i % 3, "answer_tokens": 12}
            reply = ask(found.url, f"question {i}", **fields).json()
            assert reply["s1kit"]["seam"] == "text"
            assert reply["usage"]["completion_tokens_details"]["reasoning_tokens"] <= 25
            streamed = joined(read_events(ask(found.url, f"question {i}", stream=True, **fields).text))[0]
            assert streamed["thinking"] == (reply["choices"][0]["message"]["reasoning"] or "")
            assert streamed["answer"] == reply["choices"][0]["message"]["content"]
        sent = next(b for b in found.upstream.bodies if b.get("stream"))
        assert isinstance(sent["prompt"], list) == (kind == "sglang")
        assert "return_token_ids" not in sent
        if kind == "plain":
            assert set(sent) <= {"model", "prompt", "max_tokens", "stream", "stop"}
            refused = ask(found.url, "1+1?", top_k=5)
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "top_k")


@pytest.mark.parametrize("kind", ["llama.cpp", "plain", "vllm"])
def test_a_first_token_that_the_server_adds_is_not_sent_twice(
    tokenizer_folder: Path, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "tokenizer.json").write_bytes((tokenizer_folder / "tokenizer.json").read_bytes())
    settings = json.loads((tokenizer_folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings |= {"bos_token": "<|endoftext|>", "chat_template": "<|endoftext|>{{ messages[-1].content }}"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    for more, begins in ((1, "Which?"), (0, "<|endoftext|>Which?")):
        with proxied(tmp_path, kind, more_prompt_tokens=more) as found:
            for _ in range(2):
                assert ask(found.url, "Which?", thinking_token_budget=5, num_waits=1).status_code == 200
            asked = [body["prompt"] for body in found.upstream.bodies if body.get("stream")]
            # One completion to find out; ids have their first token already.
            assert len(found.upstream.bodies) - len(asked) == 1
            if kind != "vllm":
                assert all(prompt.startswith(begins) for prompt in asked)


@pytest.mark.parametrize("kind", ["vllm", "sglang", "llama.cpp", "plain"])
def test_an_answer_that_thinks_again_has_one_budget_whatever_the_server_shows(
    tokenizer_folder: Path, kind: str
) -> None:
    with proxied(tokenizer_folder, kind) as found:
        reopen, end = found.model.tokens.reopen_id, found.model.tokens.end_ids[0]
        assert reopen is not None
        num_reopened = 0

        def thinks_again(context: Sequence[int]) -> int:
            nonlocal num_reopened
            is_answering = max((n for n, i in enumerate(context) if i in (reopen, end)), default=-1)
            if is_answering >= 0 and context[is_answering] == end and len(context) - is_answering == 5:
                num_reopened += 1
                return reopen
            return found.model(context)

        found.upstream.next_id = thinks_again
        for i in range(12):
            fields = {"thinking_token_budget": 25, "answer_tokens": 12}
            reply = ask(found.url, f"question {i}", **fields).json()
            message = reply["choices"][0]["message"]
            assert reply["usage"]["completion_tokens_details"]["reasoning_tokens"] <= 25
            assert "<think>" not in message["content"]
            streamed = joined(read_events(ask(found.url, f"question {i}", stream=True, **fields).text))[0]
            assert (streamed["thinking"], streamed["answer"]) == (message["reasoning"] or "", message["content"])
            # What begins thinking again is no text of the answer, and its parts stop nothing.
            for stop in ("hin", "<", "k>"):
                # Half a character before a stop is not shown.
                expected = message["content"].partition(stop)[0].rstrip("\N{REPLACEMENT CHARACTER}")
                stopped = ask(found.url, f"question {i}", stop=stop, **fields).json()["choices"][0]["message"]
                assert stopped["content"].rstrip("\N{REPLACEMENT CHARACTER}") == expected
                events = read_events(ask(found.url, f"question {i}", stop=stop, stream=True, **fields).text)
                assert joined(events)[0]["answer"].rstrip("\N{REPLACEMENT CHARACTER}") == expected
        assert num_reopened


@pytest.mark.parametrize(
    ("pieces", "answer"),
    [
        (("a<th", "ink", ">b"), "a"),  # thinking is begun again; what follows is not the answer's
        (("a<th", "ink", " hint"), "a<t"),  # it was none, so that the stop counts
        (("a<t", "hin", "g"), "a<t"),
        (("a thin",), "a t"),
    ],
)
def test_a_stop_is_told_from_a_part_of_the_delimiter_however_the_text_is_cut(
    tokenizer_folder: Path, pieces: tuple[str, ...], answer: str
) -> None:
    tokenizer = FileTokenizer(tokenizer_folder)
    tokens = TokenFormat(detect_format(tokenizer), tokenizer)
    plan = make_plan(Request("x", budget=ThinkingBudget(0), stop=("hin",)), tokens, 2048)
    ask = Complete(plan.prompt_ids, 100, tokens.answer_stop_ids | {tokens.reopen_id}, ("hin",), 0)
    run = CompletionRun(Capabilities(DIALECTS["llama.cpp"]), "m", plan, ask, (), CompletionSettings())
    assert "stop" not in run.body()
    shown = "".join(run.feed(Chunk(text=text)).text for text in pieces if not run.is_over)
    assert (run.is_over, shown) == (True, answer)
    reopened = run.completed().stop_id == tokens.reopen_id
    assert reopened == (pieces[-1] == ">b")
    assert run.completed().stop_text == (None if reopened else "hin")


def test_an_upstream_that_comes_back_as_another_is_a_503_until_it_is_itself_again(tokenizer_folder: Path) -> None:
    with proxied(tokenizer_folder) as found:
        found.backend.identity = Identity("scripted", owner="vllm", context_tokens=2048, is_listed=True)
        assert CLIENT.get(found.url + "/health").status_code == 200
        for name, value, said in (
            ("model", "another", "does not serve scripted any more"),
            ("context_tokens", 512, "the context length was 2048 and is now 512"),
        ):
            before = getattr(found.upstream, name)
            setattr(found.upstream, name, value)
            health = CLIENT.get(found.url + "/health")
            assert (health.status_code, said in health.text) == (503, True)
            refused = ask(found.url)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "upstream_changed")
            setattr(found.upstream, name, before)
            assert CLIENT.get(found.url + "/health").status_code == 200
            assert ask(found.url, thinking_token_budget=3).status_code == 200


def test_an_upstream_that_was_restarted_is_looked_at_before_the_next_request(tokenizer_folder: Path) -> None:
    with proxied(tokenizer_folder) as found:
        found.backend.identity = Identity("scripted", owner="vllm", context_tokens=2048, is_listed=True)
        assert ask(found.url, thinking_token_budget=3).status_code == 200
        # Nobody asks for /health; the failure alone brings the doubt.
        found.upstream.fault, found.upstream.fault_after, found.upstream.context_tokens = "die", 0, 512
        assert ask(found.url).status_code == 502
        found.upstream.fault = ""
        refused = ask(found.url, thinking_token_budget=3)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "upstream_changed")
        found.upstream.context_tokens = 2048
        assert CLIENT.get(found.url + "/health").status_code == 200
        assert ask(found.url, thinking_token_budget=3).status_code == 200


def test_with_reconnect_an_upstream_is_served_as_what_it_has_become(tokenizer_folder: Path) -> None:
    tokenizer = FileTokenizer(tokenizer_folder)
    upstream = ScriptedUpstream(tokenizer, HashModel(TokenFormat(detect_format(tokenizer), tokenizer)))
    made: list[Upstream] = []

    async def backend(stack: AsyncExitStack) -> Upstream:
        url = await stack.enter_async_context(upstream.running())
        made.append(await connect(Options(upstream=url, tokenizer=str(tokenizer_folder), reconnect=True)))
        return made[0]

    with serving(backend) as running:
        assert ask(running.url, thinking_token_budget=3).json()["model"] == "scripted"
        upstream.model, upstream.context_tokens = "another", 512
        assert CLIENT.get(running.url + "/health").status_code == 200
        found = ask(running.url, model="another", thinking_token_budget=3)
        assert (found.status_code, found.json()["model"]) == (200, "another")
        assert upstream.bodies[-1]["model"] == "another"
        assert CLIENT.get(running.url + "/v1/models").json()["data"][0]["max_model_len"] == 512
        assert ask(running.url, model="scripted").status_code == 404
        upstream.context_tokens = 0
        health = CLIENT.get(running.url + "/health")
        assert (health.status_code, "connecting to it as that failed" in health.text) == (503, True)


def test_a_prompt_that_cannot_fit_is_refused_before_it_is_tokenised(
    server: Proxied, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> list[int]:
        raise AssertionError("it was tokenised")

    monkeypatch.setattr("s1kit.serve.jobs.encode", never)
    server.upstream.bodies.clear()
    for path, body in (
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "ab " * 1_000_000}]}),
        ("/v1/completions", {"prompt": "ab " * 1_000_000}),
    ):
        reply = post(server.url, body, path)
        error = reply.json()["error"]
        assert (reply.status_code, error["code"]) == (400, "context_length_exceeded")
        assert error["param"] in body
        assert "and the context of scripted has 2048" in error["message"]
    assert server.upstream.bodies == []


@contextmanager
def two_upstreams(folder: Path, owners: tuple[str, str] = ("vllm", "vllm")) -> Iterator[list[ScriptedUpstream]]:
    """Two servers of one model, each in a loop of its own and with its `url`."""
    tokens = FileTokenizer(folder)
    model = HashModel(TokenFormat(detect_format(tokens), tokens))
    made = [ScriptedUpstream(tokens, model, owned_by=owner) for owner in owners]
    with ExitStack() as running:
        for upstream in made:
            upstream.__dict__["url"] = running.enter_context(in_thread(upstream.running()))
        yield made


def test_two_upstreams_share_the_requests_and_one_that_fails_is_not_missed(tokenizer_folder: Path) -> None:
    with two_upstreams(tokenizer_folder) as (first, second):
        given = f"{first.__dict__['url']}|{second.__dict__['url']}"

        async def make(stack: AsyncExitStack) -> Upstream:
            return await connect(
                Options(upstream=given, tokenizer=str(tokenizer_folder), context=2048, upstream_timeout=5)
            )

        with serving(make) as found:
            fields = {"thinking_token_budget": 9, "temperature": 0, "answer_tokens": 5}
            with ThreadPoolExecutor(4) as pool:
                texts = list(pool.map(lambda n: ask(found.url, f"question {n}", **fields).json(), range(12)))
            num_first, num_second = len(first.bodies), len(second.bodies)
            assert min(num_first, num_second) > 3
            first.fault, first.fault_after = "die", 0
            again = [ask(found.url, f"question {n}", **fields).json() for n in range(12)]
            assert [r["choices"] for r in again] == [r["choices"] for r in texts]
            assert len(second.bodies) > num_second + 12
            assert CLIENT.get(found.url + "/health").status_code == 200


def test_an_upstream_of_another_kind_among_several_is_refused_by_name(tokenizer_folder: Path) -> None:
    with two_upstreams(tokenizer_folder, ("vllm", "sglang")) as (first, second):
        urls = first.__dict__["url"], second.__dict__["url"]
        options = Options(upstream="|".join(urls), tokenizer=str(tokenizer_folder), context=2048)
        with pytest.raises(InputError, match=f"{urls[1]} is not the same as {urls[0]}: the kind of server was vllm"):
            asyncio.run(connect(options))
        with pytest.raises(InputError, match="one that becomes another model is left out"):
            asyncio.run(connect(Options(upstream="|".join(urls), reconnect=True)))


@pytest.mark.parametrize(("returns_ids", "seam"), [(True, "ids"), (False, "text")])
def test_sglang_is_exact_where_it_returns_ids_and_is_never_sent_a_top_k_of_0(
    tokenizer_folder: Path, returns_ids: bool, seam: str
) -> None:
    """SGLang 0.5.23: `return_token_ids` and `matched_stop` in completions; top_k is -1 or at least 1, else a 400."""
    tokenizer = FileTokenizer(tokenizer_folder)
    tokens = TokenFormat(detect_format(tokenizer), tokenizer)
    upstream = ScriptedUpstream(tokenizer, HashModel(tokens), owned_by="sglang", returns_ids=returns_ids)

    async def backend(stack: AsyncExitStack) -> Upstream:
        url = await stack.enter_async_context(upstream.running())
        return await connect(Options(upstream=url, tokenizer=str(tokenizer_folder), context=2048))

    with serving(backend) as running:
        reply = ask(
            running.url, "hello", thinking_token_budget=30, num_waits=1, temperature=0.7, seed=1, top_k=0
        ).json()
    assert reply["s1kit"]["seam"] == seam
    assert reply["usage"]["completion_tokens_details"]["reasoning_tokens"] <= 30
    assert {body["top_k"] for body in upstream.bodies} == {-1}
    assert all(body.get("return_token_ids", False) == returns_ids for body in upstream.bodies[-2:])
