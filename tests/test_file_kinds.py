"""Rows and files of published data sets, spreadsheets and annotation tools, each with what it must be read as.

Shapes from the sets' cards and loaders: NuminaMath-1.5, Skywork-OR1, Open-Reasoner-Zero, MMLU-Redux, SciBench, ARC,
HellaSwag, PIQA, WinoGrande, COPA, SVAMP, MathQA, TruthfulQA, SQuAD, SYNTHETIC-1, Search-R1, AM-Thinking, AGIEval.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s1kit.distill.teachers import RecordedTeacher
from s1kit.errors import InputError
from s1kit.questions import Reject, question_from, read_questions
from s1kit.questions.options import read_options
from s1kit.records import Question, Trace

XY = "Q?\n(A) x\n(B) y"
ROWS: dict[str, tuple[Any, str, str | None]] = {
    "NuminaMath-1.5, a proof": (
        {"problem": "Prove X.", "solution": "Because.", "answer": "proof", "question_type": "proof"},
        "Prove X.", "Because."),
    "Skywork-OR1": (
        {"prompt": [{"role": "user", "content": "P?"}], "reward_model": {"ground_truth": '["2"]'}}, "P?", "2"),
    "Search-R1": (
        {"prompt": [{"role": "user", "content": "P?"}], "reward_model": {"ground_truth": {"target": ["2", "two"]}}},
        "P?", "2"),
    "SYNTHETIC-1": ({"prompt": "P?", "verification_info": '{"ground_truth": "2"}', "llm_response": "x"}, "P?", "2"),
    "AM-Thinking": (
        {"messages": [{"role": "user", "content": "P?", "info": {"reference_answer": "2"}},
                      {"role": "assistant", "content": "<think>hm</think><answer>It is 2.</answer>"}]}, "P?", "2"),
    "R1-Zero's template": (
        {"messages": [{"role": "user", "content": "P?"},
                      {"role": "assistant", "content": "<think>hm</think><answer>2</answer>"}]}, "P?", "2"),
    "curator": ({"question": "P?", "reasoning": "hm", "ground_truth_solution": "2"}, "P?", "2"),
    "SciBench": ({"problem_text": "P?", "answer_number": "1.5", "unit": "m", "solution": ""}, "P?", "1.5"),
    "SVAMP": ({"Body": "He has 2.", "Question": "How many?", "Answer": 2.0}, "He has 2.\n\nHow many?", "2"),
    "OpenAI's evals": ({"input": [{"role": "user", "content": "P?"}], "ideal": ["2", "two"]}, "P?", "2"),
    "a message in place of a list": ({"prompt": {"role": "user", "content": "P?"}, "answer": "2"}, "P?", "2"),
    "several right answers": ({"question": "P?", "answers": ["2", "two"]}, "P?", "2"),
    "German": ({"Frage": "P?", "Antwort": "2"}, "P?", "2"),
    "Chinese": ({"题目": "P?", "答案": "2"}, "P?", "2"),
    "MMLU-Redux": (
        {"question": "Q?", "choices": ["x", "y"], "answer": 0, "error_type": "wrong_groundtruth",
         "correct_answer": "1"}, XY, "B"),
    "MMLU-Redux, without a right answer": (
        {"question": "Q?", "choices": ["x", "y"], "answer": 0, "error_type": "no_correct_answer"}, XY, None),
    "ARC": (
        {"question": {"stem": "Q?", "choices": [{"text": "x", "label": "A"}, {"text": "y", "label": "B"}]},
         "answerKey": "B"}, XY, "B"),
    "HellaSwag": ({"ctx": "Q?", "ctx_a": "Q", "endings": ["x", "y"], "label": "1"}, XY, "B"),
    "PIQA": ({"goal": "Q?", "sol1": "x", "sol2": "y", "label": 1}, XY, "B"),
    "COPA": ({"premise": "Q?", "choice1": "x", "choice2": "y", "label": 0}, XY, "A"),
    "WinoGrande": ({"sentence": "Q?", "option1": "x", "option2": "y", "answer": "2"}, XY, "B"),
    "AGIEval's own": ({"query": "Q?", "choices": ["(A)x", "(B)y"], "gold": [1]}, XY, "B"),
    "MathQA": ({"Problem": "Q?", "options": "a ) x , b ) y", "correct": "b", "Rationale": "since"}, XY, "B"),
    "lines of options": ({"question": "Q?", "choices": "A. x\nB. y", "answer": "B"}, XY, "B"),
    "options as objects": (
        {"question": "Q?", "answer": "B", "options": [{"key": "A", "value": "x"}, {"key": "B", "value": "y"}]},
        XY, "B"),
    "options that say which is right": (
        {"question": "Q?", "options": [{"text": "x", "is_correct": False}, {"text": "y", "is_correct": True}]},
        XY, "B"),
    "options by small letters": ({"question": "Q?", "options": {"a": "x", "b": "y"}, "answer": "b"}, XY, "B"),
    "letter and text": ({"question": "Q?", "choices": ["x", "y"], "answer": "(B) y"}, XY, "B"),
    "TruthfulQA": (
        {"question": "Q?", "mc1_targets": {"choices": ["x", "y"], "labels": [0, 1]}, "mc2_targets": {}}, XY, "B"),
    "QuAIL": ({"context": "P.", "question": "Q?", "answers": ["x", "y"], "correct_answer_id": 1}, f"P.\n\n{XY}", "B"),
    "BIG-bench": ({"input": "Q?", "target_scores": {"x": 0, "y": 1}}, XY, "B"),
    "fewer options than columns": ({"question": "Q?", "choices": ["x", "y", None], "answer": 1}, XY, "B"),
    "a map of Parquet": ({"question": "Q?", "options": [("A", "x"), ("B", "y")], "answer": "B"}, XY, "B"),
    "DROP": ({"passage": "P.", "question": "Q?", "answers_spans": {"spans": ["2"], "types": ["n"]}}, "P.\n\nQ?", "2"),
    "PubMedQA": (
        {"question": "Q?", "context": {"contexts": ["P."]}, "long_answer": "l", "final_decision": "yes"},
        "P.\n\nQ?", "yes"),
    "LiveBench": ({"category": "math", "turns": ["P?"], "ground_truth": "2"}, "P?", "2"),
    "ProofNet": ({"nl_statement": "Show X.", "nl_proof": "By Y.", "formal_statement": "t"}, "Show X.", "By Y."),
    "several right options": (
        {"question": "Q?", "options": ["x", "y", "z"], "answer": ["C", "A"]}, f"{XY}\n(C) z", "A, C"),
    "an empty cell made the index a float": ({"question": "Q?", "choices": ["x", "y"], "answer": 1.0}, XY, "B"),
}  # fmt: skip


@pytest.mark.parametrize("what", ROWS)
def test_a_row_is_read_with_its_reference(what: str) -> None:
    row, text, reference = ROWS[what]
    question = question_from(row)
    assert question.text == text
    assert question.metadata.get("final_answer", question.solution) == reference


@pytest.mark.parametrize("what", ["several right options", "letter and text"])
def test_questions_with_options_are_graded_as_choices(what: str) -> None:
    assert question_from(ROWS[what][0]).metadata["kind"] == "choice"


def test_a_text_is_split_into_options_only_where_its_letters_stand_in_order() -> None:
    for text in ("A fine day. B", "x, y", "C. x\nD. y", "(A) x"):
        assert read_options(text, "options") is None
    found = read_options("(A) See B. It (B) y", "options")
    assert found is not None
    assert found.texts == ["See", "It (B) y"]  # letters before a sign are marks; what follows the last is its text


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"question": "Q?", "options": "x or y", "answer": "x"}, "the options in 'options' are 'x or y'"),
        ({"question": "Q?", "choices": [["x"], ["y"]], "answer": 0}, "the options in 'choices'"),
        ({"question": "Q?", "choice1": "x", "choice2": "y", "correct_index": 1}, "may count from 0 or from 1"),
        ({"question": "Q?", "answerA": "x", "answerB": "y", "label": "1"}, "may count from 0 or from 1"),
        ({"question": "Q?", "Question": "P?", "answer": "2"}, "both may hold the question"),
    ],
)
def test_what_may_be_read_in_two_ways_or_none_is_refused(row: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        question_from(row)


def test_of_two_columns_of_one_name_the_named_one_is_read() -> None:
    assert question_from({"question": "Q?", "Question": "P?"}, {"text": "Question"}).text == "P?"


FILES: dict[str, tuple[str, str | bytes, str]] = {
    "lists of messages": (
        "a.json",
        '[[{"from": "human", "value": "1+1?"}, {"from": "assistant", "ground_truth": {"value": "2"}}]]',
        "chat messages in messages, reference in a message",
    ),
    "SQuAD": (
        "a.json",
        json.dumps({"version": "1", "data": [
            {"paragraphs": [{"qas": [{"question": "1+1?", "id": "i", "answers": [{"text": "2", "answer_start": 0}]}]}]}
        ]}),
        "the list 'data' of a JSON object, the rows in its 'paragraphs/qas'",
    ),
    "objects one after another": (
        "a.json", json.dumps({"question": "1+1?", "answer": "2"}, indent=1) * 2, "one after another"),
    "a JSON sequence": ("a.jsonl", '\x1e{"question":"1+1?","answer":"2"}\n\x1e{"question":"1+1?","answer":"2"}\n', ""),
    "a spreadsheet's title": ("a.csv", "Tabelle 1;;\n\nFrage;Antwort;Punkte\n1+1?;2;3\n", "above the header left out"),
    "carets": ("a.csv", "question^answer\n1+1?^2\n", "separated by ^"),
    "a protected number": ("a.csv", 'question,answer\n1+1?,="2"\n', ""),
}  # fmt: skip


@pytest.mark.parametrize("what", FILES)
def test_a_file_is_read_and_it_is_said_how(tmp_path: Path, what: str) -> None:
    name, content, said = FILES[what]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    shapes: Counter[str] = Counter()
    for question in read_questions(str(tmp_path / name), shapes=shapes):
        assert (question.text, question.metadata.get("final_answer", question.solution)) == ("1+1?", "2")
    assert any(said in shape for shape in shapes)


def test_a_title_above_columns_of_unknown_names_is_no_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Liste;;\n;;\nTehtävä;Vastaus;n\n1+1?;2;3\n", encoding="utf-8")
    (question,) = read_questions(str(tmp_path / "a.csv"), {"text": "Tehtävä", "answer": "Vastaus"})
    assert (question.text, question.solution, question.metadata) == ("1+1?", "2", {"n": "3"})


def test_commas_in_a_table_of_one_column_are_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('question\n1, 2 or 3?\n"Say ""x"", 4?"\n', encoding="utf-8")
    shapes: Counter[str] = Counter()
    found = [question.text for question in read_questions(str(tmp_path / "a.csv"), shapes=shapes)]
    assert found == ["1, 2 or 3?", 'Say "x", 4?']
    assert "one column" in next(iter(shapes))


def test_parquet_is_read_compressed_once_more_and_with_bytes_for_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"question": [b"1+1?"], "answer": [2.0]}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    for name in ("a.parquet", "b.parquet.gz"):
        (question,) = read_questions(str(tmp_path / name))
        assert (question.text, question.solution) == ("1+1?", "2")
    pq.write_table(pa.table({"question": [b"\xff\xfe"]}), tmp_path / "c.parquet")
    with pytest.raises(InputError, match="'question' holds bytes that are no UTF-8"):
        list(read_questions(str(tmp_path / "c.parquet")))


@pytest.mark.parametrize(
    ("name", "start", "kind", "advice"),
    [
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:a\nsize 1\n", "Git LFS", "git lfs pull"),
        ("a.jsonl", b"\n<!DOCTYPE html><html>Sign in</html>", "a web page", "Download the file itself"),
        ("a.csv", b"PK\x03\x04\x14\x00", "an Excel sheet", "save a sheet as CSV"),
        ("a.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel sheet", "Save the sheet"),
        ("a.json", b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML", "Open it in an editor"),
    ],
)
def test_a_file_of_another_kind_is_told_by_what_it_begins_with(
    tmp_path: Path, name: str, start: bytes, kind: str, advice: str
) -> None:
    (tmp_path / name).write_bytes(start)
    with pytest.raises(InputError, match=kind) as refused:
        list(read_questions(str(tmp_path / name)))
    assert advice in refused.value.fix


def test_the_errors_of_a_spreadsheet_are_no_answers(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("question,answer\n1+1?,#N/A\n2+2?,#REF!\n", encoding="utf-8")
    rejects: list[Reject] = []
    (question,) = read_questions(str(tmp_path / "a.csv"), rejects=rejects)
    assert (question.text, question.solution) == ("1+1?", None)
    assert "#REF!" in rejects[0].complaint


def test_the_parts_of_a_rendered_sample_are_no_rows(tmp_path: Path) -> None:
    row = {"segments": [{"label": False, "text": "<s>[INST] P? [/INST]"}, {"label": True, "text": "2</s>"}]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(InputError, match="no column holds the question"):
        list(read_questions(str(tmp_path / "a.jsonl")))


T = "<think>hm</think>2"
ASKED = {"role": "user", "content": "1+1?"}


def said(content: Any, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **fields}


WHOLE = [("hm", "2", "stop")]
TRACES: dict[str, tuple[dict[str, Any], list[tuple[str, str, str]]]] = {
    "OpenMathReasoning": ({"problem": "1+1?", "generated_solution": T, "expected_answer": "2"}, WHOLE),
    "curator": (
        {"question": "1+1?", "reasoning": "hm", "deepseek_solution": "2", "ground_truth_solution": "two"}, WHOLE),
    "OpenThoughts": (
        {"problem": "1+1?", "deepseek_reasoning": "hm", "deepseek_solution": "2", "ground_truth_solution": "t"}, WHOLE),
    "Nemotron, reasoning on": ({"messages": [ASKED, said(T)], "reasoning": "on"}, WHOLE),
    "a field of the message": ({"messages": [ASKED, said("2", reasoning_content="hm")], "reasoning": "on"}, WHOLE),
    "Multilingual-Thinking": (
        {"user": "1+1?", "analysis": "hm", "final": "2", "messages": [ASKED, said("2", thinking="hm")]}, WHOLE),
    "Llama-Nemotron": ({"input": [ASKED], "output": T, "reasoning": "on"}, WHOLE),
    "DeepMath": ({"question": "1+1?", "final_answer": "2", "r1_solution_1": T, "r1_solution_2": T}, WHOLE * 2),
    "SYNTHETIC-1": ({"prompt": "1+1?", "llm_response": T, "verification_info": "{}"}, WHOLE),
    "NeMo-Skills": ({"problem": "1+1?", "generation": "2", "reasoning_content": "hm", "expected_answer": "2"}, WHOLE),
    "lm-eval": ({"doc": {"problem": "1+1?"}, "resps": [[T]], "target": "2"}, WHOLE),
    "a batch's line": (
        {"prompt": "1+1?", "response": {"body": {"choices": [{"message": said("2", reasoning="hm")}]}}}, WHOLE),
    "a saved completion": (
        {"question": "1+1?", "completion": {
            "choices": [{"message": said("2", reasoning="hm"), "finish_reason": "length"}]}}, [("hm", "2", "length")]),
    "Anthropic's blocks": (
        {"question": "1+1?", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "2"}]},
        WHOLE),
    "Gemini's parts": (
        {"contents": [{"role": "user", "parts": [{"text": "1+1?"}]},
                      {"role": "model", "parts": [{"text": "hm", "thought": True}, {"text": "2"}]}]}, WHOLE),
    "a preferred reply": ({"prompt": "1+1?", "chosen": T, "rejected": "<think>no</think>3"}, WHOLE),
    "any server's finish reason": (
        {"question": "1+1?", "thinking": "hm", "answer": "2", "stop_reason": "stop_str"}, WHOLE),
    "a filter": ({"question": "1+1?", "thinking": "hm", "answer": "2", "finish_reason": "content_filter"},
                 [("hm", "2", "refused")]),
    "a mark of being cut": ({"question": "1+1?", "thinking": "hm", "answer": "2", "truncated": True},
                            [("hm", "2", "length")]),
    "incomplete reasoning": (
        {"problem": "1+1?", "generations": [T, "<think>hm, and"], "is_reasoning_complete": [True, False]},
        [("hm", "2", "stop"), ("hm, and", "", "length")]),
}  # fmt: skip


def traces(path: Path, row: dict[str, Any], num: int) -> list[Trace]:
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    teacher = RecordedTeacher(path)
    return [asyncio.run(teacher.ask(Question(text="1+1?"), draw)) for draw in range(num)]


@pytest.mark.parametrize("what", TRACES)
def test_the_replies_of_a_recorded_row_are_found(tmp_path: Path, what: str) -> None:
    row, expected = TRACES[what]
    found = traces(tmp_path / "r.jsonl", row, len(expected))
    assert [(trace.thinking, trace.answer, trace.finish_reason) for trace in found] == expected


def test_a_recorded_row_without_a_reply_is_refused_with_its_columns(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no reply; its columns are question, difficulty"):
        traces(tmp_path / "r.jsonl", {"question": "1+1?", "difficulty": "easy"}, 1)


def test_the_model_that_wrote_a_recorded_reply_is_named_by_its_column(tmp_path: Path) -> None:
    row = {"problem": "1+1?", "generated_solution": T, "generation_model": "DeepSeek-R1"}
    (trace,) = traces(tmp_path / "r.jsonl", row, 1)
    assert trace.teacher == "DeepSeek-R1"
