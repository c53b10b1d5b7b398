"""What a trained folder says about itself: other programs stop where it ends, prompt it as in training, and keep it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures_models import CHAT_TEMPLATE, write_random_checkpoint
from fixtures_train import make_samples
from safetensors.torch import load_file, save_file

from s1kit.forcing.detection import fit_template
from s1kit.forcing.formats import FORMATS, load_format
from s1kit.recipe import Train
from s1kit.train.train import Trained, train_samples

OPENED = CHAT_TEMPLATE + "{% if add_generation_prompt %}{{ '<think>\\n' }}{% endif %}"
THINKS_OFF = (
    "{%- for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n"
    "    {%- if not enable_thinking %}\n        {{- '<think>\\n\\n</think>\\n\\n' }}\n"
    "    {%- endif %}\n{%- endif %}\n"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base as Qwen2.5's: it ends at <|endoftext|>, in bfloat16, with generation defaults of its own."""
    folder = write_random_checkpoint(
        tmp_path_factory.mktemp("declared_base"),
        context=1024,
        scale=0.1,
        specials=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"),
    )
    end = token(folder, "<|endoftext|>")
    edit(folder / "config.json", eos_token_id=end, dtype="bfloat16")
    edit(folder / "tokenizer_config.json", eos_token="<|endoftext|>")
    generation = {"eos_token_id": [end, 7], "temperature": 0.7, "top_p": 0.8, "repetition_penalty": 1.05}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    file = folder / "model.safetensors"
    save_file({k: v.bfloat16() for k, v in load_file(file).items()}, file, metadata={"format": "pt"})
    return folder


def token(folder: Path, text: str) -> int:
    raw = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return int({t["content"]: t["id"] for t in raw["added_tokens"]}[text])


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def fine_tuned(base: Path, folder: Path, **settings: Any) -> Trained:
    train = {"base": f"hf:{base}", "batch_size": 5, "epochs": 1, "learning_rate": 1e-2, "max_length": 1024}
    return train_samples(make_samples(10), folder, Train.model_validate(train | settings))


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fine_tuned(base, tmp_path_factory.mktemp("declared")).checkpoint


