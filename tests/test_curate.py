"""Curation: one test a reason to drop, the difficulty band, and the stage from traces to samples."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from s1kit.curate import difficulty
from s1kit.curate.curate import curate
from s1kit.curate.difficulty import Attempt, outside_band
from s1kit.curate.domains import by_keywords, by_source, domains
from s1kit.curate.labelling import label_questions, rubric
from s1kit.curate.quality import RULES, first_reason, rules_of
from s1kit.curate.remote_student import RemoteStudent
from s1kit.curate.selection import limo_score
from s1kit.distill.distill import distill
from s1kit.errors import InputError
from s1kit.forcing.request import Request
from s1kit.pool.collect import collect
from s1kit.providers.chat import Message, Reply
from s1kit.recipe import Recipe, Source, load_recipe
from s1kit.records import Dropped, Generation, Question, Sample, Segment, Trace
from s1kit.report.report import report
from s1kit.stage import Run, Stage, open_run
from s1kit.tiny.questions import tiny_questions
from s1kit.tiny.teacher import write_trace


def trace(text: str = "What is 3 + 4?", thinking: str = "3 + 4 = 7", answer: str = "7", **fields: Any) -> Trace:
    source = fields.pop("source", "test")
    question = Question(text=text, solution="7", source=source)
    return Trace(question=question, teacher="t", thinking=thinking, answer=answer, thinking_tokens=5, **fields)


LINE = "So we try once more with the next candidate and see.\n"

REASONS = [
    ("reply:refused", "s1", trace(finish_reason="refused", note="policy")),
    ("reply:failed", "s1", trace(finish_reason="failed")),
    ("asymptote_figure", "s1", trace("[asy] draw(); [/asy] Area?")),
    ("image_reference", "s1", trace("See ![Image](x.png). Area?")),
    ("part_of_a_list", "s1", trace("p7. Find x.")),
    ("starred_number", "s1", trace("**12** Find x.")),
    ("truncated", "complete", trace(finish_reason="length")),
    ("no_thinking", "complete", trace(thinking=" \n")),
    ("no_answer", "complete", trace(answer=" ")),
    ("no_final_answer", "complete", trace(answer="I am not sure.")),
    ("loop", "complete", trace(thinking=LINE * 4)),
    ("loop", "complete", trace(thinking="Start. " + "ha! " * 300)),
    ("loop", "complete", trace(thinking=" ".join(f"Step {i}: let me check the sum again." for i in range(40)))),
    ("language_mix", "language_mix", trace(thinking="Let us see. 我们计算一下这个问题的答案是什么呢")),
    ("image_reference", "image_reference", trace("What is shown in the figure below?")),
]


def test_cases_that_are_tried_one_by_one_are_no_loop() -> None:
    tried = "\n".join(f"For n={i}, {i}^2 = {i * i}, which is not divisible by 7." for i in range(1, 60))
    assert first_reason(rules_of(["complete"]), trace(thinking=tried)) is None


@pytest.mark.parametrize(("reason", "rules", "bad"), REASONS, ids=[f"{r}-{n}" for n, (r, *_) in enumerate(REASONS)])
def test_each_rule_names_its_reason_and_lets_a_good_trace_pass(reason: str, rules: str, bad: Trace) -> None:
    drop = first_reason(rules_of([rules]), bad)
    assert drop is not None
    assert drop.reason == reason
    assert first_reason(rules_of([rules]), trace()) is None


def test_every_rule_has_a_case_above() -> None:
    met = {d.reason.partition(":")[0] for _, _, bad in REASONS if (d := first_reason(list(RULES.values()), bad))}
    assert {"reply", "truncated", "no_thinking", "no_answer", "no_final_answer", "loop", "language_mix"} <= met


@pytest.mark.parametrize(
    ("text", "source", "stays"),
    [
        ("[asy] p1. **5** [/asy]", "qq8933/AIME_1983_2024", True),
        ("p1. Find x.", "qq8933/AIME_1983_2024", False),
        ("p0. p1000. p01. Find x.", "test", True),
        ("up1. Find x.", "test", False),
        ("**bold** 5", "test", False),
        ("**bold**\n5", "test", True),
        ("**a5** is", "test", False),
        ("**a]5** is", "test", True),
        ("** 5**", "test", True),
    ],
)
def test_the_format_rules_are_those_of_the_release(text: str, source: str, stays: bool) -> None:
    assert (first_reason(rules_of(["format_s1"]), trace(text, source=source)) is None) is stays


def test_greek_letters_are_mathematics_and_no_other_language() -> None:
    assert first_reason(rules_of(["language_mix"]), trace(thinking="αβγ δε ζη then we see it")) is None


def test_an_unknown_rule_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean truncated"):
        rules_of(["truncate"])


def attempts(*verdicts: str) -> list[Attempt]:
    return [
        Attempt(question_id="q", student="vllm:Qwen/Q-7B", repeat=n, answer="7", verdict=v, evidence="e")  # type: ignore[arg-type]
        for n, v in enumerate(verdicts)
    ]


@pytest.mark.parametrize(
    ("verdicts", "band", "reason"),
    [
        (("wrong",), (0.0, 0.0), None),
        (("correct",), (0.0, 0.0), "answered_by:q-7b"),
        (("abstain",), (0.0, 0.0), None),
        (("wrong",) * 31 + ("correct",), (1 / 32, 3 / 32), None),
        (("wrong",) * 29 + ("correct",) * 3, (1 / 32, 3 / 32), None),
        (("wrong",) * 28 + ("correct",) * 4, (1 / 32, 3 / 32), "answered_by:q-7b"),
        (("wrong",) * 32, (1 / 32, 3 / 32), "never_answered_by:q-7b"),
    ],
)
def test_the_band_keeps_both_its_ends(verdicts: tuple[str, ...], band: tuple[float, float], reason: str | None) -> None:
    drops = outside_band(attempts(*verdicts), band)
    assert (drops["q"].reason if drops else None) == reason


def test_domains_come_from_the_source_or_from_keywords() -> None:
    question = Question(
        text="Find the area of a triangle inscribed in a circle.", source="MATH", metadata={"subject": "Geo"}
    )
    assert by_source(question) == "Geo"
    assert by_keywords(question) == "51 Geometry"
    assert by_keywords(Question(text="hm")) == "unknown"
    assert len(set(domains())) == len(domains()) >= 25


def test_limo_prefers_a_trace_that_checks_and_explores() -> None:
    plain = "We add the two numbers and get seven. " * 10
    lively = "Perhaps we check: therefore, since it might be wrong, verify it. Wait. " * 6
    assert limo_score(lively, 100, 100) > limo_score(plain, 100, 100)
    assert 0.0 <= limo_score("", 0, 0) <= 1.0


@cache
def questions() -> list[Question]:
    return tiny_questions(400, 0)


class Student:
    """Answers every question of the family `add`, and nothing else."""

    asked = 0

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation]:
        answers = {q.id: q.solution for q in questions()}
        for request in requests:
            Student.asked += 1
            knows = request.question.startswith(("Add", "Sum", "What is the last"))
            text = str(answers[request.question_id]) if knows else "no idea"
            segment = Segment(origin="sampled", kind="answer", text=text, num_tokens=1)
            yield Generation(
                question_id=request.question_id, repeat=request.repeat, segments=(segment,), ending="closed"
            )


def run_curate(tmp_path: Path, traces: list[Trace], **config: Any) -> tuple[Stage, Run]:
    recipe = Recipe.model_validate({"name": "test", "curate": config})
    run = open_run(tmp_path / "run", recipe.name, recipe.model_dump())
    before = run.open("distill", config={}, seed=0)
    if not before.is_done:
        before.write("traces", Trace, traces, shard=0)
        before.finish()
    return curate(recipe, run), run


def tiny_traces(num: int = 400) -> list[Trace]:
    rows = []
    for question in {q.id: q for q in questions()[:num]}.values():
        written = write_trace(question)
        tokens = len(written.thinking.split())
        rows.append(
            Trace(
                question=question,
                teacher="tiny",
                thinking=written.thinking,
                answer=written.answer,
                thinking_tokens=tokens,
                finish_reason=written.finish_reason,
            )
        )
    return rows


def test_what_a_student_answers_is_dropped_with_its_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(difficulty, "open_student", lambda *_: Student())
    stage, run = run_curate(tmp_path, tiny_traces(), students=["hf:models/Student-1"], quality=["complete"], num=50)
    drops = [d for d in run.rows("curate", "dropped", Dropped) if d.reason == "answered_by:student-1"]
    assert drops
    assert all("1 of 1 correct" in d.evidence for d in drops)
    assert {json.loads(d.row)["question"]["source"] for d in drops} == {"tiny/add"}
    samples = list(run.rows("curate", "samples", Sample))
    assert len(samples) == 50 == stage.counts["out"]
    assert all(s.trace.question.source != "tiny/add" for s in samples)


def test_a_killed_stage_does_not_ask_a_student_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(difficulty, "open_student", lambda *_: Student())
    config: dict[str, Any] = {"students": ["a", "b"], "quality": ["complete"], "num": 50}
    stage, _ = run_curate(tmp_path, tiny_traces(), **config)
    before = {p.name: p.read_bytes() for p in stage.folder.glob("*.parquet")}
    stage.receipt_path.unlink()
    (stage.folder / "samples-00000.parquet").unlink()
    asked = Student.asked
    run_curate(tmp_path, tiny_traces(), **config)
    assert run_curate(tmp_path, tiny_traces(), **config, attempt_shard=7)[0].is_done  # it says how, not what
    assert Student.asked == asked
    assert {p.name: p.read_bytes() for p in stage.folder.glob("*.parquet")} == before


def test_every_trace_is_selected_or_dropped_and_the_counts_agree(tmp_path: Path) -> None:
    traces = tiny_traces()
    stage, run = run_curate(tmp_path, traces, quality=["s1", "complete"], num=100)
    drops = list(run.rows("curate", "dropped", Dropped))
    assert len(drops) + 100 == len(traces) == stage.counts["in"]
    assert {d.reason for d in drops} >= {"truncated", "no_final_answer", "not_selected"}
    assert sum(n for key, n in stage.counts.items() if key.startswith("dropped:")) == len(drops)


def test_asking_for_more_than_there_is_gives_what_there_is_and_says_so(tmp_path: Path) -> None:
    stage, run = run_curate(tmp_path, tiny_traces(60), quality=["complete"], num=1000)
    assert len(list(run.rows("curate", "samples", Sample))) == stage.counts["out"] < 60
    assert stage.figures["short"].startswith("1000 samples were asked for and")


def test_when_nothing_passes_the_counts_say_why(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no trace is left of 1: 1 truncated"):
        run_curate(tmp_path, [trace(finish_reason="length")], quality=["complete"])


def test_of_replies_without_thinking_nothing_is_learned_and_the_repair_says_what_would_help(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no trace is left of 1") as refused:
        run_curate(tmp_path, [trace(thinking="", finish_reason="empty")], quality=["complete"])
    assert "distill.teacher=solutions" in refused.value.fix


def test_other_selections_are_drawn_beside_and_compared(tmp_path: Path) -> None:
    stage, run = run_curate(tmp_path, tiny_traces(), also=["random", "longest", "diverse", "full"], num=50)
    overlap = stage.figures["overlap"]
    assert overlap["longest"]["longest"] == 50
    assert overlap["full"]["s1"] == 50
    assert overlap["random"]["longest"] == overlap["longest"]["random"]
    assert len(list(run.rows("curate", "longest", Sample))) == 50
    html = (stage.folder / "curate.html").read_text()
    assert "Questions that two selections share" in html


def test_the_page_escapes_what_questions_say(tmp_path: Path) -> None:
    rows = [*tiny_traces(20), trace("<script>alert(1)</script> p7. x?")]
    stage, _ = run_curate(tmp_path, rows, quality=["s1"], num=5)
    html = (stage.folder / "curate.html").read_text()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_rows_without_a_solution_are_kept_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(difficulty, "open_student", lambda *_: Student())
    bare = [
        t.model_copy(update={"question": t.question.model_copy(update={"solution": None})}) for t in tiny_traces(40)
    ]
    stage, _ = run_curate(tmp_path, bare, quality=["s1"], students=["a"], num=10)
    assert stage.counts["questions_without_solution"] == len(bare)
    assert stage.counts["out"] == 10


def test_a_trace_without_thinking_is_dropped_whatever_the_rules_are(tmp_path: Path) -> None:
    empty = [t.model_copy(update={"thinking": " "}) for t in tiny_traces(3)]
    stage, _ = run_curate(tmp_path, [*tiny_traces(9)[3:], *empty], quality=["s1"], num=4)
    assert [d.reason for d in stage.rows("dropped", Dropped)].count("no_thinking") == 3


class Labeller:
    """Says number theory of what has a digit, and something useless of the rest."""

    def __init__(self) -> None:
        self.asked: list[Sequence[Message]] = []

    async def chat(self, messages: Sequence[Message], *, draw: int = 0) -> Reply:
        self.asked.append(messages)
        return Reply(answer="11 Number theory" if any(c.isdigit() for c in messages[-1]["content"]) else "hard to say")


def test_a_model_labels_domains_rubric_first_and_is_compared_with_the_keywords(tmp_path: Path) -> None:
    labeller = Labeller()
    asked = [Question(text="Is 91 a prime?"), Question(text="Name the area of a triangle.")]
    labels = label_questions(asked, labeller, tmp_path / "journal.sqlite")
    assert labels.domains == ["11 Number theory", "51 Geometry"], "an unread reply leaves the keywords' label"
    assert labels.num_unread == 1
    assert ("11 Number theory", "11 Number theory", 1) in labels.confusion
    assert {messages[0]["content"] for messages in labeller.asked} == {rubric()}
    assert [m[-1]["content"] for m in labeller.asked] == [q.text for q in asked]


def test_a_remote_student_answers_through_chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Knows:
        async def chat(self, messages: Sequence[Message], *, draw: int = 0) -> Reply:
            return Reply(answer=f"Final Answer: {draw}")

    student = RemoteStudent("chat:x/y", Recipe(name="t").curate, chat=Knows(), journal_path=tmp_path / "j.sqlite")
    requests = [Request(question="What is 0 + 1?", repeat=n) for n in range(2)]
    done = {g.repeat: g.answer for g in student.generate(requests)}
    assert done == {0: "Final Answer: 0", 1: "Final Answer: 1"}


def test_the_ablation_recipe_makes_every_row_of_table_2_from_real_questions(tmp_path: Path, shared_data: Path) -> None:
    overrides = [f"data={shared_data}", f"out={tmp_path}", "curate.num=200"]
    recipe = load_recipe("s1k-ablation", overrides)
    assert recipe.stages == ["collect", "distill", "curate", "report"]
    small = recipe.model_copy(
        update={
            "collect": recipe.collect.model_copy(
                update={"sources": [Source(path=str(shared_data / "pool_aime_1983_2023.jsonl.gz"))]}
            )
        }
    )
    run = open_run(small.folder, small.recipe, small.model_dump(mode="json"))
    collect(small, run)
    distill(small, run)
    stage = curate(small, run)
    overlap = stage.figures["overlap"]
    assert list(overlap) == ["s1", "random", "longest", "diverse", "full"]
    for name, shared in overlap.items():
        drawn = {s.trace.question.id for s in run.rows("curate", "samples" if name == "s1" else name, Sample)}
        assert len(drawn) == shared[name] == (200 if name != "full" else stage.counts["after_difficulty"])
        assert shared["full"] == len(drawn), "every row is drawn from the same candidates"
        assert shared["longest"] == overlap["longest"][name]
    page = (stage.folder / "curate.html").read_text()
    assert "Questions that two selections share" in page
    assert "color-mix" in page
    report(small, run)
    whole = (run.folder / "report" / "report.html").read_text()
    assert "From the pool to the samples" in whole
    assert all(f'href="../{name}/{name}.html"' in whole for name in ("collect", "curate"))
