"""The stage: a grid filled over a scripted model, resumed, enlarged, and reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from s1kit.analysis.findings import Findings
from s1kit.engines import load_engine
from s1kit.errors import InputError
from s1kit.evaluate.decode import answer_room, direct_room
from s1kit.evaluate.evaluate import evaluate
from s1kit.recipe import Evaluate, Recipe
from s1kit.records import Generation, Question
from s1kit.report.rows import read_results
from s1kit.stage import Run, Stage, open_run


def write_script(folder: Path, num: int) -> tuple[Path, Path]:
    """Questions whose first thought is wrong for two thirds of them; a Wait mends half of those."""
    script, rows = {}, []
    for i in range(num):
        text = f"What is {i} and one?"
        answer = str(i + 1)
        first, second = [(answer, answer), ("0", answer), ("0", "0")][i % 3]
        script[text] = [
            ["let me think of it .", first],
            [" no , once more .", second],
        ]
        rows.append({"question": text, "answer": answer, "source": f"set {i % 2}", "kind": "exact"})
    (folder / "script.json").write_text(json.dumps(script))
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "script.json", folder / "questions.jsonl"


def recipe_of(folder: Path, **changes: Any) -> Recipe:
    script, questions = write_script(folder, 12)
    settings = {
        "model": f"scripted:{script}",
        "benchmarks": [str(questions)],
        "max_tokens": [0, 3, 64],
        "num_waits": [0, 1],
        "answer_tokens": 24,
        "batch_size": 3,
    } | changes
    return Recipe.model_validate({"name": "small", "out": str(folder), "evaluate": settings})


def run_of(recipe: Recipe) -> Run:
    return open_run(recipe.folder, recipe.name, recipe.model_dump(mode="json"))


def rows_of(stage: Stage) -> list[Generation]:
    """All rows, sorted, without token ids: a scripted engine numbers words as it meets them."""
    key = lambda g: (g.question_id, g.setting.label, g.repeat)  # noqa: E731
    bare = lambda s: s.model_copy(update={"token_ids": ()})  # noqa: E731
    rows = stage.rows("generations", Generation)
    return sorted((g.model_copy(update={"segments": tuple(map(bare, g.segments))}) for g in rows), key=key)


def test_the_grid_is_filled_and_graded_and_waits_fix_what_they_fix(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    run = run_of(recipe)
    stage = evaluate(recipe, run)
    assert stage.counts["out"] == 12 * 6
    findings = Findings(read_results(list(stage.rows("questions", Question)), stage.shards("generations")))
    assert [p.estimate.value for p in findings.by_waits] == pytest.approx([4 / 12, 8 / 12])
    (step,) = findings.steps
    assert (step.flips.fixed, step.flips.broken) == (4, 0)
    assert step.is_noise  # four of four: p = 0.125, and the report must say so
    assert findings.by_budget[0].estimate.value == 0


def test_evaluating_again_changes_nothing_and_computes_nothing(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    run = run_of(recipe)
    before = {p.name: p.read_bytes() for p in evaluate(recipe, run).folder.iterdir()}
    after = {p.name: p.read_bytes() for p in evaluate(recipe, run).folder.iterdir()}
    assert before == after


def test_a_killed_evaluation_goes_on_and_ends_with_the_same_rows(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    run = run_of(recipe)
    stage = evaluate(recipe, run)
    whole = rows_of(stage)
    kept = stage.shards("generations")[0].stat().st_mtime_ns
    stage.receipt_path.unlink()
    for shard in stage.shards("generations")[1:3]:
        shard.unlink()
    again = evaluate(recipe, run)
    assert rows_of(again) == whole
    assert again.shards("generations")[0].stat().st_mtime_ns == kept


def test_another_setting_computes_only_the_missing_cells(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    run = run_of(recipe)
    first = rows_of(evaluate(recipe, run))
    more = recipe_of(tmp_path, num_waits=[0, 1, 2])
    stage = evaluate(more, run)
    assert stage.figures["computed now"] == 12 * 3  # each budget with two waits
    rows = rows_of(stage)
    assert [r for r in rows if r in first] == first
    assert len(rows) == 12 * 9


def test_another_text_in_place_of_a_stop_is_a_method_of_its_own(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    run = run_of(recipe)
    evaluate(recipe, run)
    stage = evaluate(recipe_of(tmp_path, wait="Hmm"), run)
    findings = Findings(read_results(list(stage.rows("questions", Question)), stage.shards("generations")))
    assert [p.name for p in findings.by_waits] == ["no Wait", "1 Wait"]
    assert all(p.draws.setting.wait is None for p in [*findings.by_waits, *findings.by_budget])
    assert [p.draws.setting.wait for p in findings.others['waiting with "Hmm"']] == ["Hmm", "Hmm"]
    assert 'waiting with "Hmm"' in [m.name for m in findings.methods]


def test_two_processes_fill_the_same_cells_as_one(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = recipe_of(tmp_path / "a")
    two = recipe_of(tmp_path / "b", num_engines=2)
    assert rows_of(evaluate(one, run_of(one))) == rows_of(evaluate(two, run_of(two)))


def test_a_fault_in_a_process_is_told_in_the_words_of_the_fault(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, num_engines=2, model="nonsense:x")
    with pytest.raises(InputError, match="no engine knows the model 'nonsense:x'"):
        evaluate(recipe, run_of(recipe))


def test_without_a_model_the_error_says_to_train_one(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, model="")
    with pytest.raises(InputError, match="stage train has not finished"):
        evaluate(recipe, run_of(recipe))


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (
            [{"question": "a?"}, {"question": "b?", "answer": "1"}],
            "1 of 2 questions have no answer, the first is number 1",
        ),
        ([{"question": "a?", "answer": "1"}] * 2, "'a\\?' appears twice"),
    ],
)
def test_a_bad_benchmark_is_refused(tmp_path: Path, rows: list[dict[str, str]], complaint: str) -> None:
    recipe = recipe_of(tmp_path)
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=complaint):
        evaluate(recipe, run_of(recipe))


def test_an_unknown_benchmark_names_the_known_ones(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, benchmarks=["tinny"])
    with pytest.raises(InputError, match="Did you mean tiny"):
        evaluate(recipe, run_of(recipe))


def test_a_mistake_in_the_first_command_does_not_stand_in_the_way_of_the_right_one(tmp_path: Path) -> None:
    for wrong in ({"benchmarks": ["tinny"]}, {"model": "nonsense:x"}, {"min_tokens": [100]}):
        recipe = recipe_of(tmp_path, **wrong)
        with pytest.raises(InputError):
            evaluate(recipe, run_of(recipe))
    right = recipe_of(tmp_path)
    run = run_of(right)
    assert evaluate(right, run).counts["out"] == 72
    with pytest.raises(InputError, match="started with other settings"):
        evaluate(recipe_of(tmp_path, answer_tokens=12), run)


def test_what_the_generations_depend_on_is_named_when_it_changes_and_what_they_do_not_is_left_alone(
    tmp_path: Path,
) -> None:
    recipe = recipe_of(tmp_path)
    run = run_of(recipe)
    evaluate(recipe, run)
    assert evaluate(recipe_of(tmp_path, batch_size=5, num_engines=2), run).is_done
    for change in ({"grader": "mine:judge"}, {"rejection_tries": 3}, {"dtype": "float16"}):
        (name,) = change
        with pytest.raises(InputError, match=rf"started with other settings: config\.{name} was"):
            evaluate(recipe_of(tmp_path, **change), run)
    questions = tmp_path / "questions.jsonl"
    questions.write_text(questions.read_text().replace('"answer": "1"', '"answer": "2"'))
    with pytest.raises(InputError, match=r"other inputs: .*questions\.jsonl changed since"):
        evaluate(recipe, run)


def test_the_room_of_an_answer_fits_the_model_and_the_baselines_holds_its_reasoning() -> None:
    assert answer_room(Evaluate(), 32768) == 1024
    assert answer_room(Evaluate(), 512) == 128
    assert answer_room(Evaluate(answer_tokens=16), 512) == 16
    assert direct_room(Evaluate(max_tokens=[0, 64]), 512) == 64 + 128
    assert direct_room(Evaluate(), 512) == 512
    assert direct_room(Evaluate(direct_tokens=9), 512) == 9


def test_the_baseline_is_asked_with_its_own_room(tiny_random_checkpoint: Path, tmp_path: Path) -> None:
    model = f"hf:{tiny_random_checkpoint}"
    recipe = recipe_of(tmp_path, model=model, baseline=model, max_tokens=[40], num_waits=[0], num_questions=16)
    stage = evaluate(recipe, run_of(recipe))
    direct = [g for g in stage.rows("generations", Generation) if g.setting and g.setting.method == "direct"]
    thinking = [g for g in stage.rows("generations", Generation) if g.setting and g.setting.method != "direct"]
    cut = [g for g in direct if g.answer_finish == "length"]
    assert {g.answer_tokens for g in cut} <= {40 + 24}
    assert max(g.answer_tokens for g in direct) > 24 >= max(g.answer_tokens for g in thinking)


def test_the_type_of_the_weights_is_the_recipe_s_unless_a_reference_states_one(
    tiny_random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def load(reference: str, **options: Any) -> Any:
        loaded.append(str(next(load_engine(reference, **options).model.parameters()).dtype))
        return load_engine(reference, **options)

    monkeypatch.setattr("s1kit.evaluate.evaluate.load_engine", load)
    model = f"hf:{tiny_random_checkpoint}"
    changes = {"max_tokens": [4], "num_waits": [0], "num_questions": 2, "dtype": "bfloat16"}
    recipe = recipe_of(tmp_path, model=model, baseline=f"{model},dtype=float32", **changes)
    evaluate(recipe, run_of(recipe))
    assert loaded == ["torch.bfloat16", "torch.float32"]
    scripted = recipe_of(tmp_path, dtype="bfloat16")
    with pytest.raises(InputError, match="the engine scripted: has no option 'dtype'"):
        evaluate(scripted, open_run(tmp_path / "other", "other", {}))
