"""The stage: what it leaves, how it goes on after a kill, what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from fixtures_models import write_random_checkpoint
from fixtures_train import make_samples
from safetensors.torch import load_file

from s1kit.errors import InputError, WorkFailed
from s1kit.forcing.formats import load_format
from s1kit.recipe import Recipe, Train
from s1kit.records import Sample
from s1kit.stage import Run, open_run
from s1kit.train.train import Trained, train, train_samples


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("stage_base"), context=1024, scale=0.1)


def settings_for(base: Path, **more: object) -> Train:
    return Train.model_validate(
        {
            "base": f"hf:{base}",
            "dtype": "float32",
            "batch_size": 4,
            "epochs": 2,
            "learning_rate": 1e-2,
            "max_length": 1024,
            "save_every": 2,
        }
        | more
    )


def run_with_samples(folder: Path, samples: list[Sample]) -> Run:
    run = open_run(folder, "test", {})
    curate = run.open("curate", {}, 0)
    curate.write("samples", Sample, samples)
    curate.finish()
    return run


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoint" / "model.safetensors")


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted training: 10 samples, 6 steps."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    train_samples(make_samples(10), folder, settings_for(base))
    return folder


def test_the_stage_leaves_an_ordinary_folder_that_says_where_it_comes_from(base: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    recipe = Recipe(name="test", train=settings_for(base))
    run = run_with_samples(tmp_path / "run", make_samples(10))
    stage = train(recipe, run)
    folder = stage.folder / "checkpoint"
    assert {p.name for p in folder.iterdir()} >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
        "thinking_format.json",
        "README.md",
    }
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.num_parameters() > 0
    assert AutoTokenizer.from_pretrained(folder).chat_template
    found = load_format(folder)
    assert found is not None
    assert found.name == "s1"
    card = (folder / "README.md").read_text()
    assert "| tests | permits | 10 |" in card
    assert "| learning_rate | 0.01 |" in card
    receipt = run.receipt("train")
    assert receipt["counts"] == {"in": 10, "out": 10, "steps": 6}
    assert receipt["tokens"] == sum(json.loads(line)["tokens"] for line in open_log(stage.folder))
    assert not (stage.folder / "resume").exists()
    assert train(recipe, run).is_done


def open_log(folder: Path) -> list[str]:
    return (folder / "log.jsonl").read_text().splitlines()


def test_training_learns_and_its_seed_decides(base: Path, trained: Path, tmp_path: Path) -> None:
    losses = [json.loads(line)["loss"] for line in open_log(trained)]
    assert len(losses) == 6
    assert losses[-1] < losses[0] - 0.5
    train_samples(make_samples(10), tmp_path / "again", settings_for(base))
    train_samples(make_samples(10), tmp_path / "other", settings_for(base), seed=1)
    same, other = weights(tmp_path / "again"), weights(tmp_path / "other")
    for name, weight in weights(trained).items():
        assert torch.equal(weight, same[name])
    assert any(not torch.equal(weight, other[name]) for name, weight in weights(trained).items())


WORKER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from fixtures_train import make_samples
from test_train_stage import settings_for
from s1kit.train import resume
from s1kit.train.train import train_samples
import os, signal, time
{trap}
train_samples(make_samples(10), Path({folder!r}), settings_for(Path({base!r})))
"""

IN_A_STEP = """
from s1kit.train.meter import TrainingMeter
before = TrainingMeter.step
def step(self, lengths, **values):
    if values["step"] == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return before(self, lengths, **values)
TrainingMeter.step = step
"""

IN_A_CHECKPOINT = """
def complete(self, step, part):
    if step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return before(self, step, part)
before = resume.Checkpoints._complete
resume.Checkpoints._complete = complete
"""


IN_THE_MIDDLE_OF_A_WRITE = """
from torch.distributed.checkpoint import filesystem
before, written = filesystem._write_item, []
def write_item(transforms, stream, *rest):
    written.append("step-00000004" in str(stream.name))
    if sum(written) == 40:
        stream.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return before(transforms, stream, *rest)
filesystem._write_item = write_item
"""


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "trap",
    [IN_A_STEP, pytest.param(IN_A_CHECKPOINT, marks=SLOW), pytest.param(IN_THE_MIDDLE_OF_A_WRITE, marks=SLOW)],
)
def test_a_killed_training_ends_with_the_same_weights(base: Path, trained: Path, tmp_path: Path, trap: str) -> None:
    code = WORKER.format(tests=str(Path(__file__).parent), folder=str(tmp_path), base=str(base), trap=trap)
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert [p.name for p in (tmp_path / "resume").glob("step-*")] == ["step-00000002"]
    if trap == IN_THE_MIDDLE_OF_A_WRITE:
        assert any(p.stat().st_size for p in (tmp_path / "resume").glob(".step-00000004.part/*.distcp"))
    train_samples(make_samples(10), tmp_path, settings_for(base))
    expected = weights(trained)
    for name, weight in weights(tmp_path).items():
        assert torch.equal(weight, expected[name]), name
    before, after = ([json.loads(line)["loss"] for line in open_log(f)] for f in (trained, tmp_path))
    assert after == before


