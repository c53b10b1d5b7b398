"""The same batches through TRL's SFTTrainer, and through the export to it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from fixtures_models import write_random_checkpoint
from fixtures_train import encode, make_samples

from s1kit.forcing.formats import FORMATS
from s1kit.recipe import Train
from s1kit.train.export import assistant_text
from s1kit.train.loading import load_tokenizer

pytest.importorskip("trl")
sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("trl_base"), context=1024, scale=0.1)


@pytest.mark.filterwarnings("ignore")
def test_trl_has_the_same_losses_step_by_step(base: Path) -> None:
    from train_throughput import run_s1kit, run_trl

    train = Train(
        base=f"hf:{base}",
        dtype="float32",
        batch_size=4,
        epochs=1,
        max_steps=4,
        learning_rate=1e-2,
        loss_normalization="per_token",
        warmup=0.05,
    )
    samples = encode(base, make_samples(16))
    torch.set_num_threads(1)
    ours, theirs = run_s1kit(train, samples, 1), run_trl(train, samples, 1, {})
    assert len(ours.losses) == 4
    assert ours.losses == pytest.approx(theirs.losses, abs=1e-3)


def test_a_sample_exported_to_trl_becomes_the_ids_that_s1kit_trains_on(base: Path) -> None:
    fmt, tokenizer = FORMATS["s1"], load_tokenizer(f"hf:{base}", "", FORMATS["s1"])
    sample = make_samples(1)[0]
    (encoded,) = encode(base, [sample])
    chat = [
        {"role": "user", "content": sample.trace.question.text},
        {"role": "assistant", "content": assistant_text(sample, fmt)},
    ]
    ids = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False)
    newline = tokenizer.encode("\n", add_special_tokens=False)
    assert ids == [*encoded.ids, *newline]


@pytest.mark.filterwarnings("ignore")
def test_an_exported_file_trains_in_trl_on_what_s1kit_trains_on(base: Path, tmp_path: Path) -> None:
    """Through TRL's own loading and mask, which counts the opening delimiter and the last line end too."""
    from datasets import load_dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from s1kit.records import Sample
    from s1kit.stage import open_run
    from s1kit.train.export import export_samples

    samples = make_samples(4)
    curate = open_run(tmp_path / "run", "test", {}).open("curate", {}, 0)
    curate.write("samples", Sample, samples)
    export_samples(tmp_path / "run", tmp_path / "data.jsonl", "trl")
    config = SFTConfig(
        output_dir=str(tmp_path / "out"),
        max_length=None,
        max_steps=1,
        per_device_train_batch_size=2,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model=str(base),
        args=config,
        train_dataset=load_dataset("json", data_files=str(tmp_path / "data.jsonl"), split="train"),
        processing_class=AutoTokenizer.from_pretrained(base),
    )
    tokenizer = load_tokenizer(f"hf:{base}", "", FORMATS["s1"])
    opening = len(tokenizer.encode(FORMATS["s1"].open, add_special_tokens=False))
    for row, sample in zip(trainer.train_dataset, encode(base, samples), strict=True):
        ids = list(row["input_ids"])
        assert ids[: len(sample)] == list(sample.ids)
        assert tokenizer.decode(ids[len(sample) :]).strip("\n") in ("", "<|im_end|>")
        mask = [label != -100 for label in row["labels"]]
        assert mask.index(True) == sample.num_prompt - opening
        assert all(mask[sample.num_prompt : len(sample)])
    assert trainer.train().training_loss > 0
