"""Rows and files as published sets, annotation tools and trackers of experiments have them, each read as what it is.

The cases lie in `file_reports.jsonl`: what each must be read as was written down before it was tried. The shapes come
from the sets' cards and loaders on the Hub, from their own repositories, and from the export pages of Anki, Argilla,
Label Studio, LangSmith, Langfuse, Braintrust, MLflow, DeepEval and Ragas.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from s1kit.errors import InputError
from s1kit.evaluate.benchmarks import load_benchmarks
from s1kit.questions import question_from, read_questions
from s1kit.records import Question
from tests.test_file_kinds import traces

CASES = [json.loads(line) for line in Path(__file__).with_name("file_reports.jsonl").read_text("utf-8").splitlines()]


def cases(kind: str) -> pytest.MarkDecorator:
    found = [case for case in CASES if case["case"] == kind]
    assert found
    return pytest.mark.parametrize("case", found, ids=[case["name"] for case in found])


def reference(question: Question) -> Any:
    return question.metadata.get("final_answer", question.solution)


@cases("row")
def test_a_row_is_read_with_its_reference(case: dict[str, Any]) -> None:
    if case.get("refused"):
        with pytest.raises(InputError):
            question_from(case["row"])
        return
    question = question_from(case["row"])
    if right := case.get("choice"):  # its place among the wrong ones is drawn
        assert question.text.startswith("Q?\n(A) ")
        assert f"({reference(question)}) {right}" in question.text
        return
    assert [question.text, reference(question)] == case["reads"]
    assert question.metadata.get("aliases") == case.get("aliases") or "aliases" not in case
    assert question.solution == case.get("worked", question.solution)


@cases("file")
def test_a_file_is_read_as_what_it_is(tmp_path: Path, case: dict[str, Any]) -> None:
    path = tmp_path / case["file"]
    path.write_text(case["content"], encoding="utf-8")
    if case.get("refused"):
        with pytest.raises(InputError) as refused:
            list(read_questions(str(path)))
        assert refused.value.fix
        return
    assert [[question.text, reference(question)] for question in read_questions(str(path))] == case["reads"]


@cases("trace")
def test_the_replies_of_a_recorded_row_are_found(tmp_path: Path, case: dict[str, Any]) -> None:
    found = traces(tmp_path / "r.jsonl", case["row"], len(case["replies"]))
    assert [[trace.thinking, trace.answer, trace.finish_reason] for trace in found] == case["replies"]


def test_a_picture_is_let_pass_where_the_text_is_named() -> None:
    row = {"question": "P?", "image": "data:image/png;base64,iVBOR", "answer": "2"}
    with pytest.raises(InputError, match="needs the picture in 'image'"):
        question_from(row)
    assert question_from(row, {"text": "question"}).solution == "2"
    assert question_from(row | {"image": "https://example.org/a.png"}).solution == "2"  # of a page, not of the question


def test_what_a_question_was_asked_under_is_said(tmp_path: Path) -> None:
    row = {"system": "Be brief.", "instruction": "1+1?", "output": "2", "tools": '[{"name": "calc"}]'}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    shapes: Counter[str] = Counter()
    (question,) = read_questions(str(tmp_path / "a.jsonl"), shapes=shapes)
    assert question.metadata["system"] == "Be brief."
    assert list(shapes) == ["a.jsonl: Alpaca (instruction, output), system and tools kept as metadata"]


@pytest.mark.parametrize(
    ("row", "advice"),
    [
        ({"premise": "A man sleeps at home.", "hypothesis": "He is awake.", "label": 2}, "{premise}\\n\\n{hypothesis}"),
        ({"input_ids": [1], "labels": [1]}, "None of them is a text"),
    ],
)
def test_the_repair_names_columns_that_are_there(row: dict[str, Any], advice: str) -> None:
    with pytest.raises(InputError) as refused:
        question_from(row)
    assert advice in refused.value.fix


@pytest.mark.parametrize(("numbers", "letters"), [([1, 4, 2, 3], "ADBC"), ([2, 0, "3", 1], "CADB"), ([1, 2, 2], None)])
def test_a_file_tells_whether_its_numbers_count_from_0_or_1(
    tmp_path: Path, numbers: list[int | str], letters: str | None
) -> None:
    rows = [
        {"question": f"Q{i}?", **dict(zip("ABCD", "xyzw", strict=True)), "answer": n} for i, n in enumerate(numbers)
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for read in (lambda: list(read_questions(str(path))), lambda: load_benchmarks([str(path)], None, 0)):
        if letters is None:
            with pytest.raises(InputError, match="may count from 0 or from 1"):
                read()
        else:
            assert "".join(map(reference, read())) == letters


def test_a_benchmark_says_how_it_is_read_and_advises_what_benchmarks_have(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"question": "1+1?", "answer": "2"}\n', encoding="utf-8")
    shapes: Counter[str] = Counter()
    load_benchmarks([str(path)], None, 0, shapes)
    assert shapes == {"mine: question from 'question', answer from 'answer'": 1}
    path.write_text('{"riddle": "1+1?", "answer": "2"}\n', encoding="utf-8")
    with pytest.raises(InputError) as refused:
        load_benchmarks([str(path)], None, 0)
    assert "columns =" not in refused.value.fix
    assert "`question`" in refused.value.fix
    path.write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="holds no question"):
        load_benchmarks([str(path)], None, 0)


def test_a_list_of_which_all_parts_are_asked_is_said_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"question": "x^2 = 5x - 6?", "answer": ["2", "3"]}\n', encoding="utf-8")
    shapes: Counter[str] = Counter()
    assert [reference(question) for question in read_questions(str(path), shapes=shapes)] == ["2, 3"]
    assert list(shapes) == ["a.jsonl: question from 'question', answer from 'answer', all parts of a list"]


def test_several_parts_of_an_answer_are_all_asked_for_by_a_benchmark(tmp_path: Path) -> None:
    row = {"question": "P?", "solution": ["S"], "final_answer": ["a", "b"], "is_multiple_answer": True}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (question,) = load_benchmarks([str(tmp_path / "a.jsonl")], None, 0)
    assert (question.solution, reference(question)) == ("S", "a, b")


def test_a_tag_amid_a_text_is_no_picture() -> None:
    assert question_from({"question": "What does <image> mean in SVG?"}).text
    for text in ("<image>\nWhat is it?", "What is it? <image>", "Compare <image 1> to <image_2>."):
        with pytest.raises(InputError, match="needs a picture"):
            question_from({"question": text})


def test_a_column_whose_name_says_little_is_a_reference_only_as_text() -> None:
    for value in ([{"text": "a", "score": 5}, {"text": "b", "score": 1}], {"tokens": 5}):
        for name in ("output", "expected", "reference"):
            assert question_from({"question": "P?", name: value}).solution is None
