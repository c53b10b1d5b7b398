"""The paper's sixteen sources, the Hub, filters and templates."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from s1kit.errors import InputError
from s1kit.pool.evaluation_sets import builtin_sets, hash_texts, load_set, shipped_sets
from s1kit.pool.hub import hub_files
from s1kit.pool.hub_pools import against_paper, paper_counts, pool_sources
from s1kit.pool.sources import expand, keeps, read_source, shaped
from s1kit.questions import read_questions
from s1kit.recipe import Source
from s1kit.records import Question


def test_the_papers_sixteen_sources_sum_to_59029() -> None:
    assert len(paper_counts()) == 16
    assert sum(paper_counts().values()) == 59029
    assert {source.name for source in pool_sources("s1", optional=True)} == paper_counts().keys()


def test_counts_are_set_beside_the_papers() -> None:
    compared = against_paper({"GPQA": 300}, {"GPQA": 280})["GPQA"]
    assert compared == {"paper": 348, "read": 300, "dropped": 20, "kept": 280}
    assert against_paper({"tiny/add": 5}, {}) == {}


GPQA_ROW = {
    "Question": "Which?",
    "Correct Answer": "right",
    "Incorrect Answer 1": "w1",
    "Incorrect Answer 2": "w2",
    "Incorrect Answer 3": "w3",
    "Explanation": "Because.",
}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """A file of rows in the form its ending says."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        case ".csv":
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        case ".json":
            path.write_text(json.dumps(rows), encoding="utf-8")
        case _:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


MULTIPLE = {"query": "P. Q: Which? Answer Choices: (A)1 (B)2\nA: Among A through B, the answer is", "gold": [1]}
HUB_ROWS: dict[str, list[dict[str, Any]]] = {
    "AI-MO/NuminaMath-CoT": [
        {"source": "aops_forum", "problem": "N?", "solution": "It is 1.", "messages": []},
        {"source": "synthetic", "problem": "M?", "solution": "2", "messages": []},
    ],
    "simplescaling/openaimath": [
        {"problem": "A?", "solution": "It is 1.", "answer": "1", "unique_id": "train/algebra/1.json"},
        {"problem": "B?", "solution": "It is 2.", "answer": "2", "unique_id": "test/algebra/2.json"},
    ],
    "EleutherAI/hendrycks_math": [{"problem": "H?", "level": "Level 1", "type": "Algebra", "solution": "It is 3."}],
    "GAIR/OlympicArena": [
        {"problem": "O?", "language": "EN", "modality": "text-only"},
        {"problem": "Z?", "language": "ZH", "modality": "text-only"},
    ],
    "KbsdJames/Omni-MATH": [{"problem": "K?", "solution": "It is 4.", "answer": "4", "source": "hmmt"}],
    "0xharib/xword1": [{"instruction": "Solve.", "input": "Clue (4)", "output": "word"}],
    "Hothan/OlympiadBench": [{"question": "B?", "solution": ["It is 5."], "final_answer": ["5"]}],
    "di-zhang-fdu/AIME_1983_2024": [
        {"ID": "1983-I-1", "Year": 1983, "Question": "I?", "Answer": "60"},
        {"ID": "2024-II-1", "Year": 2024, "Question": "J?", "Answer": "73"},
    ],
    "TIGER-Lab/TheoremQA": [{"Question": "T?", "Answer": "6", "Answer_type": "integer", "Picture": None}],
    "codegenning/usacobench_formatted": [{"question": "U?", "starter_code": ""}],
    "daman1209arora/jeebench": [{"subject": "phy", "question": "E?", "gold": "B", "type": "MCQ"}],
    "Idavidrein/gpqa": [GPQA_ROW, GPQA_ROW | {"Question": "What?"}, GPQA_ROW | {"Question": "Who?"}],
    "OpenDFM/SciEval": [{"question": "S?", "answer": ["A"]}, {"question": "X?", "answer": None}],
    "simplescaling/s1-prob": [{"question": "P?", "solution": "It is 7."}],
    "livecodebench/code_generation_lite": [
        {"question_content": "L?", "difficulty": "hard"},
        {"question_content": "Q?", "difficulty": "easy"},
    ],
    "simplescaling/s1-teasers": [{"Question": "R?", "Answer": "8"}],
    "openai/gsm8k": [{"question": "G?", "answer": "It is 9.\n#### 9"}],
    "di-zhang-fdu/College_Math_Test": [{"question": "C?", "answer": "10"}],
    "cais/mmlu": [{"question": "Which?", "subject": "x", "choices": ["1", "2", "3", "4"], "answer": 2}],
}