def test_plain_transformers_stops_at_the_answers_end(trained: Path, base: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(trained), AutoTokenizer.from_pretrained(trained)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "1+1?"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    for text in ("<|im_end|>", "<|endoftext|>"):
        wanted = token(base, text)

        def ends_soon(ids: Any, scores: Any, wanted: int = wanted) -> Any:
            if ids.shape[1] == prompt["input_ids"].shape[1] + 4:
                scores[:, wanted] = 1e9
            else:
                scores[:, [token(base, "<|im_end|>"), token(base, "<|endoftext|>"), 7]] = -1e9
            return scores

        found = model.generate(**prompt, max_new_tokens=40, logits_processor=[ends_soon], do_sample=False)
        assert found.shape[1] - prompt["input_ids"].shape[1] == 5, text
        assert int(found[0, -1]) == wanted


def test_every_file_names_the_answers_end_and_keeps_the_bases_own_settings(trained: Path, base: Path) -> None:
    end, own = token(base, "<|im_end|>"), token(base, "<|endoftext|>")
    generation = json.loads((trained / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [end, own, 7]
    assert generation["temperature"] == 0.7
    assert generation["top_p"] == 0.8
    assert generation["repetition_penalty"] == 1.05
    assert json.loads((trained / "config.json").read_text())["eos_token_id"] == [end, own, 7]
    assert json.loads((trained / "tokenizer_config.json").read_text())["eos_token"] == "<|im_end|>"
    before = json.loads((base / "config.json").read_text())
    after = json.loads((trained / "config.json").read_text())
    changed = {k for k in before if before[k] != after.get(k)}
    assert changed <= {"eos_token_id", "dtype", "transformers_version"}


def test_the_gguf_file_names_both_ends(trained: Path, base: Path, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    from s1kit.cli import main
    from s1kit.engines.gguf.reading import read_gguf

    assert main(["export", str(trained), "--to", str(tmp_path / "m.gguf")]) == 0
    metadata = read_gguf(tmp_path / "m.gguf").metadata
    assert metadata["tokenizer.ggml.eos_token_id"] == token(base, "<|im_end|>")
    assert metadata["tokenizer.ggml.eot_token_id"] == token(base, "<|endoftext|>")


@pytest.mark.parametrize(
    ("template", "format"),
    [(CHAT_TEMPLATE, "s1"), (THINKS_OFF, "qwen3"), (OPENED, "qwen3"), (None, "s1")],
    ids=["plain", "thinking off by default", "opened by the template", "no template"],
)
def test_the_saved_template_ends_its_prompt_as_in_training(
    template: str | None, format: str, base: Path, tmp_path: Path
) -> None:
    import shutil

    from transformers import AutoTokenizer

    folder = Path(shutil.copytree(base, tmp_path / "base"))
    edit(folder / "tokenizer_config.json", chat_template=template)
    checkpoint = fine_tuned(folder, tmp_path / "out", format=format, max_steps=1).checkpoint
    theirs, ours = AutoTokenizer.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(folder)
    ours.chat_template = template or FORMATS[format].chat_template
    fmt = fit_template(FORMATS[format], ours)
    chat = [{"role": "user", "content": "Why?"}]
    shown = theirs.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert theirs.encode(shown, add_special_tokens=False) == fmt.prompt_ids(ours, "Why?")
    assert shown.count(fmt.open) == 1
    saved = load_format(checkpoint)
    assert saved is not None
    assert saved.prompt_ids(theirs, "Why?") == fmt.prompt_ids(ours, "Why?")
    if template != OPENED:
        plain = theirs.apply_chat_template(chat, add_generation_prompt=True, tokenize=False, enable_thinking=False)
        assert not plain.endswith(fmt.open)
    closed = theirs.apply_chat_template([*chat, {"role": "assistant", "content": "4"}], tokenize=False)
    assert closed.startswith("<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>")


def test_a_training_that_rounding_would_undo_is_said_and_saved_in_float32(
    base: Path, tmp_path: Path, capsys: Any
) -> None:
    trained = fine_tuned(base, tmp_path, learning_rate=1e-6)
    assert "the checkpoint is saved in float32" in capsys.readouterr().err
    after = load_file(trained.checkpoint / "model.safetensors")
    before = load_file(base / "model.safetensors")
    assert {t.dtype for t in after.values()} == {torch.float32}
    assert json.loads((trained.checkpoint / "config.json").read_text())["dtype"] == "float32"
    moved = torch.cat([(after[n].float() != before[n].float()).flatten() for n in before])
    assert moved.float().mean() > 0.5
    rounded = torch.cat([(after[n].bfloat16() != before[n]).flatten() for n in before])
    assert rounded.float().mean() < 0.1
    assert trained.figures["lost_to_rounding"] > 0.5
    assert "| saved in | float32 |" in (trained.checkpoint / "README.md").read_text()


def test_a_training_that_outgrows_rounding_is_saved_in_bfloat16(base: Path, trained: Path, tmp_path: Path) -> None:
    assert {t.dtype for t in load_file(trained / "model.safetensors").values()} == {torch.bfloat16}


def test_weights_that_are_trained_in_bfloat16_alone_are_told_of(base: Path, tmp_path: Path, capsys: Any) -> None:
    fine_tuned(base, tmp_path, learning_rate=1e-4, layout={"master_dtype": "bfloat16"})
    assert load_file(tmp_path / "checkpoint" / "model.safetensors")["model.norm.weight"].dtype == torch.bfloat16
    assert "saved in float32" not in capsys.readouterr().err


SWITCHED = (
    "{% if style %}{{ '<|im_start|>system\\n' + style + '<|im_end|>\\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}"
    "{% if m.reasoning_content %}{{ '<think>\\n' + m.reasoning_content + '\\n</think>\\n' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking %}{{ '<think>\\n' }}{% endif %}{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "format", "opening", "end"),
    [
        (SWITCHED, "", "<|im_start|>assistant\n<think>\n", "</think>\n"),
        (CHAT_TEMPLATE, "think", "<|im_start|>assistant\n<think>\n", "</think>\n\n"),
        (None, "think", "Assistant:\n<think>\n", "</think>\n\n"),
    ],
    ids=["the base's own", "as text", "a base without a template"],
)
def test_a_base_of_any_family_is_trained_in_its_own_format_or_in_one_that_needs_no_tokens(
    template: str | None, format: str, opening: str, end: str, base: Path, tmp_path: Path
) -> None:
    import shutil

    from transformers import AutoTokenizer

    folder = Path(shutil.copytree(base, tmp_path / "base"))
    edit(folder / "tokenizer_config.json", chat_template=template)
    checkpoint = fine_tuned(folder, tmp_path / "out", format=format, max_steps=1).checkpoint
    saved = load_format(checkpoint)
    assert saved is not None
    assert saved.end == end
    theirs = AutoTokenizer.from_pretrained(checkpoint)
    shown = theirs.apply_chat_template([{"role": "user", "content": "Q"}], add_generation_prompt=True, tokenize=False)
    assert shown.endswith(opening)
    assert theirs.decode(saved.prompt_ids(theirs, "Q")) == shown


def test_switches_of_the_recipe_reach_the_template_in_training_and_in_the_checkpoint(
    base: Path, tmp_path: Path
) -> None:
    import shutil

    from transformers import AutoTokenizer

    folder = Path(shutil.copytree(base, tmp_path / "base"))
    edit(folder / "tokenizer_config.json", chat_template=SWITCHED)
    trained = fine_tuned(folder, tmp_path / "out", format="", template={"style": "Be brief."}, max_steps=1)
    theirs, saved = AutoTokenizer.from_pretrained(trained.checkpoint), load_format(trained.checkpoint)
    assert saved is not None
    shown = theirs.apply_chat_template([{"role": "user", "content": "Q"}], add_generation_prompt=True, tokenize=False)
    assert shown == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n<think>\n"
    )
    assert theirs.decode(saved.prompt_ids(theirs, "Q")) == shown
