"""Variants of one recipe: what the same settings would make again is taken over, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from s1kit.cli import main
from s1kit.cli.variants import take_over
from s1kit.recipe import Recipe
from s1kit.stage import RECEIPT


def recipe_of(out: Path, name: str, **curate: object) -> Recipe:
    return Recipe.model_validate({"name": name, "out": str(out), "curate": {"num": 5, **curate}})


def finish(recipe: Recipe, stage: str, *files: str) -> None:
    folder = recipe.folder / stage
    folder.mkdir(parents=True)
    for name in (*files, "started.json", RECEIPT):
        (folder / name).write_text(name)


def finished(out: Path) -> Recipe:
    recipe = recipe_of(out, "a", selection="random")
    finish(recipe, "collect", "questions-00000.parquet")
    finish(recipe, "distill", "traces-00000.parquet")
    finish(recipe, "curate", "attempts-00000.parquet", "samples-00000.parquet")
    return recipe


def test_another_selection_takes_over_the_pool_the_traces_and_the_attempts(tmp_path: Path) -> None:
    done, other = finished(tmp_path), recipe_of(tmp_path, "b", selection="longest")
    assert take_over(done, other) == ["collect", "distill", "attempts"]
    assert {p.name for p in (other.folder / "distill").iterdir()} == {"traces-00000.parquet", "started.json", RECEIPT}
    # Of curate only what does not depend on the selection: its receipt would say that it is done.
    assert [p.name for p in (other.folder / "curate").iterdir()] == ["attempts-00000.parquet"]
    assert take_over(done, other) == []


@pytest.mark.parametrize(
    ("changes", "taken"),
    [
        ({"seed": 1}, []),
        ({"collect": {"duplicates": "exact"}}, []),
        ({"distill": {"num_traces": 2}}, ["collect"]),
        ({"curate": {"num": 5, "attempt_tokens": 8}}, ["collect", "distill"]),
        ({"train": {"epochs": 1}}, ["collect", "distill", "attempts"]),
    ],
)
def test_other_settings_are_never_taken_for_the_same(
    tmp_path: Path, changes: dict[str, object], taken: list[str]
) -> None:
    other = Recipe.model_validate({"name": "b", "out": str(tmp_path), "curate": {"num": 5}} | changes)
    assert take_over(finished(tmp_path), other) == taken


def test_a_stage_that_is_not_finished_is_not_taken_over(tmp_path: Path) -> None:
    done, other = finished(tmp_path), recipe_of(tmp_path, "b")
    (done.folder / "distill" / RECEIPT).unlink()
    assert take_over(done, other) == ["collect"]


STUDY = """
name = "small"
[collect]
sources = [{ builtin = "tiny", num = 120 }]
[distill]
teacher = "tiny"
[curate]
quality = ["complete"]
num = 24
[train]
base = "tiny-base"
dtype = "float32"
batch_size = 8
epochs = 1
max_length = 512
micro_batch_tokens = 4096
[evaluate]
benchmarks = ["tiny"]
num_questions = 12
max_tokens = [0, 24]
answer_tokens = 8
[variants]
random = ["curate.selection=random"]
longest = ["curate.selection=longest", "evaluate.num_waits=[0, 1]"]
"""


@pytest.mark.slow
def test_a_study_trains_each_variant_and_ends_in_one_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.toml").write_text(STUDY)
    assert main(["run", str(tmp_path / "small.toml"), f"out={tmp_path}"]) == 0
    assert "small-longest against small-random, 24 tokens" in capsys.readouterr().out
    html = (tmp_path / "small" / "compare.html").read_text()
    for words in ("Every method, on small-longest", "What each learned from", "small-random, the control", "24 tokens"):
        assert words in html, words
    assert html.count("<h1") == 2
    assert main(["run", str(tmp_path / "small.toml"), f"out={tmp_path}"]) == 0
