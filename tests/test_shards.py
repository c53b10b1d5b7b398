"""A stage in parts, as an array of Slurm jobs does it: the same files as in one piece. Nothing here needs Slurm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from collected_runs import collected_run

from s1kit.cli import main
from s1kit.curate.difficulty import attempt_all
from s1kit.distill.distill import distill
from s1kit.errors import InputError
from s1kit.grade import load_grader, reference
from s1kit.recipe import Recipe
from s1kit.stage import Stage, StagePart, open_run, read_part
from s1kit.tiny.questions import held_out_questions

RUNS = Path(__file__).parents[1] / "runs"
QUESTIONS = held_out_questions(24, seed=13)


def write_recipe(folder: Path) -> Path:
    """An evaluation of scripted answers, in shards of two questions."""
    script = {q.text: [["hm , so .", str(reference(q) if n % 3 else "0")]] for n, q in enumerate(QUESTIONS)}
    (folder / "script.json").write_text(json.dumps(script))
    rows = [{"question": q.text, "answer": reference(q)} for q in QUESTIONS]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.toml").write_text(
        f'name = "x"\nout = "{folder}"\nstages = ["evaluate"]\n[evaluate]\nmodel = "scripted:{folder}/script.json"\n'
        f'benchmarks = ["{folder}/questions.jsonl"]\nmax_tokens = [0]\nanswer_tokens = 8\nbatch_size = 2\n'
    )
    return folder / "recipe.toml"


def shards(stage: Path, name: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in stage.glob(f"{name}-*.parquet")}


def without_ids(stage: Path) -> list[Any]:
    """Rows in their order; a scripted engine numbers words as it meets them, so token ids are left out."""
    import pyarrow.parquet as pq

    rows = [row for path in sorted(stage.glob("generations-*.parquet")) for row in pq.read_table(path).to_pylist()]
    for row in rows:
        for segment in row["segments"]:
            segment["token_ids"] = None
    return rows


def test_the_tasks_of_an_array_evaluate_what_one_process_does(tmp_path: Path) -> None:
    """The array's own script, with Slurm's variables; the last run, without them, writes the receipt."""
    recipe = write_recipe(tmp_path)
    assert main(["evaluate", str(recipe), "name=whole", "--quiet"]) == 0
    for task in ("1", "0", None):
        slurm = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": "2"} if task is not None else {}
        paths = {"PYTHON": sys.executable, "PYTHONPATH": str(RUNS.parent), "SLURM_SUBMIT_DIR": str(tmp_path)}
        command = ["bash", str(RUNS / "shards.sbatch"), "evaluate", str(recipe), "name=parts"]
        done = subprocess.run(command, env=os.environ | paths | slurm, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        folder = tmp_path / "parts" / "evaluate"
        assert (folder / "receipt.json").exists() == (task is None)
        assert len(list(folder.glob("generations-*"))) == (6 if task == "1" else 12)
    assert without_ids(folder) == without_ids(tmp_path / "whole" / "evaluate")
    assert shards(folder, "questions") == shards(tmp_path / "whole" / "evaluate", "questions")


def collected(folder: Path, **config: Any) -> tuple[Recipe, Any]:
    script = {q.text: [["let me see .", str(reference(q) if n % 4 else "0")]] for n, q in enumerate(QUESTIONS)}
    folder.mkdir(exist_ok=True)
    path = folder.parent / "script.json"
    path.write_text(json.dumps(script))
    sections = {
        "distill": {"teacher": f"scripted:{path}", "max_output_tokens": 64},
        "curate": {"students": [f"scripted:{path}", f"scripted:{path},max_batch=4"], "attempt_shard": 3},
    }
    recipe = Recipe.model_validate({"name": "run", "out": str(folder), **sections})
    return recipe, collected_run(recipe.folder, QUESTIONS)


def test_parts_of_a_local_teacher_give_the_traces_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    monkeypatch.setattr("s1kit.distill.distill.BLOCK", 5)
    recipe, run = collected(tmp_path / "whole")
    whole = shards(distill(recipe, run).folder, "traces")
    assert len(whole) == 5
    recipe, run = collected(tmp_path / "parts")
    for number, expected in ((2, 1), (0, 3), (1, 5)):
        stage = distill(recipe, replace(run, part=StagePart(number, 3)))
        assert not stage.is_done
        assert len(shards(stage.folder, "traces")) == expected
    (tmp_path / "script.json").unlink()  # the stage is ended without loading the teacher
    assert distill(recipe, run).is_done
    assert shards(stage.folder, "traces") == whole


def test_a_provider_is_not_asked_in_parts(tmp_path: Path) -> None:
    from dataclasses import replace

    recipe, run = collected(tmp_path / "x")
    chat = recipe.model_copy(update={"distill": recipe.distill.model_copy(update={"teacher": "chat:openai/o3"})})
    with pytest.raises(InputError, match=r"'chat:openai/o3' is asked from one process"):
        distill(chat, replace(run, part=StagePart(0, 2)))


def test_parts_of_the_attempts_wait_for_what_the_first_student_answers(tmp_path: Path) -> None:
    def attempt(stage: Stage, part: StagePart | None) -> Any:
        recipe, _ = collected(tmp_path / "x")
        return attempt_all(QUESTIONS, recipe.curate, load_grader(), stage, seed=0, part=part)

    whole = open_run(tmp_path / "whole", "x", {}).open("curate", config={}, seed=0)
    drops = attempt(whole, None)
    parts = open_run(tmp_path / "parts", "x", {}).open("curate", config={}, seed=0)
    assert attempt(parts, StagePart(0, 2)) is None
    assert len(parts.shards("attempts")) == 4
    assert attempt(parts, StagePart(1, 2)) is None  # the first student's are all there now, the second's half
    assert attempt(parts, StagePart(0, 2)) == drops
    assert shards(parts.folder, "attempts") == shards(whole.folder, "attempts")


@pytest.mark.parametrize("text", ["4/4", "1", "-1/4", "1/0", "a/b", "1/4/8"])
def test_a_part_that_is_none_says_how_to_write_one(text: str) -> None:
    with pytest.raises(InputError, match="index/of with an index from 0"):
        read_part(text)


def test_one_command_prints_what_would_be_submitted(tmp_path: Path) -> None:
    """Two students are two arrays, each waiting for the one before; then one job that ends the stage."""
    environ = os.environ | {"PRINT": "1", "SBATCH_FLAGS": "--gpus=4", "PYTHON": sys.executable}
    command = ["bash", str(RUNS / "shards.sh"), "curate", "8", "s1k", "out=my runs"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True)
    first, second, last = done.stdout.splitlines()
    assert first.startswith("sbatch --parsable --gpus=4 --array=0-7 ")
    assert first.rstrip().endswith("curate s1k out=my\\ runs")
    assert "--dependency=afterany:" in second
    assert "--array=0-7" in second
    assert "--array" not in last
    refused = subprocess.run(["bash", str(RUNS / "shards.sh"), "train", "8", "s1k"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "no array for the stage train" in refused.stderr


@pytest.mark.parametrize("name", ["shards.sh", "shards.sbatch"])
def test_the_scripts_are_bash(name: str) -> None:
    subprocess.run(["bash", "-n", str(RUNS / name)], check=True)
