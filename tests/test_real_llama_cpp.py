"""llama.cpp itself: a GGUF of our own writing, offline, and its server behind `completions:`."""

from __future__ import annotations

import ctypes
import gzip
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from engine_parity import (
    assert_bounds_hold_when_sampling,
    assert_draws_are_the_requests_own,
    assert_same_transcripts,
    assert_streams_add_up,
    assert_thinking_ends_when_told,
    free_port,
    random_requests,
    server,
    tokens_of,
)
from fixtures_models import CHAT_TEMPLATE, write_plain_checkpoint, write_random_checkpoint, write_random_model
from test_gguf import KINDS, TEXT, byte_level

from s1kit import Request, ThinkingBudget, load_engine
from s1kit.cli import main
from s1kit.engines.gguf.splits import SPLITS
from s1kit.errors import InputError
from s1kit.forcing.tokenizer import FileTokenizer

pytestmark = pytest.mark.engines
llama_cpp = pytest.importorskip("llama_cpp", reason="run make engines, then make test-engines")
np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("tiny"), head_width=32)


@pytest.fixture(scope="module")
def gguf_file(folder: Path) -> Path:
    assert main(["export", str(folder), "--to", str(folder / "tiny.gguf")]) == 0
    return folder / "tiny.gguf"


@pytest.fixture(scope="module")
def engine(gguf_file: Path) -> Iterator[Any]:
    engine: Any = load_engine(f"llama.cpp:{gguf_file}", context_tokens=512)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def reference(folder: Path) -> Any:
    return load_engine(f"hf:{folder}")


def logits_of(engine: Any, ids: list[int]) -> Any:
    """llama.cpp's own logits after each of the ids."""
    batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
    for at, token in enumerate(ids):
        batch.token[at], batch.pos[at], batch.n_seq_id[at] = token, at, 1
        batch.seq_id[at][0], batch.logits[at] = 0, True
    batch.n_tokens = len(ids)
    assert llama_cpp.llama_decode(engine.context, batch) == 0
    size = engine.vocabulary_size
    rows = [llama_cpp.llama_get_logits_ith(engine.context, at) for at in range(len(ids))]
    found = np.stack([np.ctypeslib.as_array(row, shape=(size,)).copy() for row in rows])
    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_memory_seq_rm(llama_cpp.llama_get_memory(engine.context), 0, 0, -1)
    return found


def assert_same_logits(engine: Any, reference: Any, ids: list[int], tolerance: float) -> None:
    with torch.inference_mode():
        expected = reference.model(torch.tensor([ids])).logits[0, :, : engine.vocabulary_size].float().numpy()
    found = logits_of(engine, ids)
    assert expected.std() > 0.5
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.99
    assert np.abs(found - expected).max() < tolerance * expected.std()


def test_thinking_ends_at_the_token_where_it_is_told_to(engine: Any) -> None:
    assert_thinking_ends_when_told(engine)


def test_the_weights_in_the_file_give_the_logits_of_transformers(engine: Any, reference: Any) -> None:
    random = Random(0)
    assert_same_logits(engine, reference, [random.randrange(290) for _ in range(300)], 1e-2)


def test_transcripts_are_those_of_transformers(engine: Any, reference: Any) -> None:
    assert_same_transcripts(engine, reference, tie=0.02)
    assert_bounds_hold_when_sampling(engine)


def test_what_is_streamed_is_the_record(engine: Any) -> None:
    assert_streams_add_up(engine)
    assert_streams_add_up(engine, temperature=1.0, stop=("e", "ab"))


def test_draws_are_the_requests_own(engine: Any) -> None:
    assert_draws_are_the_requests_own(engine)


def test_draws_follow_the_models_probabilities_after_temperature_top_k_and_top_p() -> None:
    from s1kit.engines.llama_cpp.batch import choose

    logits = np.array([2.0, 1.5, 1.0, 0.0, -1.0], dtype=np.float32)

    def frequencies(**fields: Any) -> Any:
        request, random = Request(question="q", **fields), Random(7)
        return np.bincount([choose(logits, request, random) for _ in range(20_000)], minlength=5) / 20_000

    def softmax(x: Any) -> Any:
        return np.exp(x) / np.exp(x).sum()

    assert np.abs(frequencies(temperature=1.0) - softmax(logits)).max() < 0.015
    assert np.abs(frequencies(temperature=0.5) - softmax(logits * 2)).max() < 0.015
    kept = np.append(softmax(logits[:2]), [0, 0, 0])
    assert np.abs(frequencies(temperature=1.0, top_k=2) - kept).max() < 0.015
    assert np.abs(frequencies(temperature=1.0, top_p=0.6) - kept).max() < 0.015


