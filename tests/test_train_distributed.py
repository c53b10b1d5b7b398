"""Several processes with gloo, FSDP2 and context parallelism do what one process does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures_models import write_random_checkpoint
from fixtures_train import encode, make_samples, reference_steps
from safetensors.torch import load_file
from train_worker import STEPS

from s1kit.recipe import Train
from s1kit.train.train import train_samples

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("distributed_base"), context=1024, scale=0.1)


def torchrun(processes: int, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS)}
    # A session of its own: on a timeout the workers must go with their launcher.
    process = subprocess.Popen(
        [*launcher, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=400)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0 or not check, err[-6000:]
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def settings_for(base: Path, **more: Any) -> dict[str, Any]:
    return {"base": f"hf:{base}", "dtype": "float32", "batch_size": 4, "learning_rate": 1e-2, "max_length": 1024} | more


CASES: dict[int, dict[str, dict[str, Any]]] = {
    1: {"sharded": {}},
    2: {
        "sharded": {},
        "accumulated": {"loss_normalization": "per_token", "micro_batch_tokens": 150},
        "shared_rows": {"layout": {"context_parallel": 2}, "micro_batch_tokens": 200},
        "shared_rows_per_token": {"layout": {"context_parallel": 2}, "loss_normalization": "per_token"},
        "recomputed": {"layout": {"context_parallel": 2, "activation_checkpointing": "selective"}},
        "adapters": {"lora": {"rank": 4, "alpha": 8}},
        "adapters_shared_rows": {"lora": {"rank": 4, "alpha": 8}, "layout": {"context_parallel": 2}},
    },
    4: {
        "sharded": {},
        "shared_by_two": {"layout": {"context_parallel": 2}, "loss_normalization": "per_token"},
        "shared_by_four_repeats_key_heads": {"layout": {"context_parallel": 4}},
        "sharded_within_nodes": {"layout": {"shard": "node", "activation_checkpointing": "full"}},
    },
}


SLOW = pytest.mark.slow


@pytest.mark.parametrize("processes", [pytest.param(1, marks=SLOW), 2, pytest.param(4, marks=SLOW)])
def test_losses_and_gradients_are_those_of_one_sequence_at_a_time(base: Path, tmp_path: Path, processes: int) -> None:
    samples = encode(base, make_samples(14))
    cases = {name: settings_for(base, **more) for name, more in CASES[processes].items()}
    plain = [{"id": s.id, "ids": s.ids, "num_prompt": s.num_prompt} for s in samples]
    (tmp_path / "cases.json").write_text(json.dumps({"samples": plain, "cases": cases}))
    torchrun(processes, str(TESTS / "train_worker.py"), str(tmp_path))
    for name, settings in cases.items():
        expected_losses, expected = reference_steps(Train.model_validate(settings), samples, STEPS)
        assert json.loads((tmp_path / f"{name}.json").read_text()) == pytest.approx(expected_losses, abs=1e-5), name
        gradients = load_file(tmp_path / f"{name}.safetensors")
        assert gradients.keys() == expected.keys(), name
        for parameter, gradient in gradients.items():
            torch.testing.assert_close(gradient, expected[parameter], rtol=1e-4, atol=1e-5, msg=f"{name}: {parameter}")


WHOLE = """
import os, signal, sys
from pathlib import Path
from fixtures_train import make_samples
from s1kit.recipe import Train
from s1kit.train.meter import TrainingMeter
from s1kit.train.train import train_samples
base, folder, kill_at = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
before = TrainingMeter.step
def step(self, lengths, **values):
    if values["step"] == kill_at and self.world.rank == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return before(self, lengths, **values)
TrainingMeter.step = step
train = Train(base=f"hf:{base}", dtype="float32", batch_size=4, epochs=2, learning_rate=1e-2, save_every=2)
train_samples(make_samples(10), folder, train)
"""


def test_a_training_killed_on_two_processes_goes_on_on_one(base: Path, tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(WHOLE)
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    done = torchrun(2, str(worker), str(base), str(killed), "6", check=False)
    assert done.returncode != 0
    assert f"Signal {int(signal.SIGKILL)}" in done.stderr
    assert (killed / "resume" / "step-00000002").is_dir()
    train = Train.model_validate(settings_for(base, epochs=2, save_every=2, max_length=32768))
    train_samples(make_samples(10), killed, train)
    train_samples(make_samples(10), alone, train)
    losses = [[json.loads(x)["loss"] for x in (f / "log.jsonl").read_text().splitlines()] for f in (killed, alone)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    expected = load_file(alone / "checkpoint" / "model.safetensors")
    for name, weight in load_file(killed / "checkpoint" / "model.safetensors").items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.slow
def test_fewer_samples_than_processes_is_said_before_the_model_is_read(base: Path, tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(WHOLE.replace("make_samples(10)", "make_samples(1)"))
    done = torchrun(2, str(worker), str(base), str(tmp_path / "out"), "0", check=False)
    assert "1 samples for 2 processes" in done.stderr
