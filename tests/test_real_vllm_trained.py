"""A checkpoint of this trainer in vLLM itself: it loads, brings its thinking format, and decodes the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from engine_parity import assert_same_transcripts
from fixtures_models import write_random_checkpoint
from fixtures_train import make_samples

from s1kit import load_engine
from s1kit.recipe import Train
from s1kit.train.train import train_samples

pytestmark = pytest.mark.engines
pytest.importorskip("vllm", reason="run make engines, then make test-engines")


@pytest.fixture(scope="module", params=[None, {"rank": 4, "alpha": 8}], ids=["all weights", "adapters"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param:
        pytest.importorskip("peft", reason="pip install 's1kit[train]'")
    folder = tmp_path_factory.mktemp("trained")
    base = write_random_checkpoint(folder / "base", context=1024, scale=0.3, head_width=32)
    train = Train.model_validate(
        {"base": f"hf:{base}", "dtype": "float32", "batch_size": 4, "learning_rate": 1e-3, "max_length": 1024}
        | {"epochs": 1, "lora": request.param}
    )
    return train_samples(make_samples(10), folder / "out", train).checkpoint


def test_a_trained_checkpoint_decodes_in_vllm_as_in_transformers(trained: Path) -> None:
    engine: Any = load_engine(f"vllm:{trained}", enforce_eager=True, dtype="float32", max_num_seqs=64)
    reference: Any = load_engine(f"hf:{trained}")
    assert engine.format == reference.format
    assert engine.format.name == "s1"
    assert_same_transcripts(engine, reference)