def test_a_loop_ends_thinking_where_it_does_in_transformers(engine: Any, reference: Any) -> None:
    asked = [
        Request(question=f"Loop {i}?", budget=ThinkingBudget(400, 200), answer_tokens=16, wait="x", repeat=i)
        for i in range(12)
    ]
    found, expected = (sorted(e.generate(asked), key=lambda g: g.repeat) for e in (engine, reference))
    assert any(g.ending == "loop" for g in found)
    assert [(g.ending, g.thinking_tokens) for g in found] == [(g.ending, g.thinking_tokens) for g in expected]


def test_stop_strings_act_on_the_answer_only(engine: Any, reference: Any) -> None:
    asked = random_requests(24, stop=("e", "1"))
    found = {g.repeat: g for g in engine.generate(asked)}
    expected = {g.repeat: g for g in reference.generate(asked)}
    assert any(g.answer_finish == "stop_string" for g in found.values())
    assert any("e" in g.thinking or "1" in g.thinking for g in found.values())
    for number, generation in found.items():
        assert tokens_of(generation) == tokens_of(expected[number])
        assert (generation.answer, generation.answer_finish) == (
            expected[number].answer,
            expected[number].answer_finish,
        )


def test_a_decode_that_fails_costs_the_requests_that_run_and_no_other(gguf_file: Path) -> None:
    engine: Any = load_engine(f"llama.cpp:{gguf_file}", context_tokens=512, num_parallel=4)
    state = {"calls": 0}

    @llama_cpp.ggml_abort_callback
    def abort(_: ctypes.c_void_p) -> bool:
        return state["calls"] == 1

    llama_cpp.llama_set_abort_callback(engine.context, abort, None)
    asked, found = random_requests(16, seed=0), []
    for generation in engine.generate(asked):
        found.append(generation)
        if len(found) == 3:
            state["calls"] = 1  # what runs now is lost
        elif generation.ending == "failed":
            state["calls"] = 2  # and llama.cpp has recovered
    failed = [g for g in found if g.ending == "failed"]
    assert len(found) == 16
    assert 1 <= len(failed) <= 4
    assert all("llama_decode answered" in g.note for g in failed)
    assert all(g.ending != "failed" for g in found[:3])
    assert found[-1].ending != "failed"
    engine.close()


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_real_shapes_and_the_real_tokenizer_give_the_logits_of_transformers(
    kind: str, shared_data: Path, tmp_path: Path
) -> None:
    """Qwen2.5-0.5B's width and vocabulary, two of its layers, random weights."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path / "real"
    folder.mkdir()
    raw = gzip.decompress((shared_data / "tokenizer" / "tokenizer.json.gz").read_bytes())
    (folder / "tokenizer.json").write_bytes(raw)
    settings = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": CHAT_TEMPLATE}
    settings["tokenizer_class"] = "Qwen2Tokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=2,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
        tie_word_embeddings=True,
        initializer_range=0.05,
        eos_token_id=151645,
    )
    Qwen2ForCausalLM(config).to(getattr(torch, kind)).save_pretrained(folder)
    assert main(["export", str(folder), "--to", str(tmp_path / "real.gguf")]) == 0
    engine: Any = load_engine(f"llama.cpp:{tmp_path / 'real.gguf'}", context_tokens=1024, num_parallel=4)
    reference: Any = load_engine(f"hf:{folder}", dtype="float32")
    assert engine.format.name == reference.format.name == "s1"
    question = "What is the sum of the first 100 primes? Caf\u00e9 \u4f60\u597d"
    assert engine.plan(Request(question=question)).prompt_ids == reference.plan(Request(question=question)).prompt_ids
    ids = engine.tokenizer.encode(question * 6)
    assert_same_logits(engine, reference, ids, 1e-3 if kind == "float32" else 2e-2)
    if kind == "float32":
        asked = [
            Request(question=f"What is {i} + {i}?", budget=ThinkingBudget(24 + i, 8, 2), answer_tokens=16, repeat=i)
            for i in range(6)
        ]
        found, expected = ({g.repeat: tokens_of(g) for g in e.generate(asked)} for e in (engine, reference))
        assert found == expected
    engine.close()


def test_a_file_that_is_not_there_or_not_ours_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*s1kit export"):
        load_engine(f"llama.cpp:{tmp_path}/none.gguf")
    (tmp_path / "junk.gguf").write_bytes(b"not a model")
    with pytest.raises(InputError, match="no GGUF model"):
        load_engine(f"llama.cpp:{tmp_path}/junk.gguf")


def test_an_architecture_that_llama_cpp_does_not_know_is_named(tmp_path: Path) -> None:
    import gguf

    writer = gguf.GGUFWriter(str(tmp_path / "odd.gguf"), "mamba9")
    writer.add_block_count(1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(InputError, match="architecture 'mamba9'"):
        load_engine(f"llama.cpp:{tmp_path}/odd.gguf")


@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture_that_is_written_gives_the_logits_of_transformers(
    kind: str, tmp_path: Path, monkeypatch: Any
) -> None:
    """A file as other programs write it: llama.cpp's own reading of the vocabulary is used, too."""
    monkeypatch.setattr("s1kit.engines.gguf.exporting.FILES", ())
    shape = {"hidden_size": 128, "head_dim": 32} | ({"query_pre_attn_scalar": 32} if "gemma" in kind else {})
    folder = write_random_model(tmp_path / "model", **(KINDS[kind] | shape))
    assert main(["export", str(folder), "--to", str(tmp_path / "bare.gguf")]) == 0
    ours: Any = load_engine(f"llama.cpp:{tmp_path}/bare.gguf", format="direct")
    plain: Any = load_engine(f"hf:{folder}", format="direct")
    text = "a12 34  b\n\nHé 😀 <|im_start|>user<|im_end|> don't"
    assert ours.tokenizer.encode(text) == FileTokenizer(folder).encode(text)
    assert ours.tokenizer.decode(ours.tokenizer.encode(text)) == text
    assert ours.tokens.eos_ids >= plain.tokens.eos_ids
    random = Random(0)
    assert_same_logits(ours, plain, [random.randrange(250) for _ in range(300)], 2e-2)
    ours.close()


