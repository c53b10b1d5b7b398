"""Which questions of a benchmark the training samples hold: word for word, in part, and not at all."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from s1kit.evaluate.evaluate import evaluate
from s1kit.records import Question, Sample, Trace
from s1kit.report.contamination import contamination
from s1kit.report.report import report
from tests.test_evaluate import recipe_of, run_of

LONG = "A train leaves the old station at noon and meets another train after exactly two hours on its way east."


def question(text: str) -> Question:
    return Question(text=text, solution="1", source="mine")


def test_copies_near_copies_and_shared_wording_are_told_apart() -> None:
    questions = [
        question(t) for t in ("What is one and one?", LONG, f"{LONG} How far did it go?", "Nothing alike here.")
    ]
    samples = [
        ("a", LONG.replace("noon", "dawn")),
        ("b", "Then it meets another train after exactly two hours on foot."),
        (questions[0].id, questions[0].text),
    ]
    found = contamination(questions, samples)
    assert found.exact == (questions[0].id,)
    by_id = {o.question_id: o for o in found.overlaps}
    assert list(by_id) == [questions[1].id, questions[2].id]
    whole, longer = by_id[questions[1].id], by_id[questions[2].id]
    # 20 words have 13 runs of eight; changing the eighth leaves the five that start after it.
    assert (whole.sample_id, round(whole.coverage * 13)) == ("a", 5)
    assert longer.coverage < whole.coverage
    assert found.near_copies == []
    assert whole.words in LONG.lower()


def test_wording_that_many_questions_of_the_benchmark_share_does_not_count() -> None:
    tail = "where m and n are relatively prime positive integers find m + n"
    questions = [question(f"Take the {i}. number {tail}") for i in range(4)]
    assert contamination(questions, [("a", f"Something else altogether {tail}")]).overlaps == ()
    assert len(contamination(questions[:3], [("a", f"Something else altogether {tail}")]).overlaps) == 3


def test_the_released_s1k_holds_a_question_of_math500_word_for_word(shared_data: Path) -> None:
    def rows(name: str) -> list[dict[str, str]]:
        with gzip.open(shared_data / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    questions = [question(row["question"]) for row in rows("bench_math500")]
    samples = [(q.id, q.text) for q in (question(row["question"]) for row in rows("s1k_questions_no_gpqa"))]
    found = contamination(questions, samples)
    assert len(found.exact) + len(found.near_copies) >= 1
    assert 20 < len(found.exact) + len(found.overlaps) < 135  # 135 share an 8-gram, boilerplate included


def test_the_report_warns_with_the_ids(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    run = run_of(recipe)
    evaluate(recipe, run)
    assert "Contamination" not in (report(recipe, run).folder / "report.html").read_text()
    asked = question("What is 3 and one?")
    trace = Trace(question=asked, teacher="t", thinking="hm", answer="4", thinking_tokens=1)
    curate = run.open("curate", config={}, seed=0)
    curate.write("samples", Sample, [Sample(trace=trace, picked_by="all")])
    curate.finish()
    (run.folder / "report" / "receipt.json").unlink()
    html = (report(recipe, run).folder / "report.html").read_text()
    assert "<strong>Contamination.</strong> 1 of the questions asked here are, word for word" in html
    assert f"<code>{asked.id}</code>" in html


def test_a_question_whose_authors_ask_for_it_is_not_shown_in_a_page(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    path = tmp_path / "questions.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[3]["licence"] = "CC BY 4.0; not to be republished in plain text"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = run_of(recipe)
    evaluate(recipe, run)
    html = (report(recipe, run).folder / "report.html").read_text()
    assert rows[3]["question"] not in html
    assert rows[4]["question"] in html
    assert question(rows[3]["question"]).id in html
