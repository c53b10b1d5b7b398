"""llama.cpp itself: a GGUF of our own writing, offline, and its server behind `completions:`."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from engine_parity import assert_bounds_hold_when_sampling, assert_same_transcripts, server
from fixtures_models import write_random_checkpoint

from s1kit import load_engine

pytestmark = pytest.mark.engines
pytest.importorskip("llama_cpp", reason="run make engines, then make test-engines")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("tiny"), head_width=32)


@pytest.fixture(scope="module")
def gguf_file(folder: Path) -> Path:
    from s1kit.engines.gguf import export_gguf

    export_gguf(folder, folder / "tiny.gguf")
    return folder / "tiny.gguf"


def test_transcripts_are_those_of_transformers(folder: Path, gguf_file: Path) -> None:
    engine: Any = load_engine(f"llama.cpp:{gguf_file}", context_tokens=512)
    assert_same_transcripts(engine, load_engine(f"hf:{folder}"))
    assert_bounds_hold_when_sampling(engine)
    engine.close()


def test_its_server_exchanges_text_and_keeps_the_bounds(tmp_path: Path) -> None:
    specials = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
    folder = write_random_checkpoint(tmp_path / "think", head_width=32, specials=specials)
    raw = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    for token in raw["added_tokens"][-2:]:
        token["special"] = False  # shown in text, as Qwen3's are
    (folder / "tokenizer.json").write_text(json.dumps(raw), encoding="utf-8")
    from s1kit.engines.gguf import export_gguf

    export_gguf(folder, folder / "think.gguf")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(folder / "think.gguf"), "--n_ctx", "512"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--model_alias", "think"]
    with server(command, f"http://127.0.0.1:{port}/v1/models", tmp_path / "log"):
        reference = f"completions:http://127.0.0.1:{port}/v1#think,tokenizer={folder}"
        engine: Any = load_engine(reference, context_tokens=512, num_parallel=1)
        assert engine.mode == "text"
        assert_bounds_hold_when_sampling(engine)
        engine.close()
