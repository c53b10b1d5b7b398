"""GGUF files: written, read back as checkpoint folders, and refused where llama.cpp would run another model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from fixtures_models import write_random_model

from s1kit import Request, load_engine
from s1kit.cli import main
from s1kit.engines.gguf.exporting import export_gguf
from s1kit.engines.gguf.reading import read_gguf
from s1kit.engines.gguf.splits import SPLITS, name_of, pre_tokenizer
from s1kit.engines.gguf.unpacking import tokenizer_folder, unpacked, write_tokenizer
from s1kit.errors import InputError
from s1kit.forcing.tokenizer import FileTokenizer
from s1kit.train.estimate import shape_of

torch = pytest.importorskip("torch")
gguf = pytest.importorskip("gguf")

TEXT = "Tom's 12345 apples,  DON'T\tcount\n\nHé 😀 naïve café—漢字 x=3.14e-5;\r\n  end"
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "llama3": {"model_type": "llama", "rope_parameters": LLAMA3, "tie_word_embeddings": True},
    "llama-bias": {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
    "mistral": {"model_type": "mistral", "sliding_window": None},
    "qwen2": {"model_type": "qwen2"},
    "qwen2-yarn": {"model_type": "qwen2", "rope_parameters": YARN},
    "qwen3": {"model_type": "qwen3", "head_dim": 32},
    "gemma": {"model_type": "gemma", "head_dim": 32},
    "gemma2": {"model_type": "gemma2", "query_pre_attn_scalar": 16, "sliding_window": 64},
    "gemma3": {"model_type": "gemma3_text", "query_pre_attn_scalar": 16, "sliding_window": 64, "num_hidden_layers": 6},
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("S1KIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def without_our_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files as other programs write them."""
    monkeypatch.setattr("s1kit.engines.gguf.exporting.FILES", ())


def logits(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    ids = torch.arange(120)[None] % 250
    with torch.inference_mode():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()(ids).logits


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_survives_the_way_into_a_gguf_file_and_back(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_our_files(monkeypatch)
    folder = write_random_model(tmp_path / "model", **KINDS[kind])
    export_gguf(folder, tmp_path / "model.gguf")
    expected = logits(folder)
    assert expected.std() > 0.01
    found = logits(unpacked(str(tmp_path / "model.gguf")))
    assert (found - expected).abs().max() < 1e-4 * expected.std()


@pytest.mark.parametrize("kind", ["llama3", "qwen2", "qwen3"])
def test_greedy_ids_from_a_gguf_file_are_those_of_plain_transformers_on_the_folder(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    without_our_files(monkeypatch)
    folder = write_random_model(tmp_path / "model", **KINDS[kind])
    export_gguf(folder, tmp_path / "model.gguf")
    engine: Any = load_engine(f"hf:{tmp_path / 'model.gguf'}", format="direct")
    questions = ["1+1?", "Why is the sky blue?", "漢字"]
    asked = [Request(question=q, answer_tokens=40, repeat=i) for i, q in enumerate(questions)]
    found = {g.repeat: [t for s in g.segments for t in s.token_ids] for g in engine.generate(asked)}
    plain = AutoModelForCausalLM.from_pretrained(folder)
    for number, question in enumerate(questions):
        prompt = engine.plan(asked[number]).prompt_ids
        expected = plain.generate(torch.tensor([prompt]), max_new_tokens=40, do_sample=False)[0, len(prompt) :].tolist()
        stops = [t for t in expected if t in engine.tokens.eos_ids]
        assert found[number] == (expected[: expected.index(stops[0])] if stops else expected), question


def test_llama_3s_divisors_are_those_that_transformers_computes() -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    from s1kit.engines.gguf.architectures import rope_factors

    config = LlamaConfig(
        hidden_size=512, num_attention_heads=4, head_dim=128, rope_parameters=LLAMA3 | {"rope_theta": 5e5}
    )
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = 1 / 5e5 ** (torch.arange(0, 128, 2).float() / 128)
    factors = torch.tensor(rope_factors(dict(config.rope_parameters), 128))
    assert 1.0 in factors
    assert 8.0 in factors
    assert torch.allclose(plain / factors, scaled, rtol=1e-5)


def test_metadata_is_read_as_the_package_gguf_reads_it(tmp_path: Path) -> None:
    folder = write_random_model(tmp_path / "model", "llama", tie_word_embeddings=True)
    export_gguf(folder, tmp_path / "m.gguf")
    found, expected = read_gguf(tmp_path / "m.gguf"), gguf.GGUFReader(tmp_path / "m.gguf")
    theirs = {k: f.contents() for k, f in expected.fields.items() if not k.startswith("GGUF.")}
    assert found.metadata == theirs
    for tensor in expected.tensors:
        assert found.array(tensor.name).tolist() == tensor.data.tolist()


def test_the_settings_of_yarn_are_in_the_file_under_llama_cpps_keys(tmp_path: Path) -> None:
    export_gguf(write_random_model(tmp_path / "model", **KINDS["qwen2-yarn"]), tmp_path / "m.gguf")
    metadata = read_gguf(tmp_path / "m.gguf").metadata
    assert metadata["qwen2.rope.scaling.type"] == "yarn"
    assert metadata["qwen2.rope.scaling.factor"] == 4.0
    assert metadata["qwen2.rope.scaling.original_context_length"] == 128


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"model_type": "phi3"}, "'phi3' cannot be written"),
        (
            {"model_type": "qwen2", "rope_parameters": DYNAMIC},
            "dynamic",
        ),
        ({"model_type": "qwen2", "rope_parameters": YARN | {"attention_factor": 1.5}}, "yarn with attention_factor"),
        ({"model_type": "qwen3", "rope_parameters": LLAMA3}, "llama3"),
        ({"model_type": "mistral", "sliding_window": 64}, "window of 64"),
        ({"model_type": "llama", "hidden_act": "relu"}, "activation 'relu'"),
        ({"model_type": "gemma2", "query_pre_attn_scalar": 99}, "query_pre_attn_scalar 99"),
    ],
)
def test_what_llama_cpp_would_run_differently_is_not_written(
    settings: dict[str, Any], complaint: str, tmp_path: Path, capsys: Any
) -> None:
    if settings["model_type"] == "phi3":
        folder = write_random_model(tmp_path / "model", "qwen2")
        config = json.loads((folder / "config.json").read_text()) | {"model_type": "phi3"}
        (folder / "config.json").write_text(json.dumps(config))
    else:
        folder = write_random_model(tmp_path / "model", **settings)
    assert main(["export", str(folder), "--to", str(tmp_path / "m.gguf")]) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "m.gguf").exists()


