"""The paper's sixteen sources, the Hub, filters and templates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s1kit.errors import InputError
from s1kit.pool import sources
from s1kit.pool.evaluation_names import builtin_sets, shipped_sets
from s1kit.pool.evaluation_sets import hash_texts, load_set
from s1kit.pool.s1_sources import against_paper, paper_counts, s1_sources
from s1kit.pool.sources import keeps, read_source, shaped
from s1kit.questions import read_questions
from s1kit.recipe import Source
from s1kit.records import Question


def test_the_papers_sixteen_sources_sum_to_59029() -> None:
    assert len(paper_counts()) == 16
    assert sum(paper_counts().values()) == 59029
    assert {source.name for source in s1_sources(optional=True)} == paper_counts().keys()


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


def fake_hub(monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]]) -> None:
    def load(source: Source) -> Iterator[dict[str, Any]]:
        return iter(rows)

    monkeypatch.setattr(sources, "_load_dataset", load)


def test_a_gpqa_row_becomes_a_choice_whose_letter_is_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub(monkeypatch, [GPQA_ROW, GPQA_ROW | {"Question": "What?"}, GPQA_ROW | {"Question": "Who?"}])
    (gpqa,) = [s for s in s1_sources(optional=False) if s.name == "GPQA"]
    questions: list[Question] = list(read_source(gpqa, 0))
    for question in questions:
        letter = question.metadata["final_answer"]
        assert f"({letter}) right" in question.text
        assert question.solution == "Because."
        assert question.source == "GPQA"
    assert len({q.metadata["final_answer"] for q in questions}) > 1, "the right option is not always the same letter"


def test_rows_are_kept_by_value_by_limit_and_by_being_there() -> None:
    row = {"language": "EN", "Year": 2021, "Picture": None, "answer": ["x"]}
    for keep in ({"language": "EN"}, {"Year": "<=2021"}, {"Picture": ""}, {"answer": "not empty"}):
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
