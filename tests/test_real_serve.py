"""The dial on real engines: in front of their servers, and around them in its own process."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

pytest.importorskip("starlette", reason="run make engines, then make test-engines")
pytest.importorskip("torch", reason="run make engines, then make test-engines")

from engine_parity import free_port, server
from fixtures_models import CHAT_TEMPLATE, write_random_checkpoint
from serving import CLIENT, Running, ask, joined, post, read_events, serving

from s1kit import load_engine
from s1kit.serve.connect_upstream import connect
from s1kit.serve.local import Local
from s1kit.serve.options import Options

pytestmark = pytest.mark.engines

CONTEXT = 2048
KINDS = [name for name, package in (("vllm", "vllm"), ("llama.cpp", "llama_cpp")) if find_spec(package)]
if not KINDS:
    pytest.skip("run make engines, then make test-engines", allow_module_level=True)


SHOWN_TOOLS = "{% for t in tools or [] %}{{ t.function.name }} {% endfor %}{% if tools %}<tool_call>\n{% endif %}"
SIZED = {
    "type": "object",
    "properties": {"size": {"type": "integer", "minimum": 0, "maximum": 99}, "unit": {"enum": ["m", "s"]}},
    "required": ["size", "unit"],
    "additionalProperties": False,
}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": SIZED}} for name in ("first", "second")]


@dataclass
class Dial:
    """A server with the dial, and what there is behind it."""

    running: Running
    kind: str
    is_inside: bool
    work_done: Callable[[], float]
    """A number that grows while the engine decodes: tokens, or seconds of processor."""

    @property
    def url(self) -> str:
        return self.running.url


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    specials = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
    # vLLM's attention wants heads of 32 or more.
    made = write_random_checkpoint(
        tmp_path_factory.mktemp("think"), context=CONTEXT, head_width=32, specials=specials, seed=1
    )
    raw = json.loads((made / "tokenizer.json").read_text(encoding="utf-8"))
    for token in raw["added_tokens"][-2:]:
        token["special"] = False  # shown in text, as Qwen3's are
    (made / "tokenizer.json").write_text(json.dumps(raw), encoding="utf-8")
    (made / "chat_template.jinja").write_text(SHOWN_TOOLS + CHAT_TEMPLATE, encoding="utf-8")
    if "llama.cpp" in KINDS:
        from s1kit.engines.gguf.exporting import export_gguf

        export_gguf(made, made / "think.gguf")
    return made


@pytest.fixture(scope="module", params=[f"{kind} {where}" for kind in KINDS for where in ("in front", "inside")])
def dial(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dial]:
    kind, _, where = request.param.partition(" ")
    make = inside if where == "inside" else {"vllm": before_vllm, "llama.cpp": before_llama_cpp}[kind]
    with make(kind, folder, tmp_path_factory.mktemp("server") / "log") as found:
        yield found


@contextmanager
def inside(kind: str, folder: Path, log: Path) -> Iterator[Dial]:
    if kind == "vllm":
        engine: Any = load_engine(f"vllm:{folder}", enforce_eager=True, dtype="float32")
    else:
        engine = load_engine(f"llama.cpp:{folder / 'think.gguf'}")

    async def backend(_: AsyncExitStack) -> Local:
        return Local(engine, "tiny")

    with serving(backend) as running:
        yield Dial(running, kind, True, time.process_time)


@contextmanager
def before_vllm(kind: str, folder: Path, log: Path) -> Iterator[Dial]:
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--dtype", "float32"]
    command += ["--enforce-eager", "--host", "127.0.0.1", "--port", url.rpartition(":")[2]]
    with server(command, f"{url}/health", log), in_front(url, kind, folder, lambda: generated(url)) as found:
        yield found


@contextmanager
def before_llama_cpp(kind: str, folder: Path, log: Path) -> Iterator[Dial]:
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(folder / "think.gguf"), "--n_ctx", str(CONTEXT)]
    # By its default a new request ends the one that runs.
    command += ["--interrupt_requests", "false", "--model_alias", "think", "--seed", "1"]
    command += ["--host", "127.0.0.1", "--port", url.rpartition(":")[2]]
    with ExitStack() as stack:
        pid = stack.enter_context(server(command, f"{url}/v1/models", log))
        yield stack.enter_context(in_front(url, kind, folder, lambda: cpu_seconds(pid)))


@contextmanager
def in_front(url: str, kind: str, folder: Path, work_done: Callable[[], float]) -> Iterator[Dial]:
    async def backend(_: AsyncExitStack) -> Any:
        return await connect(Options(upstream=url, tokenizer=str(folder), context=CONTEXT))

    with serving(backend) as running:
        assert running.state.backend.capabilities.dialect.name == kind  # type: ignore[attr-defined]
        yield Dial(running, kind, False, work_done)


def generated(url: str) -> float:
    """Tokens that a vLLM server has generated."""
    text = httpx.get(f"{url}/metrics", timeout=10, trust_env=False).text
    lines = [line for line in text.splitlines() if line.startswith("vllm:generation_tokens_total")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def cpu_seconds(pid: int) -> float:
    parts = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def random_fields(i: int) -> dict[str, Any]:
    random = Random(i)
    most = random.choice([0, 1, 2, 3, random.randint(4, 60)])
    fields: dict[str, Any] = {"thinking_token_budget": most, "answer_tokens": random.randint(16, 24), "seed": i}
    if most > 14 and random.random() < 0.5:
        fields["min_thinking_tokens"] = random.randint(1, most - 14)
    if most and random.random() < 0.7:
        fields |= {"num_waits": random.randint(1, 5), "wait": random.choice(["Wait", ["Hm, no", "Wait"]])}
    return fields


def test_the_bounds_hold_to_the_token_for_requests_that_run_together(dial: Dial) -> None:
    asked = [random_fields(i) for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda f: ask(dial.url, f"Q{f['seed']}?", temperature=1.0, **f), asked))
    endings = set()
    for fields, reply in zip(asked, replies, strict=True):
        assert reply.status_code == 200, reply.text
        found = reply.json()
        thought = found["usage"]["completion_tokens_details"]["reasoning_tokens"]
        account = found["s1kit"]
        endings.add(account["ending"])
        assert fields.get("min_thinking_tokens", 0) <= thought <= fields["thinking_token_budget"]
        assert account["ending"] != "cut_off" or thought == fields["thinking_token_budget"]
        if "min_thinking_tokens" not in fields:
            assert account["num_waits"] <= fields.get("num_waits", 0)
        answered = found["usage"]["completion_tokens"] - thought
        assert 0 < answered <= fields["answer_tokens"] + 8
        is_text = dial.kind == "llama.cpp" and not dial.is_inside
        assert account["seam"] == ("text" if is_text else "ids")
    assert endings >= {"closed", "cut_off"}


@pytest.mark.parametrize("i", range(6))
def test_a_stream_joined_is_the_whole_reply(dial: Dial, i: int) -> None:
    fields = random_fields(i + 100)
    whole = ask(dial.url, "Which?", **fields).json()
    events = read_events(ask(dial.url, "Which?", stream=True, stream_options={"include_usage": True}, **fields).text)
    (choice,) = joined(events).values()
    message = whole["choices"][0]["message"]
    assert choice["thinking"] == (message["reasoning"] or "")
    assert choice["answer"] == message["content"]
    assert choice["finish"] == whole["choices"][0]["finish_reason"]
    assert choice["s1kit"] == whole["choices"][0]["s1kit"]
    assert events[-1]["usage"] == whole["usage"]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "second"}}])
def test_a_call_that_must_be_made_is_made_by_its_schema(dial: Dial, choice: Any) -> None:
    fields = {"tools": TOOLS, "tool_choice": choice, "temperature": 1.0, "seed": 3, "parallel_tool_calls": False}
    reply = ask(dial.url, "Which?", thinking_token_budget=9, max_tokens=200, **fields)
    if dial.kind != "vllm" or dial.is_inside:
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "tool_choice"), reply.text
        return
    assert reply.status_code == 200, reply.text
    (found,) = reply.json()["choices"]
    (call,) = found["message"]["tool_calls"]
    assert call["function"]["name"] in (("second",) if choice != "required" else ("first", "second"))
    arguments = json.loads(call["function"]["arguments"])
    assert set(arguments) == {"size", "unit"}
    assert arguments["unit"] in ("m", "s")
    assert (found["finish_reason"], found["message"]["content"] or "") == ("tool_calls", "")
    assert reply.json()["usage"]["completion_tokens_details"]["reasoning_tokens"] <= 9


def test_greedy_replies_are_those_of_the_engine_here(dial: Dial, folder: Path) -> None:
    if dial.kind == "llama.cpp" and not dial.is_inside:
        pytest.skip("bytes that are no text cannot cross a text seam unchanged, and a random model writes them")
    engine: Any = load_engine(f"hf:{folder}")

    async def backend(_: AsyncExitStack) -> Local:
        return Local(engine, "reference")

    different = []
    with serving(backend) as reference:
        for i in range(200, 220):
            ours, theirs = (
                ask(url, f"Q{i}?", temperature=0, **random_fields(i)).json() for url in (dial.url, reference.url)
            )
            found, expected = (r["choices"][0]["message"] | r["usage"] | r["s1kit"] for r in (ours, theirs))
            # Where the model would have closed by itself, a plugin that steers cannot always tell that it did.
            compared = expected.keys() - {"forced_tokens"}
            if wrong := {k: (found[k], expected[k]) for k in compared if found[k] != expected[k]}:
                different.append((random_fields(i), wrong))
    assert not different, different


def test_stop_strings_end_answers_and_never_thinking(dial: Dial) -> None:
    fields = {"thinking_token_budget": 60, "num_waits": 3, "temperature": 0}
    for i in range(40):
        free = ask(dial.url, f"Q{i}?", **fields).json()["choices"][0]["message"]
        # The phrase that is forced before an answer is none of the model's, and nothing stops in it.
        forced = "Final Answer:" if free["content"].startswith("Final Answer:") else ""
        written = free["content"].removeprefix(forced)
        shared = [c for c in written if c in (free["reasoning"] or "") and c.isalnum() and c.isascii()]
        if shared:
            break
    cut = ask(dial.url, f"Q{i}?", stop=[shared[0]], **fields).json()["choices"][0]["message"]
    assert cut["content"] == forced + written.partition(shared[0])[0]
    # An answer that goes on may open thinking again.
    assert free["reasoning"].startswith(cut["reasoning"])
    assert shared[0] in cut["reasoning"] or len(cut["reasoning"]) < len(free["reasoning"])


def test_log_probabilities_come_from_an_upstream_and_are_refused_inside(dial: Dial) -> None:
    reply = ask(dial.url, "Which?", thinking_token_budget=8, logprobs=True, top_logprobs=2)
    if dial.is_inside:
        assert reply.status_code == 400
        assert reply.json()["error"]["param"] == "logprobs"
        return
    if reply.status_code == 400:
        assert dial.kind == "llama.cpp", reply.text  # its Python server keeps no logits unless told to
        assert reply.json()["error"]["code"] == "upstream_refused"
        return
    found = reply.json()["choices"][0]["logprobs"]["content"]
    assert found
    # Rivals are named by their text, and pieces of characters may share one.
    assert [e for e in found if e["logprob"] > 0 or not 1 <= len(e["top_logprobs"]) <= 3] == []


def test_a_client_that_leaves_ends_the_work_within_a_second(dial: Dial) -> None:
    # Hot, so that the model hardly ever stops by itself: a completion is cut off while it runs.
    fields = {"temperature": 2.0, "min_thinking_tokens": 1500, "stream": True, "n": 4}
    body = {"messages": [{"role": "user", "content": "Which?"}]} | fields
    with CLIENT.stream("POST", dial.url + "/v1/chat/completions", json=body) as response:
        assert response.status_code == 200
        for number, _ in enumerate(response.iter_lines()):
            if number > 20:
                break
    dial.running.wait_until(lambda: not dial.running.state.streams, seconds=1)
    time.sleep(1.0)
    before = dial.work_done()
    time.sleep(1.0)
    assert dial.work_done() - before < 0.3
    assert ask(dial.url, "Which?", thinking_token_budget=8).status_code == 200


def test_completions_take_ids_and_several_prompts(dial: Dial) -> None:
    engine_tokens = dial.running.state.backend.tokens.tokenizer
    texts = ["One two", "Three"]
    by_text = post(dial.url, {"prompt": texts, "max_tokens": 8, "temperature": 0}, "/v1/completions").json()
    ids = [engine_tokens.encode(text, add_special_tokens=False) for text in texts]
    by_ids = post(dial.url, {"prompt": ids, "max_tokens": 8, "temperature": 0}, "/v1/completions").json()
    assert [c["text"] for c in by_text["choices"]] == [c["text"] for c in by_ids["choices"]]
    assert by_text["usage"]["completion_tokens"] <= 16