def byte_level(name: str, folder: Path) -> FileTokenizer:
    """A tokenizer that splits text under a name of llama.cpp's, trained on a few sentences, and its folder."""
    from tokenizers import Tokenizer, decoders, models, trainers
    from tokenizers.pre_tokenizers import ByteLevel

    raw = json.loads(Tokenizer(models.BPE()).to_str())
    raw["pre_tokenizer"] = pre_tokenizer(name)
    tokenizer = Tokenizer.from_str(json.dumps(raw))
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        initial_alphabet=ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT, "123 1234 12345 don't DON'T we'll apple apples café\n\n  \n x"] * 9, trainer)
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"eos_token": "<|im_end|>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return FileTokenizer(folder)


@pytest.mark.parametrize("name", sorted(SPLITS))
def test_a_byte_level_tokenizer_is_the_same_after_the_way_through_a_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_our_files(monkeypatch)
    original = byte_level(name, tmp_path / "t")
    writer = gguf.GGUFWriter(str(tmp_path / "m.gguf"), "llama")
    write_vocabulary(writer, tmp_path / "t", len(original.get_vocab()) + 5)
    found = read_gguf(tmp_path / "m.gguf")
    assert SPLITS[found.metadata["tokenizer.ggml.pre"]] == SPLITS[name]
    (tmp_path / "back").mkdir()
    write_tokenizer(found, tmp_path / "back")
    back = FileTokenizer(tmp_path / "back")
    assert back.encode(TEXT) == original.encode(TEXT)
    assert back.encode("<|im_start|>a<|im_end|>") == original.encode("<|im_start|>a<|im_end|>")
    assert back.decode(back.encode(TEXT)) == TEXT
    assert back.eos_token_id == original.eos_token_id
    assert set(back.more_eos_ids) == {back.get_vocab()[end] for end in ("<|im_end|>", "<|endoftext|>")}
    assert len(back.get_vocab()) == len(original.get_vocab())


