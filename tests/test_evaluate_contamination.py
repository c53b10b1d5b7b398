"""Which questions of a benchmark the training samples hold: word for word, in part, and not at all."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from s1kit.evaluate.evaluate import evaluate
from s1kit.pool.collect import collect
from s1kit.recipe import Recipe
from s1kit.records import Dropped, Question, Sample, Trace
from s1kit.report.contamination import contamination
from s1kit.report.report import report
from s1kit.stage import open_run
from tests.test_evaluate import recipe_of, run_of

LONG = "A train leaves the old station at noon and meets another train after exactly two hours on its way east."


def question(text: str) -> Question:
    return Question(text=text, solution="1", source="mine")


def test_copies_and_near_copies_are_found_and_shared_wording_is_not() -> None:
    questions = [
        question(t) for t in ("What is one and one?", LONG, f"{LONG} How far did it go?", "Nothing alike here.")
    ]
    samples = [
        ("a", LONG.replace("noon", "dawn")),  # the seventh of 20 words: 6 of 13 runs of eight are left
        ("b", f"Listen: {LONG.upper()}"),
        ("c", "Then it meets another train after exactly two hours on foot."),
        (questions[0].id, questions[0].text),
    ]
    found = contamination(questions, samples)
    assert found.exact == (questions[0].id,)
    assert [(o.question_id, o.sample_id) for o in found.overlaps] == [(q.id, "b") for q in questions[1:3]]
    whole, longer = found.overlaps
    assert whole.coverage == 1.0
    assert longer.coverage == 13 / 18
    assert whole.words in LONG.lower()
    assert contamination(questions, [samples[0], samples[2]]).overlaps == ()


def test_the_spelling_of_latex_does_not_hide_a_copy() -> None:
    text = r"Let $x$ be a real number such that $\dfrac{x}{2} \geq 3{,}000$ and find all of its values"
    (one,) = contamination([question(text)], [("a", text.replace("dfrac", "frac").replace("geq", "ge") + "!")]).overlaps
    assert one.coverage == 1.0


def test_wording_that_many_questions_or_samples_share_does_not_count() -> None:
    tail = "where m and n are relatively prime positive integers find m + n"
    questions = [question(f"Take {i} {tail}") for i in range(4)]
    assert contamination(questions, [("a", f"Something else {tail}")]).overlaps == ()
    assert len(contamination(questions[:3], [("a", f"Something else {tail}")]).overlaps) == 3
    many = [(str(i), f"Of sample {i} say {tail}") for i in range(11)]
    assert contamination(questions[:3], many).overlaps == ()


def test_a_shared_n_gram_that_decontamination_kept_is_not_called_contamination(tmp_path: Path) -> None:
    """The questions that tier `strict` drops are those that the report would warn of."""
    asked = [f"{LONG} How far did train {i} go in {i} hours, and why did it stop there?" for i in range(3)]
    pool = [LONG, f"{asked[0]} Tell me.", "A train leaves the old station at noon and is never seen again."]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps({"question": q, "solution": "1"}) + "\n" for q in asked))
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps({"question": q, "solution": "1"}) + "\n" for q in pool))
    config = {
        "sources": [{"path": str(tmp_path / "pool.jsonl")}],
        "duplicates": "none",
        "decontaminate": "strict",
        "against": [str(tmp_path / "asked.jsonl")],
    }
    recipe = Recipe.model_validate({"name": "one", "out": str(tmp_path / "runs"), "collect": config})
    run = open_run(recipe.folder, recipe.name, recipe.model_dump(mode="json"))
    collect(recipe, run)
    dropped = {d.id for d in run.rows("collect", "dropped", Dropped)}
    questions, samples = [question(t) for t in asked], [question(t) for t in pool]
    warned = {s.id for s in samples if contamination(questions, [(s.id, s.text)]).overlaps}
    assert warned == dropped
    assert len(dropped) == 1


def test_the_released_s1k_holds_a_question_of_math500_word_for_word(shared_data: Path) -> None:
    def rows(name: str) -> list[dict[str, str]]:
        with gzip.open(shared_data / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    questions = [question(row["question"]) for row in rows("bench_math500")]
    samples = [(q.id, q.text) for q in (question(row["question"]) for row in rows("s1k_questions_no_gpqa"))]
    found = contamination(questions, samples)
    assert 1 <= len(found.exact) + len(found.overlaps) < 20  # 135 share an 8-gram, boilerplate included


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
