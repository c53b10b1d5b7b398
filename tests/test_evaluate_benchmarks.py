"""Benchmarks by name and by file, published outputs, and other models, on rows made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from s1kit.errors import InputError
from s1kit.evaluate.benchmarks import BENCHMARKS, load_benchmarks, permuted, pin_of
from s1kit.evaluate.comparators import settings_of
from s1kit.evaluate.evaluate import evaluate
from s1kit.evaluate.published_outputs import read_published
from s1kit.recipe import Comparator
from s1kit.records import Generation
from tests.test_evaluate import recipe_of, run_of

ROW = {
    "Question": "Which is a noble gas?",
    "Correct Answer": "argon",
    "Incorrect Answer 1": "iron",
    "Incorrect Answer 2": "tin",
    "Incorrect Answer 3": "lead",
    "Record ID": "rec1",
    "High-level domain": "Chemistry",
}


@pytest.mark.parametrize(("name", "num"), [("gsm8k", 1319), ("olympiadbench", 675)])
def test_a_packaged_benchmark_is_the_pinned_one_and_needs_no_network(name: str, num: int) -> None:
    questions = load_benchmarks([name], None, 0)
    assert len(questions) == num
    assert pin_of(questions) == BENCHMARKS[name].ids_sha256
    assert {q.metadata["benchmark"] for q in questions} == {name}


def test_fewer_questions_are_drawn_with_the_seed_and_keep_their_order() -> None:
    whole = [q.id for q in load_benchmarks(["gsm8k"], None, 0)]
    some = [q.id for q in load_benchmarks(["gsm8k"], 50, 7)]
    assert some == [q for q in whole if q in set(some)]
    assert some == [q.id for q in load_benchmarks(["gsm8k"], 50, 7)]
    assert some != [q.id for q in load_benchmarks(["gsm8k"], 50, 8)]


@pytest.mark.parametrize("name", ["math500", "aime24", "aime25"])
def test_pins_are_those_of_the_copies_at_hand(
    name: str, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{name}.jsonl.gz").write_bytes((shared_data / f"bench_{name}.jsonl.gz").read_bytes())
    monkeypatch.setenv("S1KIT_BENCHMARKS", str(tmp_path))
    questions = load_benchmarks([name], None, 0)
    assert (pin_of(questions), len(questions)) == (BENCHMARKS[name].ids_sha256, BENCHMARKS[name].num)


def test_options_are_permuted_with_the_seed_and_the_order_is_recorded() -> None:
    seen = set()
    for seed in range(40):
        question = permuted(ROW, seed)
        order = question.metadata["permutation"]
        assert sorted(order) == [0, 1, 2, 3]
        assert question.solution == "ABCD"[order.index(0)]
        assert f"{question.solution}) argon" in question.text
        assert permuted(ROW, seed) == question
        seen.add(question.solution)
    assert seen == set("ABCD")


def test_a_file_in_the_shape_of_gpqa_becomes_choices(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(json.dumps(ROW) + "\n")
    (question,) = load_benchmarks([str(tmp_path / "mine.jsonl")], None, 0)
    assert question.metadata["kind"] == "choice"


def test_sample_files_of_lm_eval_are_read_as_generations(tmp_path: Path) -> None:
    row = {
        "doc_id": 0,
        "doc": {"problem": "What is 2 + 2?", "answer": "4"},
        "target": "4",
        "arguments": {"gen_args_0": {"arg_0": "prompt"}},
        "resps": [["<|im_start|>think\ntwo and two\n<|im_start|>answer\nThe answer is 4.", "I say 5"]],
        "filtered_resps": ["4"],
        "exact_match": 1,
    }
    (tmp_path / "samples.jsonl").write_text(json.dumps(row) + "\n")
    (question, first), (_, second) = read_published(str(tmp_path / "samples.jsonl"), "theirs")
    assert question.solution == "4"
    assert (first.thinking.strip(), first.answer, first.thinking_tokens) == ("two and two", "The answer is 4.", 3)
    assert (second.thinking, second.answer, second.repeat) == ("", "I say 5", 1)
    assert "words" in first.note


def test_published_outputs_are_graded_beside_the_model_and_never_twice(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    rows = [
        {"question": f"What is {i} and one?", "solution": str(i + 1), "thinking": "hm", "answer": str(i + 1)}
        for i in range(12)
    ]
    (tmp_path / "theirs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with_theirs = recipe_of(tmp_path, comparators=[{"file": str(tmp_path / "theirs.jsonl"), "name": "theirs"}])
    run = run_of(recipe)
    evaluate(recipe, run)
    stage = evaluate(with_theirs, run)
    theirs = [g for g in stage.rows("generations", Generation) if g.setting and g.setting.model == "theirs"]
    assert [g.verdict for g in theirs] == ["correct"] * 12
    num = len(stage.shards("generations"))
    assert len(evaluate(with_theirs, run).shards("generations")) == num


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({}, "names none of model, file and numbers"),
        ({"model": "chat:openai/o1", "file": "x.jsonl"}, "model, file"),
        ({"model": "hf:here"}, "not a remote model"),
    ],
)
def test_a_comparator_that_makes_no_sense_is_refused(given: dict[str, object], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        settings_of([Comparator.model_validate(given)])