@pytest.mark.parametrize("name", sorted(SPLITS))
def test_text_is_split_as_llama_cpp_splits_it(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("s1kit.engines.gguf.exporting.FILES", ())
    tokenizer = byte_level(name, tmp_path / "t")
    folder = write_random_model(tmp_path / "model", "llama", vocab_size=len(tokenizer.get_vocab()), num_hidden_layers=1)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).write_text((tmp_path / "t" / file).read_text(encoding="utf-8"), encoding="utf-8")
    assert main(["export", str(folder), "--to", str(tmp_path / "m.gguf")]) == 0
    engine: Any = load_engine(f"llama.cpp:{tmp_path}/m.gguf", format="direct")
    for text in (
        TEXT,
        "123 1234567 1.5e-3",
        "it's IT'S we'll",
        "a\n\n\n  b\t\tc   ",
        "¡Olé! 北京大学 x²",
        "((a+b)*c)/d_e",
    ):
        assert engine.tokenizer.encode(text) == tokenizer.encode(text), text
    engine.close()


def test_a_checkpoint_without_a_tokenizer_or_of_an_unknown_kind_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((folder / "config.json").read_text(encoding="utf-8"), encoding="utf-8")
    assert main(["export", str(tmp_path), "--to", str(tmp_path / "none.gguf")]) == 2
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}', encoding="utf-8")
    assert main(["export", str(tmp_path), "--to", str(tmp_path / "none.gguf")]) == 2
    assert not (tmp_path / "none.gguf").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--max-thinking", "3", "--min-thinking", "5"], "--min-thinking is 5, above --max-thinking, which is 3"),
        (["--max-thinking", "-3"], "--max-thinking is -3"),
        (["--wait", ""], "the wait is empty"),
        (["--answer-tokens", "2"], "the closing phrase"),
        (["--answer-tokens", "9000"], "answer_tokens is 9000"),
    ],
)
def test_what_cannot_be_honoured_is_refused_at_the_command_line(
    gguf_file: Path, arguments: list[str], complaint: str, capsys: Any
) -> None:
    assert main(["ask", "Which?", "--model", f"llama.cpp:{gguf_file}", *arguments]) == 2
    assert complaint in capsys.readouterr().err


def test_a_prompt_longer_than_the_context_and_an_unknown_format_are_refused(gguf_file: Path, engine: Any) -> None:
    with pytest.raises(InputError, match=r"the prompt is .* tokens long and the context 512"):
        list(engine.generate([Request(question="word " * 600)]))
    with pytest.raises(InputError, match=r"unknown thinking format 'qwen9'.*qwen3"):
        load_engine(f"llama.cpp:{gguf_file}", format="qwen9")


