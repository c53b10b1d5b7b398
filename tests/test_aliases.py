"""Of several references any is right: in every stage that judges, and in `s1kit grade`."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from s1kit.concurrency import run_async
from s1kit.curate.difficulty import Attempt, judged
from s1kit.distill.drawing import Verifier
from s1kit.errors import InputError
from s1kit.evaluate.evaluate import evaluate, grade
from s1kit.grade import Case, case_of, load_grader
from s1kit.grade.files import grade_file
from s1kit.pool.sources import read_source
from s1kit.recipe import Recipe, Source
from s1kit.records import Generation, Question, Segment
from s1kit.stage import open_run

ASKED = Question(text="Who wrote it?", solution="Mark Twain", metadata={"aliases": ["Samuel Clemens", "S. L. Clemens"]})


def same_text(answer: str, solution: str, kind: str, question: str) -> bool:
    return answer.strip() == solution


@pytest.mark.parametrize(
    ("answer", "verdict"), [("Mark Twain", "correct"), ("Samuel Clemens.", "correct"), ("Charles Dickens", "wrong")]
)
def test_any_alias_is_right_wherever_an_answer_is_judged(answer: str, verdict: str) -> None:
    grader = load_grader()
    assert grader.grade([case_of(answer, ASKED)])[0].verdict == verdict
    attempt = Attempt(question_id=ASKED.id, student="s", repeat=0, answer=answer, verdict="abstain", evidence="")
    assert judged([attempt], [ASKED], grader)[0].verdict == verdict
    assert run_async(Verifier(grader).verdict(ASKED, answer)) == verdict
    segments = (Segment(origin="sampled", kind="answer", text=answer, num_tokens=1),)
    generation = Generation(question_id=ASKED.id, segments=segments, ending="closed")
    assert grade([generation], {ASKED.id: ASKED}, grader)[0].verdict == verdict


def test_the_alias_that_was_met_is_the_evidence_and_an_own_grader_is_asked_about_each() -> None:
    (one,) = load_grader().grade([case_of("Samuel Clemens", ASKED)])
    assert one.evidence.startswith("alias 'Samuel Clemens': ")
    own = load_grader(own=f"{__name__}:same_text")
    cases = [case_of(text, ASKED) for text in ("S. L. Clemens", "nobody")]
    assert [found.verdict for found in own.grade([*cases, Case("1", "1")])] == ["correct", "wrong", "correct"]


@pytest.mark.parametrize("aliases", [["0.5", "one half"], '["0.5", "one half"]'])
def test_grade_reads_aliases_of_a_row(aliases: Any, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"answer": text, "solution": "2/4 of it", "aliases": aliases} for text in ("one half", "two")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert grade_file(path, io.StringIO())["correct"] == 1
    path.write_text(json.dumps({"answer": "1", "solution": "1", "aliases": 3}))
    with pytest.raises(InputError, match="aliases is 3"):
        grade_file(path, io.StringIO())


def test_a_benchmark_with_aliases_is_judged_by_them_and_told_when_they_change(tmp_path: Path) -> None:
    script, benchmark = tmp_path / "script.json", tmp_path / "b.jsonl"
    script.write_text(json.dumps({"Who wrote it?": [["hm .", "Samuel Clemens"]]}))
    row = {"question": "Who wrote it?", "answer": {"value": "Mark Twain", "aliases": ["Samuel Clemens"]}}
    benchmark.write_text(json.dumps(row) + "\n")
    (read,) = read_source(Source(path=str(benchmark)), 0, [])
    assert read.metadata["aliases"] == ["Samuel Clemens"]
    evaluated = {"model": f"scripted:{script}", "benchmarks": [str(benchmark)], "max_tokens": [16], "answer_tokens": 8}
    recipe = Recipe.model_validate({"name": "r", "out": str(tmp_path), "evaluate": evaluated})
    run = open_run(recipe.folder, "r", {})
    (found,) = evaluate(recipe, run).rows("generations", Generation)
    assert found.verdict == "correct"
    benchmark.write_text(json.dumps(row).replace("Samuel", "S.") + "\n")
    with pytest.raises(InputError, match="changed since"):
        evaluate(recipe, run)