def hub_layout(folder: Path, given: list[Source]) -> Path:
    """A folder with one small file a pattern, in the layout of each data set."""
    for source in given:
        for pattern in source.files:
            rows = HUB_ROWS.get(source.hub, [MULTIPLE | {"choices": ["(A)1", "(B)2"]}])
            write_rows(folder / source.hub / pattern.replace("*", "00000"), rows)
    return folder


def test_every_source_of_the_paper_is_read_from_files_in_the_hubs_layout(tmp_path: Path) -> None:
    given = pool_sources("s1")
    folder = str(hub_layout(tmp_path, given))
    found = {s.name: list(read_source(s, 0, hub_folder=folder)) for s in reversed(given)}
    assert found.keys() == paper_counts().keys()
    texts = {name: [q.text for q in questions] for name, questions in found.items()}
    assert all(texts.values())
    assert all(q.source == name for name, questions in found.items() for q in questions)
    assert texts["NuminaMath"] == ["N?"]
    assert texts["AIME"] == ["I?"]
    assert texts["OlympicArena"] == ["O?"] * 7, "one file a subject"
    assert texts["LiveCodeBench"] == ["L?"] * 3
    assert texts["xword"] == [
        "Solve the crossword puzzle. You are presented with a clue as input and the number of letters in brackets."
        "\n\nClue (4)"
    ]
    (agieval,) = found["AGIEval"]
    assert (agieval.text, agieval.solution) == ("P.\n\nWhich?\n(A) 1\n(B) 2", "B")
    assert found["OlympiadBench"][0].metadata["final_answer"] == "5"
    assert found["OmniMath"][0].metadata["final_answer"] == "4"


def test_the_mathematical_pool_is_read_from_files_in_the_hubs_layout(tmp_path: Path) -> None:
    given = pool_sources("math")
    folder = str(hub_layout(tmp_path, given))
    found = {s.name: list(read_source(s, 0, hub_folder=folder)) for s in given}
    assert [q.text for q in found["MATH-test"]] == ["B?"]
    assert [q.text for q in found["MATH-train"]] == ["H?"]
    assert found["GSM8K"][0].solution == "It is 9.\n#### 9"
    assert len(found["MMLU-STEM"]) == 18
    assert found["MMLU-STEM"][0].solution == "C"
    assert all(found.values())


def test_a_pool_reads_the_files_that_its_figures_came_from_where_they_are_there(shared_data: Path) -> None:
    given = pool_sources("math", hub_folder=str(shared_data))
    assert sum(1 for s in given for _ in read_source(s, 0)) == 27643


def test_some_of_a_pool_can_be_named() -> None:
    assert {s.name for s in pool_sources("math", only=["GSM8K", "AIME"])} == {"GSM8K", "AIME"}
    with pytest.raises(InputError, match="no source 'GSM8k'"):
        pool_sources("math", only=["GSM8k"])


