"""What training writes: a disk that fills up, a tracker's own format, a place that is too small."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fixtures_models import write_random_checkpoint
from fixtures_train import make_samples
from safetensors.torch import load_file

from s1kit.errors import InputError, WorkFailed
from s1kit.recipe import Train
from s1kit.train import disk
from s1kit.train.disk import check_disk, needed_bytes
from s1kit.train.meter import TrainingMeter, read_log
from s1kit.train.shapes import SHAPES
from s1kit.train.train import train_samples


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("disk_base"), context=1024, scale=0.1)


def settings_for(base: Path, **more: object) -> Train:
    given = {"base": f"hf:{base}", "dtype": "float32", "batch_size": 4, "epochs": 2, "learning_rate": 1e-2}
    return Train.model_validate(given | {"max_length": 1024, "save_every": 2} | more)


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plenty_of_room")
    train_samples(make_samples(10), folder, settings_for(base))
    return folder


@pytest.fixture
def room() -> Iterator[object]:
    """No file may grow above so many bytes: the system itself refuses, as it does when a disk or a quota is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda nbytes: resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("from_step", "nbytes", "complaint", "kept"),
    [
        (
            3,
            20_000,
            r"could not write a checkpoint, with .* MB free: OSError: \[Errno 27\] File too large",
            ["step-00000002"],
        ),
        (6, 20_000, "could not write the final folder", ["step-00000002", "step-00000004"]),
        (4, 500, r"could not write log\.jsonl", ["step-00000002"]),
    ],
)
def test_a_full_disk_is_a_sentence_and_training_goes_on_to_the_same_weights(
    base: Path,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    room: object,
    from_step: int,
    nbytes: int,
    complaint: str,
    kept: list[str],
) -> None:
    before = TrainingMeter.step

    def step(self: TrainingMeter, lengths: list[int], **values: float) -> dict[str, float]:
        if values["step"] == from_step:
            room(nbytes)  # type: ignore[operator]
        return before(self, lengths, **values)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingMeter, "step", step)
        with pytest.raises(WorkFailed, match=rf"{complaint}.*Free space and run the same command again"):
            train_samples(make_samples(10), tmp_path, settings_for(base))
    room(resource.RLIM_INFINITY)  # type: ignore[operator]
    assert sorted(p.name for p in (tmp_path / "resume").iterdir()) == kept, "whole checkpoints, no half ones"
    assert not (tmp_path / "checkpoint").exists()
    assert not list(tmp_path.glob(".checkpoint*"))
    train_samples(make_samples(10), tmp_path, settings_for(base))
    found, expected = (load_file(f / "checkpoint" / "model.safetensors") for f in (tmp_path, trained))
    assert all(torch.equal(weight, expected[name]) for name, weight in found.items())
    assert [row["loss"] for row in read_log(tmp_path / "log.jsonl")] == [
        row["loss"] for row in read_log(trained / "log.jsonl")
    ]


def test_a_disk_that_is_too_small_is_said_before_the_weights_are_read(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    monkeypatch.setattr("s1kit.train.loading.load_weights", lambda *_: pytest.fail("the weights were read"))
    with pytest.raises(InputError, match=r"needs about \d\.\d MB of disk, and 0\.0 MB are free"):
        train_samples(make_samples(10), tmp_path, settings_for(base))


def test_what_an_interrupted_call_left_counts_as_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape, train = SHAPES["qwen2-small"], Train(save_every=2)
    needed = needed_bytes(shape, train, 6)
    assert needed == shape.parameters * (2 + 2 * 3 * 4), "bfloat16 weights, two states of three float32 numbers"
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=needed - 10))
    with pytest.raises(InputError, match=r"raise train\.save_every"):
        check_disk(tmp_path, shape, train, 6)
    (tmp_path / "resume").mkdir()
    (tmp_path / "resume" / "state").write_bytes(b"x" * 10)
    check_disk(tmp_path, shape, train, 6)


def test_adapters_keep_small_states() -> None:
    shape = SHAPES["qwen2.5-7b"]
    full = needed_bytes(shape, Train(), 100)
    adapters = needed_bytes(shape, Train.model_validate({"lora": {"rank": 16, "alpha": 32}}), 100)
    assert adapters < full / 5


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_shows_the_log_also_after_an_interruption(base: Path, trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install 's1kit[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (tmp_path / "out" / "resume").mkdir(parents=True)
    settings = settings_for(base, layout={"trackers": ["tensorboard"]})
    train_samples(make_samples(10), tmp_path / "out", settings_for(base, max_steps=3, layout=settings.layout))
    shutil.rmtree(tmp_path / "out" / "resume")
    shutil.copytree(trained / "resume" / "step-00000002", tmp_path / "out" / "resume" / "step-00000002")
    train_samples(make_samples(10), tmp_path / "out", settings)
    events = EventAccumulator(str(tmp_path / "out" / "tensorboard"))
    events.Reload()
    assert {f"train/{key}" for key in ("loss", "learning_rate", "grad_norm", "tokens_per_second")} <= set(
        events.Tags()["scalars"]
    )
    rows = read_log(tmp_path / "out" / "log.jsonl")
    seen = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert [step for step, _ in seen] == [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [value for _, value in seen] == pytest.approx([row["loss"] for row in rows], rel=1e-6)


def test_wandb_keeps_an_offline_run_beside_the_log(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="pip install 's1kit[wandb]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    train_samples(make_samples(4), tmp_path, settings_for(base, layout={"trackers": ["wandb"]}))
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    told = next(run.glob("*.wandb")).read_bytes()
    assert b"learning_rate" in told
    assert b"tokens_per_second" in told
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])["step"] == 1