def write_vocabulary(writer: Any, folder: Path, size: int) -> None:
    from s1kit.engines.gguf.vocabulary import add_special_tokens, add_vocabulary

    add_vocabulary(writer, size, folder)
    add_special_tokens(writer, FileTokenizer(folder))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def sentence_piece(folder: Path) -> FileTokenizer:
    """A tokenizer as Llama 2 and Gemma have one: spaces marked, bytes for what is not in the vocabulary."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(["the cat sat on a mat and the other cat sat too 1 2 3 apples apple"] * 5, trainer)
    folder.mkdir(exist_ok=True)
    raw = json.loads(tokenizer.to_str())
    raw["added_tokens"] = [t for t in raw["added_tokens"] if not t["content"].startswith("<0x")]
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    settings = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return FileTokenizer(folder)


def test_a_sentence_piece_tokenizer_is_the_same_after_the_way_through_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_our_files(monkeypatch)
    original = sentence_piece(tmp_path / "t")
    writer = gguf.GGUFWriter(str(tmp_path / "m.gguf"), "llama")
    write_vocabulary(writer, tmp_path / "t", len(original.get_vocab()))
    (tmp_path / "back").mkdir()
    write_tokenizer(read_gguf(tmp_path / "m.gguf"), tmp_path / "back")
    back = FileTokenizer(tmp_path / "back")
    for text in ("the cat sat on the mat", "apples 12 😀\n other", "  two spaces", "mat</s>", "Zürich"):
        assert back.encode(text) == original.encode(text), text
        assert back.decode(back.encode(text)) == original.decode(original.encode(text))


def test_a_file_of_ours_gives_back_the_tokenizers_files_letter_by_letter(tmp_path: Path) -> None:
    folder = write_random_model(tmp_path / "model", "qwen2")
    export_gguf(folder, tmp_path / "m.gguf")
    back = unpacked(str(tmp_path / "m.gguf"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (back / name).read_text() == (folder / name).read_text()


def test_a_gguf_file_is_dequantised_once_and_again_when_it_has_changed(tmp_path: Path) -> None:
    export_gguf(write_random_model(tmp_path / "a", "qwen2"), tmp_path / "m.gguf")
    first = unpacked(str(tmp_path / "m.gguf"))
    (first / "mark").touch()
    assert (unpacked(str(tmp_path / "m.gguf")) / "mark").exists()
    export_gguf(write_random_model(tmp_path / "b", "llama"), tmp_path / "m.gguf")
    second = unpacked(str(tmp_path / "m.gguf"))
    assert json.loads((second / "config.json").read_text())["model_type"] == "llama"


def test_the_tokenizer_of_a_gguf_file_is_read_without_its_weights(tmp_path: Path) -> None:
    folder = write_random_model(tmp_path / "model", "qwen2")
    export_gguf(folder, tmp_path / "m.gguf")
    found = tokenizer_folder(str(tmp_path / "m.gguf"))
    assert FileTokenizer(found).encode("one two") == FileTokenizer(folder).encode("one two")
    assert not list(found.glob("*.safetensors"))
    assert tokenizer_folder(str(tmp_path / "m.gguf")) == found
    assert tokenizer_folder(str(folder)) == folder
    with pytest.raises(InputError, match="no tokenizer folder"):
        tokenizer_folder(str(tmp_path / "other.gguf"))


def test_quantised_weights_are_read_and_asked_in_one_command(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    """A Q8_0 file whose vocabulary, merges and template are its own."""
    without_our_files(monkeypatch)
    folder = write_random_model(tmp_path / "model", "llama", tie_word_embeddings=True)
    export_gguf(folder, tmp_path / "plain.gguf")
    plain = read_gguf(tmp_path / "plain.gguf")
    quantise(plain, tmp_path / "q8.gguf")
    assert main(["ask", "1+1?", "--model", f"hf:{tmp_path / 'q8.gguf'}", "--max-thinking", "9", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["thinking_tokens"] <= 9
    assert (logits(unpacked(str(tmp_path / "q8.gguf"))) - logits(folder)).abs().mean() < 0.2 * logits(folder).std()


def quantise(plain: Any, to: Path) -> None:
    """The same file with its matrices in Q8_0."""
    writer = gguf.GGUFWriter(str(to), plain.architecture)
    for key, value in plain.metadata.items():
        if key in ("general.architecture", "general.file_type"):
            continue
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        else:
            {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)](key, value)
    kind = gguf.GGMLQuantizationType.Q8_0
    for name, info in plain.tensors.items():
        array = plain.array(name)
        if len(info.shape) == 2:
            writer.add_tensor(name, gguf.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def broken(tmp_path: Path, how: str) -> Path:
    file = tmp_path / "m.gguf"
    if how == "text":
        file.write_text("not a model, but long enough to look at")
        return file
    if how == "architecture":
        writer = gguf.GGUFWriter(str(file), "mamba9")
        writer.add_block_count(1)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        return file
    export_gguf(write_random_model(tmp_path / "model", "qwen2"), file)
    raw = file.read_bytes()
    if how == "cut":
        file.write_bytes(raw[: len(raw) // 2])
    elif how == "head":
        file.write_bytes(raw[:200])
    elif how == "split":
        file.write_bytes(raw.replace(b"tokenizer.ggml.pre", b"tokenizer.ggml.pra"))
    return file


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ("text", "no GGUF model"),
        ("architecture", "architecture 'mamba9'"),
        ("cut", "cut off"),
        ("head", "damaged or cut off"),
        ("split", "does not say how text is split"),
    ],
)
@pytest.mark.parametrize("command", ["ask", "train"])
def test_a_file_that_cannot_be_used_is_one_paragraph(
    how: str, complaint: str, command: str, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    without_our_files(monkeypatch)
    file = broken(tmp_path, how)
    # A folder of its own: where `make demo` has run, there is nothing left to train, and so nothing to check.
    train = ["check", "tiny", f"train.base={file}", f"out={tmp_path}"]
    arguments = {"ask": ["ask", "1+1?", "--model", f"hf:{file}"], "train": train}
    assert main(arguments[command]) == 2
    captured = capsys.readouterr()
    said = captured.out + captured.err
    assert complaint in said
    assert "Traceback" not in said
    assert not list(cache.glob("gguf/*")) if cache.exists() else True


def test_the_shape_of_a_gguf_file_is_that_of_the_folder_it_came_from(tmp_path: Path) -> None:
    folder = write_random_model(tmp_path / "model", **KINDS["qwen2-yarn"])
    export_gguf(folder, tmp_path / "m.gguf")
    assert shape_of(f"hf:{tmp_path / 'm.gguf'}") == shape_of(f"hf:{folder}")


def test_training_starts_from_a_gguf_file(tmp_path: Path) -> None:
    from s1kit.train.reference import base_folder

    export_gguf(write_random_model(tmp_path / "model", "llama"), tmp_path / "m.gguf")
    for reference in (f"hf:{tmp_path / 'm.gguf'}", str(tmp_path / "m.gguf")):
        kind, folder = base_folder(reference)
        assert kind == "hf"
        assert (Path(folder) / "model.safetensors").is_file()


def test_an_unnamed_split_is_not_taken_for_another() -> None:
    assert name_of({"type": "Split", "pattern": {"Regex": r"\w+"}, "behavior": "Isolated"}) is None
    assert name_of({"type": "Whitespace"}) is None
    assert name_of(None) is None


@pytest.mark.slow
def test_the_real_qwen_tokenizer_is_the_same_after_the_way_through_a_file(tmp_path: Path) -> None:
    import gzip

    packed = Path(__file__).parents[1] / ".." / "shared" / "data" / "tokenizer" / "tokenizer.json.gz"
    if not packed.is_file():
        pytest.skip("the tokenizer of Qwen2.5 is not at hand")
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "tokenizer.json").write_bytes(gzip.decompress(packed.read_bytes()))
    original = FileTokenizer(tmp_path / "t")
    writer = gguf.GGUFWriter(str(tmp_path / "m.gguf"), "qwen2")
    write_vocabulary(writer, tmp_path / "t", 151936)
    shutil.rmtree(tmp_path / "back", ignore_errors=True)
    (tmp_path / "back").mkdir()
    write_tokenizer(read_gguf(tmp_path / "m.gguf"), tmp_path / "back")
    back = FileTokenizer(tmp_path / "back")
    assert read_gguf(tmp_path / "m.gguf").metadata["tokenizer.ggml.pre"] == "qwen2"
    assert back.encode(TEXT) == original.encode(TEXT)
    assert back.encode("<|im_start|>user\n<tool_call>") == original.encode("<|im_start|>user\n<tool_call>")


def test_what_the_reader_refuses_names_the_file() -> None:
    with pytest.raises(InputError, match="no file"):
        read_gguf(Path("/nowhere/at/all.gguf"))