def test_num_and_sample_hold_for_each_data_set_of_a_pool(tmp_path: Path) -> None:
    for name in ("pool_math_train.jsonl", "pool_gsm8k_train.jsonl"):
        rows = [{"question": f"{name} asks {n}?", "answer": str(n)} for n in range(50)]
        with gzip.open(tmp_path / f"{name}.gz", "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    first = Source(builtin="math", only=["MATH-train", "GSM8K"], num=5)
    drawn = first.model_copy(update={"sample": True})
    read = {
        given.sample: [[q.solution for q in read_source(s, 7)] for s in expand(given, str(tmp_path))]
        for given in (first, drawn)
    }
    assert read[False] == [["0", "1", "2", "3", "4"]] * 2
    assert [len(set(each)) for each in read[True]] == [5, 5]
    assert all([int(n) for n in each if n] == sorted(int(n) for n in each if n) for each in read[True])
    again = [[q.solution for q in read_source(s, 7)] for s in expand(drawn, str(tmp_path))]
    other = [[q.solution for q in read_source(s, 8)] for s in expand(drawn, str(tmp_path))]
    assert again == read[True] != other


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (Source(builtin="math", template="{a}"), "template has no effect on 'math'"),
        (Source(builtin="math", keep={"a": "b"}), "keep has no effect on 'math'"),
        (Source(builtin="tiny", only=["add"]), "only has no effect on 'tiny'"),
        (Source(path="a.jsonl", only=["MATH-train"]), "only has no effect on a source with path"),
        (Source(path="a.jsonl", split="test"), "split has no effect on a source with path"),
        (Source(hub="a/b", files=["x.jsonl"], subset="main"), "subset has no effect on named files"),
        (Source(path="a.jsonl", sample=True), "sample without num draws nothing"),
    ],
)
def test_a_setting_that_a_source_would_not_use_is_refused(given: Source, named: str) -> None:
    with pytest.raises(InputError, match=re.escape(named)):
        [list(read_source(each, 0)) for each in expand(given)]


def test_the_commit_of_every_pinned_data_set_is_a_full_one() -> None:
    pins = [s.revision for pool in ("s1", "math") for s in pool_sources(pool) if s.revision]
    assert len(pins) > 15
    assert all(re.fullmatch("[0-9a-f]{40}", pin) for pin in pins)


