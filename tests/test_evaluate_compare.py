"""Several runs on one page: paired, against the first, and silent where nothing can be said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from s1kit.cli import main
from s1kit.errors import InputError
from s1kit.evaluate.evaluate import evaluate
from s1kit.recipe import Recipe, load_recipe
from s1kit.report.compare import compare, describe, load_runs
from tests.test_evaluate import recipe_of, run_of, write_script


def two_runs(folder: Path) -> list[Path]:
    """The same questions: one run whose model knows nothing, one whose model is the scripted one."""
    script, _ = write_script(folder, 12)
    good = recipe_of(folder)
    deaf = {question: [["hm .", "?"], ["hm .", "?"]] for question in json.loads(script.read_text())}
    (folder / "deaf.json").write_text(json.dumps(deaf))
    bad = Recipe.model_validate(
        good.model_dump()
        | {"name": "deaf", "evaluate": good.evaluate.model_dump() | {"model": f"scripted:{folder}/deaf.json"}}
    )
    for recipe in (bad, good):
        evaluate(recipe, run_of(recipe))
    return [bad.folder, good.folder]


def test_runs_are_held_against_the_first_one(tmp_path: Path) -> None:
    folders = two_runs(tmp_path)
    lines = describe(load_runs(folders))
    assert "small against deaf" in lines[0]
    assert lines[0].endswith("within noise")  # 4 of 12 against none: p is 0.125, before it is adjusted
    assert lines[1].endswith("better")  # 8 of 12 against none, in one of six settings
    page = compare(folders, tmp_path / "out").read_text()
    assert "deaf is the control" in page
    assert (tmp_path / "out" / "compare.png").exists()
    assert page.count('data-kind="fixed"') >= 8  # the questions that only the second run answers


def test_report_takes_run_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = two_runs(tmp_path)
    assert main(["report", str(folders[0])]) == 0
    assert (folders[0] / "report" / "report.html").exists()
    assert main(["report", *map(str, folders)]) == 0
    assert "small against deaf" in capsys.readouterr().out
    assert (tmp_path / "compare" / "compare.html").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run folder"):
        load_runs([tmp_path])


def test_a_run_whose_settings_have_other_names_is_refused_and_said_which(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"resolved": {"recipe": "old", "evaluate": {"budgets": [64]}}}')
    with pytest.raises(InputError, match=r"unknown key 'evaluate\.budgets'"):
        load_runs([tmp_path])


def test_the_study_has_the_random_control_first_and_its_variants_are_recipes() -> None:
    study = load_recipe("study")
    assert next(iter(study.variants)) == "random"
    for variant, changes in study.variants.items():
        assert load_recipe("study", [*changes, f"name=study-{variant}"]).folder == Path("runs") / f"study-{variant}"
