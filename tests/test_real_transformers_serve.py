"""`transformers serve` behind `completions:`: text comes back, but what stops it can be named by id."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_parity import (
    NUM_REQUESTS,
    assert_bounds_hold_when_sampling,
    assert_same_transcripts,
    assert_streams_add_up,
    free_port,
    random_requests,
    server,
    tokens_of,
)
from fixtures_models import write_plain_checkpoint

from s1kit import Request, ThinkingBudget, load_engine
from s1kit.forcing.plan import Plan, make_plan
from s1kit.serve.connect_upstream import connect
from s1kit.serve.decoding import End, Job
from s1kit.serve.options import Options
from s1kit.serve.upstream import Upstream

pytestmark = pytest.mark.engines
pytest.importorskip("fastapi", reason="run make engines, then make test-engines")
pytest.importorskip("openai", reason="run make engines, then make test-engines")
if NUM_REQUESTS > 1000:
    pytest.skip("it decodes one request at a time", allow_module_level=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plain_checkpoint(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def remote(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    port = free_port()
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--device", "cpu"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with server(command, f"http://127.0.0.1:{port}/health", tmp_path_factory.mktemp("log") / "log"):
        engine: Any = load_engine(f"completions:http://127.0.0.1:{port}/v1#{folder},context_tokens=512")
        yield engine
        engine.close()


def test_it_exchanges_text_says_so_and_gives_the_transcripts_of_transformers(remote: Any, folder: Path) -> None:
    assert remote.mode == "text"
    assert remote.capabilities.dialect.name == "transformers"
    assert_same_transcripts(remote, load_engine(f"hf:{folder}"), tie=0.001)
    assert_bounds_hold_when_sampling(remote)


def test_it_streams_and_what_is_streamed_is_the_record(remote: Any) -> None:
    assert_streams_add_up(remote)


def test_stop_strings_act_on_the_answer_only(remote: Any, folder: Path) -> None:
    asked = random_requests(24, stop=("D", "g", "xy"))
    expected = {g.repeat: g for g in load_engine(f"hf:{folder}").generate(asked)}
    found = list(remote.generate(asked))
    assert any(g.answer_finish == "stop_string" for g in found)
    assert [(g.answer, g.answer_finish) for g in found] == [
        (expected[g.repeat].answer, expected[g.repeat].answer_finish) for g in found
    ]


def test_a_seed_draws_the_same_twice_and_sampling_is_on(remote: Any) -> None:
    def ask(seed: int) -> Any:
        request = Request(
            question="Which?", budget=ThinkingBudget(12, 0, 1), temperature=1.0, seed=seed, answer_tokens=9
        )
        (generation,) = remote.generate([request])
        return tokens_of(generation)

    drawn = [ask(s) for s in range(5)]
    assert ask(3) == drawn[3]
    assert len({tuple(d) for d in drawn}) > 1


def test_a_format_whose_delimiters_are_special_tokens_works_too(remote: Any, folder: Path) -> None:
    """Its end cannot be seen in the text; that something stopped it is enough while thinking."""
    reference = f"completions:{remote.farm.members[0].url}/v1#{folder},context_tokens=512"
    engine: Any = load_engine(reference, format="s1")
    local: Any = load_engine(f"hf:{folder}", format="s1")
    asked = random_requests(12)
    found = {g.repeat: tokens_of(g) for g in engine.generate(asked)}
    # Where nothing is thought two newlines meet, and read again they are one token.
    expected = {g.repeat: tokens_of(g) for g in local.generate(asked) if g.thinking_tokens}
    assert len(expected) > 5
    assert {n: t for n, t in found.items() if n in expected} == expected
    engine.close()


def test_the_server_in_front_of_it_tells_the_same_transcripts_as_the_engine_and_transformers(
    remote: Any, folder: Path
) -> None:
    """Twelve greedy requests with one wait: the two users of the completions client agree, and no delimiter leaks."""
    asked = [
        Request(
            question=f"Question {i}?", budget=ThinkingBudget(24, 0, 1), answer_tokens=12, repeat=i, loop_guard=False
        )
        for i in range(12)
    ]
    expected = {g.repeat: g for g in load_engine(f"hf:{folder}").generate(asked)}
    by_engine = {g.repeat: g for g in remote.generate(asked)}

    async def ask_all() -> list[tuple[str, str]]:
        options = Options(
            upstream=remote.farm.members[0].url, upstream_model=str(folder), tokenizer=str(folder), context=512
        )
        upstream = await connect(options)
        assert upstream.capabilities.dialect.name == "transformers"
        found = []
        for request in asked:
            text = {"thinking": "", "answer": ""}
            async for new in upstream.decode(Job(upstream_plan(upstream, request), sampling={"temperature": 0.0})):
                for delta in [] if isinstance(new, End) else new:
                    if delta.kind not in ("open", "close"):
                        text["thinking" if delta.kind in ("thinking", "wait") else "answer"] += delta.text
            found.append((text["thinking"], text["answer"]))
        await upstream.close()
        return found

    by_server = asyncio.run(ask_all())
    assert sum(g.num_waits for g in expected.values()) > 3
    assert not any("</think>" in thinking for thinking, _ in by_server)
    assert [(g.thinking, g.answer) for _, g in sorted(by_engine.items())] == by_server
    assert [(g.thinking, g.answer) for _, g in sorted(expected.items())] == by_server


def upstream_plan(upstream: Upstream, request: Request) -> Plan:
    return make_plan(request, upstream.tokens, upstream.context_tokens)
