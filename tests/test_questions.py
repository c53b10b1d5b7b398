"""Files as people have them: encodings, separators, shapes of rows, and what cannot be kept."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import json
import lzma
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s1kit.distill.teachers import RecordedTeacher
from s1kit.errors import InputError
from s1kit.questions import Reject, question_from, read_questions
from s1kit.records import Question, Trace

BOM = "\ufeff"


def read(path: Path, content: str | bytes, **more: Any) -> list[Question]:
    data = content.encode("utf-8") if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return list(read_questions(str(path), **more))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", BOM + '{"question":"1+1?","answer":"2"}\n'),
        ("a.jsonl.gz", BOM + '{"question":"1+1?","answer":"2"}\n'),
        ("a.csv", BOM + "question,answer\r\n1+1?,2\r\n"),
        ("a.csv", BOM + "question;answer\r\n1+1?;2\r\n"),
        ("a.csv", BOM + '"question";"answer"\n"1+1?";"2"\n'),
        ("a.csv", "question\tanswer\n1+1?\t2\n"),
        ("a.csv", "sep=;\nquestion;answer\n1+1?;2\n"),
        ("a.csv", "question;answer;;\n1+1?;2;;\n;;;\n"),
        ("a.tsv", "question\tanswer\n1+1?\t2\n"),
        ("a.CSV", "question,answer\n1+1?,2\n"),
        ("a.csv", "question\tanswer\n1+1?\t2\n".encode("utf-16")),
        ("a.json", '[{"question": "1+1?", "answer": "2"}]'),
        ("a.json", json.dumps([{"question": "1+1?", "answer": "2"}], indent=2)),
        ("a.json", json.dumps({"version": 1, "data": [{"question": "1+1?", "answer": "2"}]}, indent=2)),
        ("a.json", json.dumps({"question": "1+1?", "answer": "2"}, indent=2)),
        ("a.json", '{"question": "1+1?", "answer": "2"}\n'),
        ("a.jsonl", '{"question": "1+1?", "answer": "2", "x": NaN}\r{"question": "1+1?", "answer": "2"}'),
        ("a.csv", "question\tanswer\n1+1?\t2\n".encode("utf-16-le")),
        ("a.txt", "question\tanswer\r\n1+1?\t2\r\n".encode("utf-16")),
        ("questions.gz", gzip.compress(b'{"question":"1+1?","answer":"2"}\n', mtime=0)),
        ("a.csv", "question\tanswer\n1+1?\t2\n".encode("utf-32")),
        ("a.csv", "# exported by hand\nMy questions,,\n,,\nQuestion Text;Correct Answer\n1+1?;2\n"),
        ("a.csv", "QUESTION,ANSWER\n1+1?,2\n"),
        ("a.csv.bz2", bz2.compress(b"Q,A\n1+1?,2\n")),
        ("a.jsonl", gzip.compress(gzip.compress(b'{"question":"1+1?","answer":"2"}\n', mtime=0), mtime=0)),
        ("a.jsonl.xz", lzma.compress(b'{"question":"1+1?","answer":"2"}\n')),
        ("a.jsonl.zst", pa.compress(b'{"question":"1+1?","answer":"2"}\n', "zstd", asbytes=True)),
        ("a.jsonl", '# by hand\n{"question":"1+1?","answer":"2"},\n{"question":"1+1?","answer":"2"},\n'),
        ("a.json", '[\n  {"question": "1+1?", "answer": "2",},\n]'),
        ("a.json", '{"q1": {"question": "1+1?", "answer": "2"}, "q2": {"question": "1+1?", "answer": "2"}}'),
        ("a.json", '{"columns": ["question", "answer"], "index": [0], "data": [["1+1?", "2"]]}'),
        ("a.json", '{"question": {"0": "1+1?", "1": "1+1?"}, "answer": {"0": "2", "1": "2"}}'),
        ("a.json", '{"question": ["1+1?", "1+1?"], "answer": ["2", "2"]}'),
        (
            "a.json",
            '{"features": [{"name": "question"}], "rows": [{"row_idx": 0, "row": {"question":"1+1?","answer":"2"}}]}',
        ),
    ],
)
def test_the_same_question_is_read_however_its_file_was_saved(tmp_path: Path, name: str, content: str | bytes) -> None:
    for question in read(tmp_path / name, content):
        assert (question.text, question.solution) == ("1+1?", "2")
        assert question.metadata.keys() <= {"source_id"}


@pytest.mark.parametrize(
    ("name", "content", "advice"),
    [
        ("a.json", '{"train": [{"question": "1+1?"}], "test": [{"question": "2+2?"}]}', "as a file of its own"),
        ("a.json", '{"question": ["1+1?", "2+2?"], "answer": ["2"]}', "save it as one object a row"),
        ("a.csv", 'question,answer\n"1+1?,2\n2+2?,4\n', "A quote that opens in it is not closed"),
        ("a.csv", 'question,answer\n"Say \\"hi\\", please",hi\n', "escapes quotes by a backslash"),
        ("a.csv", "question,answer\nСколько 2+2?,4\n".encode("cp1251"), "WINDOWS-1251, whatever it was saved in"),
        ("a.json", '[["1+1?", "2"]]', 'Write each row as {"question"'),
        ("a.json", '[\n{"question": "1+1?" "answer": "2"}\n]', "Correct it at that place"),
        ("a.jsonl", "{'question': '1+1?', 'x': None}\n", "write it with json.dumps"),
        ("a.zip", "PK", "Unpack it"),
        ("a.txt", "1+1?\n", "with the line 'question' above"),
        ("a.jsonl.lz4", "x", "compress it as .gz"),
        ("a.tgz", "x", "Unpack it"),
        ("a.yaml", "- question: 1+1?\n", "Save its rows as JSONL"),
        ("a.csv", "Frage\nFür drei Gäste?\n".encode("cp1252"), "iconv -f WINDOWS-1252"),
        ("a.csv", "Frage\nFür drei Gäste?\n".encode("cp850"), "iconv -f CP850"),
        ("a.csv", "Frage\nFür drei Gäste?\n".encode("mac_roman"), "iconv -f MACINTOSH"),
        ("a.csv", "Find it.,2,2,4,6,B\n", "put a line of names above it"),
        ("a.jsonl", '{"row": {"data": "What is 1+1?"}}\n', 'text = "row.data"'),
        ("a.jsonl", '{"id": "e", "out": {"rows": [{"raw": "What is 1+1?"}]}}\n', "'out.rows' is a row"),
        ("a.jsonl", '{"task_id": "t/0", "ask": "Do it so.", "tell": "And so."}\n', '"{ask}\\n\\n{tell}"'),
        ("a.csv", "What is 1 plus 1?,2\nWhat is 2 plus 2?,4\n", "put a line of names above it"),
        ("a.jsonl", '{"dialogue": [{"speaker": "user", "utterance": "What is 1+1?"}]}\n', "dialogue[0].utterance"),
    ],
)
def test_a_file_whose_question_is_not_found_is_refused_with_advice_for_its_kind(
    tmp_path: Path, name: str, content: str | bytes, advice: str
) -> None:
    with pytest.raises(InputError) as refused:
        read(tmp_path / name, content)
    assert advice in refused.value.fix


def test_arrow_files_are_read_with_and_without_an_index_and_parquet_under_any_name(tmp_path: Path) -> None:
    table = pa.table({"qa": [{"question": "1+1?", "answer": {"text": "2"}}]})
    with pa.OSFile(str(tmp_path / "a.feather"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    with pa.OSFile(str(tmp_path / "b.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    pq.write_table(table, tmp_path / "c.jsonl")
    for name in ("a.feather", "b.arrow", "c.jsonl"):
        (question,) = read_questions(str(tmp_path / name))
        assert (question.text, question.solution) == ("1+1?", "2")
    (tmp_path / "d.arrow").write_bytes(b"no table")
    with pytest.raises(InputError, match="not Arrow"):
        list(read_questions(str(tmp_path / "d.arrow")))
    with pytest.raises(InputError, match=r"is a folder.*\*\.arrow"):
        list(read_questions(str(tmp_path)))


def test_the_index_that_pandas_writes_is_the_id_of_a_row_and_other_nameless_cells_are_refused(tmp_path: Path) -> None:
    (question,) = read(tmp_path / "a.csv", ",question,answer\n7,1+1?,2\n")
    assert (question.text, question.metadata) == ("1+1?", {"source_id": "7"})
    with pytest.raises(InputError, match="without a name"):
        read(tmp_path / "a.csv", ",question,answer\nnote,1+1?,2\n")


def test_what_is_left_out_of_a_file_is_said(tmp_path: Path) -> None:
    for name, content, said in (
        ("a.csv", "# one\n# two\nquestion,answer\n1+1?,2\n", "2 lines above the header left out"),
        ("b.jsonl", '# one\n{"question":"1+1?"}\n{"question":"2+2?"}\n', "comments left out"),
        ("c.json", '[{"question":"1+1, ]?",}]', "needless commas left out"),
    ):
        shapes: Counter[str] = Counter()
        (first, *_) = read(tmp_path / name, content, shapes=shapes)
        assert said in next(iter(shapes))
        assert first.text.startswith("1+1")


def test_a_separator_and_a_shape_are_told_in_words(tmp_path: Path) -> None:
    shapes: Counter[str] = Counter()
    read(tmp_path / "a.csv", "question;answer\n1+1?;2\n", shapes=shapes)
    assert list(shapes) == ["a.csv: CSV separated by ;, question from 'question', answer from 'answer'"]


def test_a_cell_of_any_size_is_read(tmp_path: Path) -> None:
    (question,) = read(tmp_path / "a.csv", f'question,answer\n"{"x" * 300_000}",2\n')
    assert len(question.text) == 300_000


HUGE = '{"question":"1+1?","answer":' + "9" * 5000 + "}"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (HUGE, "answer is an integer of 5,000 digits"),
        ('{"question":"a b","answer":"2\\ud83d"}', r"answer holds half of a surrogate pair"),
        ('{"question":"a b","meta":{"x":["\\udc00"]}}', r"meta\.x\[0\] holds half"),
        ('{"question":"a b","answer":Infinity}', "Infinity is no value"),
        ('{"question":"a b","question":"c"}', "'question' stands twice"),
        ("[" * 100_000, "not JSON"),
        (b'{"question":"caf\xe9","answer":"2"}', "not UTF-8; it looks like Latin-1"),
    ],
)
def test_what_cannot_be_kept_is_a_rejected_row_with_its_line(tmp_path: Path, line: str | bytes, complaint: str) -> None:
    bad = line.encode() if isinstance(line, str) else line
    content = b'{"question":"1+1?"}\n' + bad + b'\n{"question":"2+2?"}\n'
    with pytest.raises(InputError, match=complaint) as caught:
        read(tmp_path / "a.jsonl", content)
    assert caught.value.where.endswith("a.jsonl:2")
    rejects: list[Reject] = []
    assert len(read(tmp_path / "a.jsonl", content, rejects=rejects)) == 2
    assert len(rejects) == 1
    json.dumps(rejects, ensure_ascii=False).encode("utf-8")


def test_a_latin_1_csv_is_refused_with_a_repair_that_works(tmp_path: Path) -> None:
    content = "question,answer\ncafé?,2\n"
    with pytest.raises(InputError, match=r"a\.csv:2.*iconv -f WINDOWS-1252"):
        read(tmp_path / "a.csv", content.encode("latin-1"))
    assert read(tmp_path / "b.csv", content.encode("latin-1").decode("cp1252"))[0].text == "café?"


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two columns are called 'answer'"):
        read(tmp_path / "a.csv", "question,answer,answer\n1,2,3\n")
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["question", "question"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match="two columns are called 'question'"):
        list(read_questions(str(tmp_path / "a.parquet")))


SHAPES: list[tuple[dict[str, Any], str, str]] = [
    (
        {"instruction": "Identify the error.", "input": "He finnished.", "output": "finished"},
        "Identify the error.\n\nHe finnished.",
        "finished",
    ),
    ({"instruction": "Say hi.", "input": "", "output": "hi"}, "Say hi.", "hi"),
    (
        {"messages": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "<think>hm</think>2"}]},
        "1+1?",
        "2",
    ),
    ({"conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]}, "1+1?", "2"),
    (
        {
            "system": "Think.",
            "conversations": [
                {"from": "user", "value": "1+1?"},
                {
                    "from": "assistant",
                    "value": "<|begin_of_thought|>hm<|end_of_thought|>\n<|begin_of_solution|>2<|end_of_solution|>",
                },
            ],
        },
        "1+1?",
        "2",
    ),
    (
        {"prompt": [{"role": "user", "content": "1+1?"}], "completion": [{"role": "assistant", "content": "2"}]},
        "1+1?",
        "2",
    ),
    (
        {"prompt": [{"role": "user", "content": "1+1?"}], "reward_model": {"ground_truth": "2", "style": "rule"}},
        "1+1?",
        "2",
    ),
    ({"prompt": [{"role": "user", "content": [{"type": "text", "text": "1+1?"}]}], "answer": "2"}, "1+1?", "2"),
    ({"problem": "1+1?", "answer": "2", "generations": ["<think>x</think>2"]}, "1+1?", "2"),
    (
        {"question": "Which is prime?", "choices": ["4", "6", "7", "8"], "answer": 2},
        "Which is prime?\n(A) 4\n(B) 6\n(C) 7\n(D) 8",
        "C",
    ),
    ({"question": "Which is prime?", "choices": ["4", "6", "7", "8"], "answer": "7"}, "", "C"),
    ({"question": "Which is prime?", "options": ["4", "6", "7", "8"], "answer": "C", "answer_index": 2}, "", "C"),
    ({"question": "Which?", "options": ["A)21", "B)22"], "correct": "B"}, "Which?\n(A) 21\n(B) 22", "B"),
    (
        {"question": "Which?", "choices": {"text": ["a", "b"], "label": ["1", "2"]}, "answerKey": "2"},
        "Which?\n(A) a\n(B) b",
        "B",
    ),
    ({"question": "Which?", "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": 3}, "", "D"),
    ({"question": "Capital?", "answer": {"value": "Paris", "aliases": ["Paris", "Lutetia"]}}, "Capital?", "Paris"),
    (
        {"question": "Who?", "context": "Ann won.", "answers": {"text": ["Ann", "Ann!"], "answer_start": [0, 0]}},
        "Ann won.\n\nWho?",
        "Ann",
    ),
    ({"question": {"text": "1+1?", "solution": "2"}, "teacher": "t", "thinking": "x", "answer": "y"}, "1+1?", "2"),
    # Label Studio, Argilla, promptfoo, OpenAI's batches: the row stands in an object of another.
    ({"id": 1, "annotations": [{"id": 5}], "data": {"question": "1+1?", "answer": "2"}}, "1+1?", "2"),
    (
        {"id": "x", "fields": {"instruction": "Add.", "input": "1+1?", "output": "2"}, "status": "done"},
        "Add.\n\n1+1?",
        "2",
    ),
    ({"vars": {"question": "1+1?"}, "assert": [{"type": "equals", "value": "2"}], "ideal": "2"}, "1+1?", "2"),
    ({"custom_id": "r", "body": {"messages": [{"role": "user", "content": "1+1?"}]}, "answer": "2"}, "1+1?", "2"),
    # Pairs and judged replies.
    ({"prompt": "1+1?", "chosen": "2", "rejected": "3"}, "1+1?", "2"),
    (
        {
            "prompt": "1+1?",
            "chosen": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}],
            "rejected": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "3"}],
        },
        "1+1?",
        "2",
    ),
    (
        {
            "input": {"messages": [{"role": "user", "content": "1+1?"}], "tools": []},
            "preferred_output": [{"role": "assistant", "content": "2"}],
            "non_preferred_output": [{"role": "assistant", "content": "3"}],
        },
        "1+1?",
        "2",
    ),
    ({"prompt": "1+1?", "completion": "2", "label": True}, "1+1?", "2"),
    (
        {"contents": [{"role": "user", "parts": [{"text": "1+1?"}]}, {"role": "model", "parts": [{"text": "2"}]}]},
        "1+1?",
        "2",
    ),
    # Options in columns of their own.
    ({"Question": "Prime?", "Option A": "4", "Option B": "7", "Correct Answer": "B"}, "Prime?\n(A) 4\n(B) 7", "B"),
    ({"question": "Prime?", "A": "4", "B": "6", "C": "7", "answer": "7"}, "Prime?\n(A) 4\n(B) 6\n(C) 7", "C"),
    ({"question": "Prime?", "option1": 4, "option2": 6, "option3": 7, "answer": 3}, "Prime?\n(A) 4\n(B) 6\n(C) 7", "C"),
    ({"input": "Prime?", "choices": ["4", "7"], "target": "B"}, "Prime?\n(A) 4\n(B) 7", "B"),
    (
        {"text": "A passage.", "question": "Prime?", "choices": ["4", "7"], "gold_index": 1},
        "A passage.\n\nPrime?\n(A) 4\n(B) 7",
        "B",
    ),
]


@pytest.mark.parametrize(("row", "text", "solution"), SHAPES)
def test_a_published_shape_is_read_by_itself(row: dict[str, Any], text: str, solution: str) -> None:
    question = question_from(row)
    assert question.text == (text or question.text)
    assert question.solution == solution


def test_a_reply_that_was_judged_undesirable_is_no_reference() -> None:
    assert question_from({"prompt": "1+1?", "completion": "3", "label": False}).solution is None


def test_a_column_called_a_is_an_answer_beside_q_alone() -> None:
    assert question_from({"Q": "1+1?", "A": "2"}).solution == "2"
    assert question_from({"question": "1+1?", "a": "5"}).solution is None


def test_aliases_of_an_answer_are_kept() -> None:
    assert question_from(SHAPES[15][0]).metadata["aliases"] == ["Lutetia"]


@pytest.mark.parametrize(
    "row",
    [
        {"Question": "Which?", "Correct Answer": "r", "Incorrect Answer 1": "w", "Incorrect Answer 2": "v"},
        {"question": "Which?", "correct_answer": "r", "distractor1": "w", "distractor2": "v", "support": "s"},
        {"question": "Which?", "best_answer": "r", "correct_answers": ["r"], "incorrect_answers": ["w", "v"]},
    ],
)
def test_a_right_answer_among_wrong_ones_gets_the_letter_of_its_place(row: dict[str, Any]) -> None:
    question = question_from(row)
    assert f"({question.solution}) r" in question.text
    assert question == question_from(row)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"question": "Which?", "choices": ["4", "6"], "answer": 9}, "none of the 2 options"),
        ({"question": "Which?", "choices": {"text": []}, "answer": "A"}, "the options in .choices. are"),
        ({"question": "Which?", "choices": [1, 2, 3], "answer": 2}, "may be an index"),
        ({"question": "Which?", "answer": {"a": 1}}, "an object with a"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}]}, "a tool or its result"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "narrator", "content": "b"}]}, "the role 'narrator'"),
        ({"messages": [{"role": "system", "content": "a"}]}, "no message of the user"),
        ({"question": "Which?", "choices": "['4' '6' '7']", "answer": 1}, "a printed numpy array.*Parquet or JSONL"),
        ({"question": "Which?", "choices": "[4, 6", "answer": 1}, "neither a JSON nor a Python list"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "the picture in .messages."),
        ({"messages": [{"role": "user", "content": {"a": 1}}]}, "no text"),
    ],
)
def test_a_shape_whose_parts_do_not_fit_is_refused(row: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        question_from(row)


def test_columns_reach_inside_and_the_advice_works_when_followed() -> None:
    row = {"data": {"items": [{"q": "1+1?"}]}, "meta": '{"truth": [7, 2]}'}
    question = question_from(row, {"text": "data.items[0].q", "answer": "meta.truth[-1]"})
    assert (question.text, question.solution) == ("1+1?", "2")
    with pytest.raises(InputError, match=r'text = "tehtävä"') as caught:
        question_from({"tehtävä": "1+1?", "nr": "1"})
    assert question_from({"tehtävä": "1+1?", "nr": "1"}, {"text": "tehtävä"}).text == "1+1?"
    assert "columns" in caught.value.where
    with pytest.raises(InputError, match="Did you mean answer"):
        question_from(row, {"anwser": "meta"})


def replies(path: Path, row: dict[str, Any], num: int = 1) -> list[Trace]:
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    teacher = RecordedTeacher(path)
    return [asyncio.run(teacher.ask(Question(text="1+1?"), draw)) for draw in range(num)]


@pytest.mark.parametrize(
    "row",
    [
        {"question": "1+1?", "thinking": "hm", "answer": "2"},
        {"question": "1+1?", "response": "<think>hm</think>\n2"},
        {"problem": "1+1?", "answer": "2", "generations": ["<think>hm</think>2"]},
        {"messages": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "<think>hm</think>2"}]},
        {
            "prompt": [{"role": "user", "content": "1+1?"}],
            "completion": [{"role": "a", "content": "<think>hm</think>2"}],
        },
        {"instruction": "1+1?", "input": "", "output": "<think>hm</think>2"},
        {"question": "1+1?", "thinking_trajectories": ["hm"], "attempt": "2", "solution": "3"},
        {"question": "1+1?", "response": "<think>hm</think>2", "finish_reason": "end_turn"},
    ],
)
def test_a_recorded_row_of_any_shape_is_split_into_thinking_and_answer(tmp_path: Path, row: dict[str, Any]) -> None:
    (trace,) = replies(tmp_path / "r.jsonl", row)
    assert (trace.thinking, trace.answer, trace.finish_reason) == ("hm", "2", "stop")


def test_a_recorded_reply_keeps_its_finish_reason(tmp_path: Path) -> None:
    row = {"question": "1+1?", "thinking": "hm", "answer": "2", "finish_reason": "length"}
    assert replies(tmp_path / "r.jsonl", row)[0].finish_reason == "length"
    assert (
        replies(tmp_path / "r.jsonl", row | {"finish_reason": "what"})[0].note
        == "the finish reason 'what' is not known"
    )


def test_the_traces_of_all_teachers_of_s1k_are_draws(tmp_path: Path) -> None:
    row = {
        "question": "1+1?",
        "deepseek_thinking_trajectory": "deep",
        "deepseek_attempt": "2",
        "gemini_thinking_trajectory": "gem",
        "gemini_attempt": "two",
    }
    found = replies(tmp_path / "r.jsonl", row, 2)
    assert [(t.thinking, t.answer) for t in found] == [("deep", "2"), ("gem", "two")]


TURNS = [
    {"from": "human", "value": "What is 2 + 2?"},
    {"from": "gpt", "value": "4"},
    {"from": "human", "value": "And 3 + 3?"},
    {"from": "gpt", "value": "6"},
]


@pytest.mark.parametrize(
    ("row", "text", "reference", "shape"),
    [
        ({"conversations": TURNS}, "What is 2 + 2?", "4", "the first exchange of chat messages in conversations"),
        ({"conversations": str(TURNS)}, "What is 2 + 2?", "4", "the first exchange of chat messages"),
        (
            {"prompt": "Hi?", "messages": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Ja"}]},
            "Hi?", "Ja", "chat messages in messages",
        ),
        ({"input": [{"role": "user", "content": "5?"}], "output": "<think>hm</think>five"}, "5?", "five", "in input"),
        ({"question": "Which?", "choices": "['4', '6', '7']", "answer": "2"}, "Which?\n(A) 4\n(B) 6\n(C) 7", "C",
         "multiple choice"),
        ({"question": "Who?", "answer": "{'value': 'Ada', 'aliases': []}"}, "Who?", "Ada", "an answer with aliases"),
        ({"instruction": "Sum up.", "context": "Long.", "response": "Short."}, "Sum up.\n\nLong.", "Short.", "Dolly"),
        ({"query": "1 + 1?", "response": "It is 2.", "type": "x"}, "1 + 1?", "It is 2.", "solution from 'response'"),
        ({"question": "1 + 1?", "response": "<think>hm</think>2"}, "1 + 1?", None, "question from 'question'"),
        ({"input": "not True is", "target": "False"}, "not True is", "False", "question from 'input'"),
        ({"question": "Why?", "reference_answer": "So.", "responses": []}, "Why?", "So.", "'reference_answer'"),
        ({"context": "P.", "query": "Q?", "options": ["a", "b"], "correct_option": 1}, "P.\n\nQ?\n(A) a\n(B) b", "B",
         "correct_option"),
        ({"question": "Q?", "options": {"A": "x", "B": "y"}, "answer": "y", "answer_idx": "B"}, "Q?\n(A) x\n(B) y", "B",
         "answer_idx"),
    ],
)  # fmt: skip
def test_further_shapes_of_published_data_sets_are_read(
    tmp_path: Path, row: dict[str, Any], text: str, reference: str | None, shape: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    shapes: Counter[str] = Counter()
    (question,) = read_questions(str(path), shapes=shapes)
    assert (question.text, question.metadata.get("final_answer", question.solution)) == (text, reference)
    assert shape in next(iter(shapes))