def test_a_data_set_without_the_file_is_told_with_its_page(tmp_path: Path) -> None:
    write_rows(tmp_path / "a/b" / "data" / "test.jsonl", [{"question": "Q?"}])
    with pytest.raises(InputError, match=r"a/b has no file train.jsonl.*datasets/a/b/tree/main"):
        hub_files(Source(hub="a/b", files=["train.jsonl"]), str(tmp_path))


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (403, "GatedRepo", "is gated.*Accept its terms.*HF_TOKEN"),
        (404, "RepoNotFound", "does not exist, was removed or is private"),
        (404, "RevisionNotFound", "has no revision 0123.*commits/main"),
        # Slow: the client asks a server that fails five times, with pauses.
        pytest.param(
            500,
            "",
            r"cannot be read.*hf download a/b --repo-type dataset --revision 0123\w+ --local-dir FOLDER/a/b",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_gated_gone_or_unreachable_data_set_is_told_with_its_repair(status: int, code: str, told: str) -> None:
    """A subprocess, because the client reads the Hub's address when it is imported."""
    with HubServer(status, code) as endpoint:
        done = read_in_a_process(endpoint)
    assert re.search(told, done), done


def test_a_data_set_is_downloaded_and_its_commit_known(tmp_path: Path) -> None:
    with HubServer(200, "") as endpoint:
        done = read_in_a_process(endpoint)
    assert done == f"What is 1 + 1? {COMMIT}"


COMMIT = "0123456789abcdef0123456789abcdef01234567"

READ = """
from s1kit.errors import InputError
from s1kit.pool.hub import hub_files
from s1kit.pool.sources import read_source
from s1kit.recipe import Source
source = Source(hub="a/b", files=["data/*.jsonl"], revision="COMMIT")
try:
    print(next(read_source(source, 0)).text, hub_files(source).commit, end="")
except InputError as error:
    print(error, end="")
"""


def read_in_a_process(endpoint: str) -> str:
    with tempfile.TemporaryDirectory() as home:
        env = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": home, "HF_HUB_DISABLE_XET": "1"}
        env.pop("HF_HUB_OFFLINE", None)
        code = READ.replace("COMMIT", COMMIT)
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


class HubServer:
    """Speaks as much of the Hub's protocol as a download of one file needs, or answers with one status."""

    def __init__(self, status: int, code: str) -> None:
        body = json.dumps({"question": "What is 1 + 1?", "answer": "2"}).encode() + b"\n"
        info = {"id": "a/b", "sha": COMMIT, "siblings": [{"rfilename": "data/train.jsonl"}, {"rfilename": "x.bin"}]}
        tree = [
            {"type": "file", "path": "data/train.jsonl", "size": len(body), "oid": "1" * 40},
            {"type": "file", "path": "x.bin", "size": 1, "oid": "2" * 40},
        ]

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if status != 200:
                    return self.answer(status, b"{}", {"X-Error-Code": code, "X-Error-Message": "no"})
                if "/resolve/" in self.path:
                    assert "x.bin" not in self.path, "only the named files are downloaded"
                    headers = {"X-Repo-Commit": COMMIT, "ETag": '"1"'}
                    return self.answer(200, body, headers)
                return self.answer(200, json.dumps(tree if "/tree/" in self.path else info).encode(), {})

            do_HEAD = do_GET

            def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def test_a_gpqa_row_becomes_a_choice_whose_letter_is_its_answer(tmp_path: Path) -> None:
    (gpqa,) = [s for s in pool_sources("s1") if s.name == "GPQA"]
    questions: list[Question] = list(read_source(gpqa, 0, hub_folder=str(hub_layout(tmp_path, [gpqa]))))
    for question in questions:
        letter = question.metadata["final_answer"]
        assert f"({letter}) right" in question.text
        assert question.solution == "Because."
        assert question.source == "GPQA"
    assert len({q.metadata["final_answer"] for q in questions}) > 1, "the right option is not always the same letter"


def test_rows_are_kept_by_value_by_limit_and_by_being_there() -> None:
    row = {"language": "EN", "Year": 2021, "Picture": None, "answer": ["x"]}
    for keep in ({"language": "EN"}, {"language": "E*"}, {"Year": "<=2021"}, {"Picture": ""}, {"answer": "not empty"}):
        assert keeps(Source(hub="x", keep=keep), row)
    for keep in ({"language": "ZH"}, {"Year": "<=2020"}, {"answer": ""}, {"Picture": "not empty"}):
        assert not keeps(Source(hub="x", keep=keep), row)
    with pytest.raises(InputError, match="no column 'Years'"):
        keeps(Source(hub="x", keep={"Years": 1}), row)


def test_a_template_puts_columns_together_a_line_for_each_of_a_list() -> None:
    source = Source(hub="x", template="{passage}\n\n{question}\n{options}")
    assert shaped(source, {"passage": None, "question": "Which?", "options": ["(A) 1", "(B) 2"]})["text"] == (
        "Which?\n(A) 1\n(B) 2"
    )
    with pytest.raises(InputError, match="no column 'passage'"):
        shaped(source, {"question": "Which?"})


def test_evaluation_sets_are_known_by_name() -> None:
    assert {"math500", "aime24", "aime25"} <= set(shipped_sets())
    assert {"gpqa-diamond", "tiny", "livecodebench"} <= set(builtin_sets())


def test_the_shipped_hashes_are_those_of_the_questions_today(shared_data: Path) -> None:
    for name, file in (("math500", "math500"), ("aime24", "aime24"), ("hmmt24-25", "hmmt_etc_24_25")):
        texts = [q.text for q in read_questions(str(shared_data / f"bench_{file}.jsonl.gz"))]
        for tier in ("s1", "strict"):
            made, shipped = hash_texts(name, texts, tier), load_set(name, tier)
            assert set(made.hashes.tolist()) == set(shipped.hashes.tolist()), "run runs/hash_evaluation_sets.py again"
            assert len(made.hashes) == len(shipped.hashes)


@pytest.mark.network
def test_a_real_hub_data_set_can_be_read() -> None:
    (gsm,) = read_source(Source(hub="openai/gsm8k", subset="main", split="train", num=1), 0)
    assert gsm.text
