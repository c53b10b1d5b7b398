"""The same batches through TRL's SFTTrainer, and through the export to it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from fixtures_models import write_random_checkpoint
from fixtures_train import encode, make_samples

from s1kit.formats import FORMATS
from s1kit.recipe import Train
from s1kit.train.base import load_tokenizer
from s1kit.train.export import assistant_text

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