def test_a_damaged_checkpoint_is_noticed_and_the_one_before_is_used(
    base: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained / "resume", tmp_path / "resume")
    shutil.copy(trained / "log.jsonl", tmp_path)
    newest = tmp_path / "resume" / "step-00000004"
    (shard,) = newest.glob("*.distcp")
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shard.write_bytes(bytes(damaged))
    train_samples(make_samples(10), tmp_path, settings_for(base))
    assert "step-00000004 is not used" in capsys.readouterr().err
    expected = weights(trained)
    for name, weight in weights(tmp_path).items():
        assert torch.equal(weight, expected[name]), name


def test_checkpoints_of_other_settings_are_refused(base: Path, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "resume", tmp_path / "resume")
    with pytest.raises(InputError, match="other settings or other samples"):
        train_samples(make_samples(10), tmp_path, settings_for(base, learning_rate=2e-2))


def test_a_loss_that_is_no_number_stops_names_the_batch_and_keeps_the_weights(base: Path, tmp_path: Path) -> None:
    from s1kit.train import loop

    samples = make_samples(8)
    before = loop.backward
    calls = []

    def poisoned(*args: object, **kwargs: object) -> float:
        calls.append(1)
        loss = before(*args, **kwargs)  # type: ignore[arg-type]
        return float("nan") if len(calls) == 4 else loss

    loop.backward = poisoned
    try:
        with pytest.raises(WorkFailed, match="step 4: the loss is nan") as caught:
            train_samples(samples, tmp_path, settings_for(base))
    finally:
        loop.backward = before
    assert sum(s.trace.question.id in str(caught.value) for s in samples) == 4
    assert [p.name for p in sorted((tmp_path / "resume").iterdir())] == ["step-00000002", "step-00000003"]


def test_traces_whose_terms_forbid_training_need_a_reason(base: Path, tmp_path: Path) -> None:
    samples = make_samples(4, terms="forbids")
    with pytest.raises(InputError, match=r"4 traces come from tests, whose terms forbid"):
        train_samples(samples, tmp_path, settings_for(base))
    train_samples(samples, tmp_path, settings_for(base, epochs=1, acknowledge_terms="we wrote them ourselves"))
    assert "we wrote them ourselves" in (tmp_path / "checkpoint" / "README.md").read_text()


def test_dropped_samples_are_counted_in_the_receipt(base: Path, tmp_path: Path) -> None:
    recipe = Recipe(name="test", train=settings_for(base, max_length=110, drop_too_long=True, epochs=1))
    run = run_with_samples(tmp_path / "run", make_samples(10))
    stage = train(recipe, run)
    counts = run.receipt("train")["counts"]
    assert counts["dropped:too_long"] > 0
    assert counts["out"] == 10 - counts["dropped:too_long"]
    assert len(stage.shards("dropped")) == 1


def test_adapters_are_merged_into_an_ordinary_folder(base: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    settings = settings_for(base, epochs=1, lora={"rank": 4, "alpha": 8})
    train_samples(make_samples(8), tmp_path, settings)
    before, after = load_file(base / "model.safetensors"), weights(tmp_path)
    assert before.keys() == after.keys()
    changed = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert changed == {name for name in after if name.endswith("proj.weight")}
    AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint")


def test_bfloat16_trains_on_a_cpu_and_is_what_is_written(base: Path, tmp_path: Path) -> None:
    train_samples(make_samples(8), tmp_path, settings_for(base, epochs=1, dtype="bfloat16"))
    assert {w.dtype for w in weights(tmp_path).values()} == {torch.bfloat16}


HELD_IN_STEP_5 = """
import s1kit.train.loop as loop
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background of a shell ignores it
before, steps = loop.clip, []
def clip(*given):
    steps.append(1)
    time.sleep(60 if len(steps) == 5 else 0.1)
    return before(*given)
loop.clip = clip
"""


def test_an_interrupt_leaves_a_training_that_goes_on(base: Path, trained: Path, tmp_path: Path) -> None:
    code = WORKER.format(tests=str(Path(__file__).parent), folder=str(tmp_path), base=str(base), trap=HELD_IN_STEP_5)
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tmp_path / "resume" / "step-00000002").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(30) != 0
    train_samples(make_samples(10), tmp_path, settings_for(base))
    expected = weights(trained)
    assert all(torch.equal(weight, expected[name]) for name, weight in weights(tmp_path).items())


def test_a_folder_that_cannot_be_made_is_a_sentence(base: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the folder"):
        train_samples(make_samples(4), tmp_path / "file" / "out", settings_for(base))


@pytest.mark.slow
def test_compiled_layers_learn_the_same(base: Path, trained: Path, tmp_path: Path) -> None:
    train_samples(make_samples(10), tmp_path, settings_for(base, layout={"compile": True}))
    before, after = ([json.loads(line)["loss"] for line in open_log(f)] for f in (trained, tmp_path))
    assert after == pytest.approx(before, abs=1e-4)


def test_how_often_it_is_saved_changes_no_training_and_the_type_of_the_weights_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = Trained(tmp_path, {"steps": 1}, [])
    monkeypatch.setattr("s1kit.train.train.train_samples", lambda *_: done)
    run = run_with_samples(tmp_path / "run", make_samples(2))

    def trained(**settings: object) -> bool:
        return train(Recipe.model_validate({"name": "test", "train": settings}), run).is_done

    assert trained(layout={"prefetch": 2})
    assert trained(save_every=7, layout={"compile": True})
    with pytest.raises(InputError, match=r"started with other settings: config\.layout"):
        trained(layout={"master_dtype": "bfloat16"})
