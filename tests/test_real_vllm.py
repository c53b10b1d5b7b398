"""vLLM itself: offline with the plugin inside, and its server behind `completions:` and with the plugin."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from engine_parity import assert_bounds_hold_when_sampling, assert_same_transcripts, server
from fixtures_models import write_random_checkpoint

from s1kit import load_engine

pytestmark = pytest.mark.engines
pytest.importorskip("vllm", reason="run make engines, then make test-engines")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # vLLM's attention wants heads of 32 or more.
    return write_random_checkpoint(tmp_path_factory.mktemp("tiny"), head_width=32)


@pytest.fixture(scope="module")
def url(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    plugin = "s1kit.engines.vllm_plugin:BudgetForcing"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--dtype", "float32"]
    command += ["--enforce-eager", "--port", str(port), "--host", "127.0.0.1", "--logits-processors", plugin]
    log = tmp_path_factory.mktemp("server") / "log"
    with server(command, f"http://127.0.0.1:{port}/health", log):
        yield f"http://127.0.0.1:{port}/v1"


def test_offline_transcripts_are_those_of_transformers(folder: Path) -> None:
    engine: Any = load_engine(f"vllm:{folder}", enforce_eager=True, dtype="float32", max_num_seqs=64)
    assert_same_transcripts(engine, load_engine(f"hf:{folder}"))
    assert_bounds_hold_when_sampling(engine)


def test_its_server_behind_flow_exchanges_ids_and_gives_the_same_transcripts(folder: Path, url: str) -> None:
    engine: Any = load_engine(f"completions:{url}#{folder}")
    assert engine.mode == "ids"
    assert_same_transcripts(engine, load_engine(f"hf:{folder}"))
    assert_bounds_hold_when_sampling(engine)
    engine.close()


def complete(url: str, folder: Path, asked: dict[str, Any]) -> httpx.Response:
    reference: Any = load_engine(f"hf:{folder}")
    prompt = reference.format.prompt_ids(reference.tokenizer, "Which?")
    body = {"model": str(folder), "prompt": prompt, "max_tokens": 120, "temperature": 0.0, "return_token_ids": True}
    return httpx.post(f"{url}/completions", json=body | {"vllm_xargs": asked}, timeout=120.0)


def test_a_request_to_the_server_with_the_plugin_is_forced_as_it_asked(folder: Path, url: str) -> None:
    from s1kit import Request, ThinkingBudget

    reference: Any = load_engine(f"hf:{folder}")
    asked = {"max_thinking_tokens": 20, "num_waits": 2, "wait": "Wait", "answer_tokens": 16, "loop_guard": False}
    reply = complete(url, folder, asked)
    assert reply.status_code == 200, reply.text
    request = Request(
        question="Which?", budget=ThinkingBudget(20, 0, 2), wait="Wait", answer_tokens=16, loop_guard=False
    )
    (expected,) = reference.generate([request])
    ids = [i for s in expected.segments for i in s.token_ids]
    assert reply.json()["choices"][0]["token_ids"][: len(ids)] == ids


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"max_thinking_tokens": 5, "min_thinking_tokens": 9}, "min_tokens is 9"),
        ({"max_thinking_tokens": 500, "answer_tokens": 16}, "do not fit into max_tokens"),
        ({"max_thinking": 5}, "unknown field"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_with_400(folder: Path, url: str, asked: dict, complaint: str) -> None:
    reply = complete(url, folder, asked)
    assert reply.status_code == 400
    assert complaint in reply.text
