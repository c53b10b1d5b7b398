"""The launchers in runs/, started for real with gloo: two processes, two nodes, Slurm's and SkyPilot's own commands."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from engine_parity import free_port
from fixtures_models import write_random_checkpoint
from fixtures_train import make_samples
from safetensors.torch import load_file

from s1kit.recipe import Recipe, load_recipe
from s1kit.records import Sample
from s1kit.stage import open_run
from s1kit.train.meter import read_log
from s1kit.train.train import train_samples

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "runs"

SUMS = """
name = "sums"
description = "Ten sums, six steps."
[train]
base = "hf:{base}"
dtype = "float32"
batch_size = 4
epochs = 2
learning_rate = 1e-2
max_length = 1024
"""


@pytest.fixture(scope="module")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("launched")
    base = write_random_checkpoint(folder / "base", context=1024, scale=0.1)
    (folder / "sums.toml").write_text(SUMS.format(base=base))
    return folder / "sums.toml"


@pytest.fixture(scope="module")
def alone(sums: Path) -> Path:
    """What one process makes of it."""
    train_samples(make_samples(10), sums.parent / "alone", load_recipe(str(sums)).train)
    return sums.parent / "alone"


def curated(sums: Path, out: Path) -> Recipe:
    """A run whose `curate` is done, as the launchers expect it."""
    recipe = load_recipe(str(sums), [f"out={out}"])
    run = open_run(recipe.folder, recipe.recipe, recipe.model_dump(mode="json"))
    curate = run.open("curate", {}, 0)
    curate.write("samples", Sample, make_samples(10))
    curate.finish()
    return recipe


def start(command: list[str], **more: str) -> subprocess.Popen[str]:
    env = os.environ | {"OMP_NUM_THREADS": "1", "CARDS": "1"} | more
    return subprocess.Popen(
        command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(*processes: subprocess.Popen[str]) -> None:
    """Wait for all; on a failure none is left behind."""
    try:
        told = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    for process, (out, err) in zip(processes, told, strict=True):
        assert process.returncode == 0, (out + err)[-6000:]


def assert_same_training(recipe: Recipe, alone: Path) -> None:
    losses = [[row["loss"] for row in read_log(f / "log.jsonl")] for f in (recipe.folder / "train", alone)]
    assert len(losses[0]) == 6
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    found, expected = (load_file(f / "checkpoint" / "model.safetensors") for f in (recipe.folder / "train", alone))
    assert found.keys() == expected.keys()
    for name, weight in found.items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.slow
def test_one_node_of_two_processes_trains_what_one_process_does(sums: Path, alone: Path, tmp_path: Path) -> None:
    recipe = curated(sums, tmp_path)
    finish(start([str(RUNS / "train_node.sh"), str(sums), f"out={tmp_path}"], CARDS="2"))
    assert_same_training(recipe, alone)


@pytest.mark.slow
def test_one_node_without_a_card_is_one_process(sums: Path, alone: Path, tmp_path: Path) -> None:
    recipe = curated(sums, tmp_path)
    finish(start([str(RUNS / "train_node.sh"), str(sums), f"out={tmp_path}"], CARDS=""))
    assert_same_training(recipe, alone)


@pytest.mark.slow
def test_two_nodes_train_what_one_process_does(sums: Path, alone: Path, tmp_path: Path) -> None:
    recipe = curated(sums, tmp_path)
    command = [str(RUNS / "train_two_nodes.sh"), str(sums), f"out={tmp_path}"]
    place = {"HEAD": "127.0.0.1", "PORT": str(free_port())}
    finish(*(start(command, NODE=node, **place) for node in "01"))
    assert_same_training(recipe, alone)


def shim(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("#!/usr/bin/env bash\n" + text)
    (folder / name).chmod(0o755)


@pytest.mark.slow
def test_the_slurm_job_starts_the_same_training_on_each_of_its_nodes(sums: Path, alone: Path, tmp_path: Path) -> None:
    """With stand-ins for `scontrol` and `srun` that know one machine, twice."""
    recipe = curated(sums, tmp_path)
    shim(tmp_path / "bin", "scontrol", 'printf "127.0.0.1\\n127.0.0.2\\n"')
    shim(tmp_path / "bin", "srun", 'shift\nSLURM_NODEID=0 "$@" & SLURM_NODEID=1 "$@" & wait -n && wait -n')
    slurm = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": "n[0-1]",
        "SLURM_NNODES": "2",
        "SLURM_GPUS_ON_NODE": "1",
        "SLURM_SUBMIT_DIR": str(ROOT),
        "PORT": str(free_port()),
    }
    finish(start(["bash", str(RUNS / "train.sbatch"), str(sums), f"out={tmp_path}"], **slurm))
    assert_same_training(recipe, alone)


@pytest.mark.slow
def test_the_skypilot_task_starts_the_same_training_on_each_of_its_nodes(
    sums: Path, alone: Path, tmp_path: Path
) -> None:
    yaml = pytest.importorskip("yaml")
    task = yaml.safe_load((RUNS / "train.sky.yaml").read_text())
    assert task["num_nodes"] == 2
    assert {"accelerators", "network_tier"} <= task["resources"].keys()
    recipe = curated(sums, tmp_path / "runs")
    sky = {
        "HOME": str(tmp_path),
        "RECIPE": str(sums),
        "SKYPILOT_NODE_IPS": "127.0.0.1\n127.0.0.2",
        "SKYPILOT_NUM_NODES": "2",
        "SKYPILOT_NUM_GPUS_PER_NODE": "1",
        "PORT": str(free_port()),
    }
    finish(*(start(["bash", "-c", task["run"]], SKYPILOT_NODE_RANK=rank, **sky) for rank in "01"))
    assert_same_training(recipe, alone)


@pytest.mark.parametrize("name", ["train_node.sh", "train_two_nodes.sh", "train.sbatch"])
def test_the_launchers_are_valid_shell(name: str) -> None:
    assert subprocess.run(["bash", "-n", RUNS / name]).returncode == 0


def test_every_launcher_starts_the_same_command() -> None:
    for name in ("train_node.sh", "train_two_nodes.sh"):
        assert '-m s1kit train "$@"' in (RUNS / name).read_text()
    for name in ("train.sbatch", "train.sky.yaml"):
        assert "runs/train_two_nodes.sh" in (RUNS / name).read_text()