def test_ask_streams_with_what_was_forced_in_brackets(gguf_file: Path, capsys: Any) -> None:
    words = ["ask", "Which?", "--model", f"llama.cpp:{gguf_file}", "--max-thinking", "12", "--waits", "2"]
    assert main([*words, "--answer-tokens", "16"]) == 0
    out, err = capsys.readouterr()
    assert "answer\n]" in out
    assert "thinking tokens" in err


# --------------------------------------------------------------------------------------------------- its server


@pytest.fixture(scope="module")
def shown_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_plain_checkpoint(tmp_path_factory.mktemp("plain"))
    assert main(["export", str(folder), "--to", str(folder / "think.gguf")]) == 0
    return folder


def command(folder: Path, port: int) -> list[str]:
    """Keys and values in full precision, as the engine keeps them for such a file."""
    start = [sys.executable, "-m", "llama_cpp.server", "--model", str(folder / "think.gguf"), "--n_ctx", "512"]
    start += ["--n_threads", "1", "--type_k", "0", "--type_v", "0"]
    return [*start, "--host", "127.0.0.1", "--port", str(port), "--model_alias", "think"]


@pytest.fixture(scope="module")
def url(shown_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    with server(
        command(shown_folder, port), f"http://127.0.0.1:{port}/v1/models", tmp_path_factory.mktemp("log") / "log"
    ):
        yield f"http://127.0.0.1:{port}/v1"


@pytest.fixture(scope="module")
def remote(url: str, shown_folder: Path) -> Iterator[Any]:
    engine = load_engine(f"completions:{url}#think,tokenizer={shown_folder},context_tokens=512,num_parallel=2")
    yield engine
    engine.close()  # type: ignore[attr-defined]


def test_its_server_exchanges_text_says_so_and_gives_the_transcripts_of_transformers(
    remote: Any, shown_folder: Path
) -> None:
    """So nothing but the settings asked for is applied: no repetition penalty, no top-k of the server's own."""
    assert remote.mode == "text"
    (generation,) = remote.generate(random_requests(1))
    assert generation.seam == "text"
    assert_same_transcripts(remote, load_engine(f"hf:{shown_folder}"), tie=0.02)
    assert_bounds_hold_when_sampling(remote)


def test_its_server_streams_token_by_token(remote: Any) -> None:
    assert_streams_add_up(remote)


def test_stop_strings_of_its_server_act_on_the_answer_only(remote: Any) -> None:
    found = list(remote.generate(random_requests(24, stop=("e", "1"))))
    assert any("e" in g.thinking or "1" in g.thinking for g in found)
    assert not any(word in s.text for g in found for s in g.segments if s.kind == "answer" for word in ("e", "1"))


def test_a_format_whose_delimiters_its_server_hides_is_refused(url: str, shown_folder: Path) -> None:
    with pytest.raises(InputError, match=r"does not show the end of thinking of format 's1'.*vLLM"):
        load_engine(f"completions:{url}#think,tokenizer={shown_folder},context_tokens=512", format="s1")


def test_another_models_tokenizer_is_found_out(url: str, folder: Path) -> None:
    with pytest.raises(InputError, match="tokens that the tokenizer given for it reads as"):
        load_engine(f"completions:{url}#think,tokenizer={folder}", format="qwen3", context_tokens=512)


def test_ask_over_its_server_needs_the_context_and_then_streams(url: str, shown_folder: Path, capsys: Any) -> None:
    reference = f"completions:{url}#think,tokenizer={shown_folder}"
    words = ["ask", "Which?", "--max-thinking", "12", "--waits", "2", "--answer-tokens", "16", "--model"]
    assert main([*words, reference]) == 2
    assert "context_tokens=4096" in capsys.readouterr().err
    assert main([*words, f"{reference},context_tokens=512"]) == 0
    assert "</think>" in capsys.readouterr().out


def test_a_server_that_dies_keeps_what_was_finished(shown_folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("s1kit.engines.completions.engine._RETRY_SECONDS", 0.01)
    port = free_port()
    with server(command(shown_folder, port), f"http://127.0.0.1:{port}/v1/models", tmp_path / "log") as pid:
        reference = f"completions:http://127.0.0.1:{port}/v1#think,tokenizer={shown_folder},context_tokens=512"
        engine: Any = load_engine(reference, num_parallel=2)
        found = []
        for generation in engine.generate(random_requests(20)):
            found.append(generation)
            if len(found) == 5:
                os.kill(pid, signal.SIGKILL)
        engine.close()
    assert len(found) == 20
    assert all(g.ending != "failed" for g in found[:5])
    lost = [g for g in found if g.ending == "failed"]
    assert lost
    assert all(g.note for g in lost)
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{port}/v1/models")
