"""The stage distill with the teachers that cost nothing."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
from pathlib import Path

import pytest
from collected_runs import collected_run

from s1kit.distill.distill import distill
from s1kit.distill.open_teacher import open_teachers
from s1kit.distill.passes import DistillPass, TraceBlock
from s1kit.distill.student_tokens import student_counter
from s1kit.distill.teachers import SolutionsTeacher
from s1kit.engines.scripted import ScriptedEngine
from s1kit.errors import InputError
from s1kit.providers.chat import ChatRequest, Parameters
from s1kit.providers.local import engine_request
from s1kit.recipe import Recipe
from s1kit.records import Question, Trace
from s1kit.stage import Run, Stage


def run_of(tmp_path: Path, questions: list[Question], name: str = "r") -> Run:
    return collected_run(tmp_path / name, questions)


def recipe_of(tmp_path: Path, **settings: object) -> Recipe:
    return Recipe.model_validate(
        {"name": "r", "out": str(tmp_path), "distill": settings, "train": {"base": "hf:nowhere"}}
    )


def traces_of(stage: Stage) -> list[Trace]:
    return list(stage.rows("traces", Trace))


SOLVED = [
    Question(text="2+2?", solution="Two and two are counted together to make four.\n#### 4"),
    Question(text="1+1?", solution="2"),
    Question(text="3+3?"),
]


def test_published_solutions_become_traces_that_say_what_they_are(tmp_path: Path) -> None:
    traces = traces_of(distill(recipe_of(tmp_path, teacher="solutions"), run_of(tmp_path, SOLVED)))
    assert [t.finish_reason for t in traces] == ["stop", "empty", "empty"]
    assert traces[0].answer == "Final Answer: $\\boxed{4}$"
    assert traces[0].thinking == SOLVED[0].solution
    assert "not a model's thinking" in traces[0].note
    assert "no worked solution" in traces[1].note


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_recorded_traces_come_back_in_the_order_of_the_file(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"question": "2+2?", "thinking": "first", "answer": "4"},
        {"question": "2+2?", "thinking_trajectories": ["second"], "attempt": "4"},
    ]
    path = tmp_path / f"traces{suffix}"
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode())
    recipe = recipe_of(tmp_path, teacher=f"recorded:{path}", num_traces=2)
    traces = traces_of(distill(recipe, run_of(tmp_path, SOLVED[:2])))
    assert [(t.thinking, t.draw, t.finish_reason) for t in traces] == [
        ("first", 0, "stop"),
        ("second", 1, "stop"),
        ("", 0, "failed"),
        ("", 1, "failed"),
    ]


def test_a_stage_s_own_shards_serve_as_recorded_traces(tmp_path: Path) -> None:
    first = distill(recipe_of(tmp_path, teacher="solutions"), run_of(tmp_path, SOLVED))
    recipe = recipe_of(tmp_path, teacher=f"recorded:{first.shards('traces')[0]}")
    again = distill(recipe, run_of(tmp_path, SOLVED, name="again"))
    assert traces_of(again) == traces_of(first)


def test_a_broken_line_of_recorded_traces_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"question": "q", "thinking": "t", "answer": "a"}\n{"question": 3}\n')
    with pytest.raises(InputError, match=r"t\.jsonl:2"):
        distill(recipe_of(tmp_path, teacher=f"recorded:{tmp_path / 't.jsonl'}"), run_of(tmp_path, SOLVED))


def test_an_unknown_teacher_is_refused_with_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no teacher is called 'gpt'.*chat:<provider>/<model>"):
        distill(recipe_of(tmp_path, teacher="gpt"), run_of(tmp_path, SOLVED))


def test_a_killed_run_goes_on_with_the_blocks_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s1kit.distill.distill.BLOCK", 4)
    questions = [
        Question(text=f"q{n}", solution=f"{n} is what one finds after some work, so #### {n}") for n in range(10)
    ]
    recipe = recipe_of(tmp_path, teacher="solutions")
    run = run_of(tmp_path, questions)
    stage = distill(recipe, run)
    before, shards = traces_of(stage), stage.shards("traces")
    assert len(shards) == 3
    stage.receipt_path.unlink()
    shards[1].unlink()
    kept = shards[0].stat().st_mtime_ns
    again = distill(recipe, run)
    assert traces_of(again) == before
    assert shards[0].stat().st_mtime_ns == kept


def test_the_built_in_teacher_answers_the_built_in_questions(tmp_path: Path) -> None:
    from s1kit.tiny.questions import tiny_questions

    questions = list({q.id: q for q in tiny_questions(60, seed=3)}.values())
    stage = distill(recipe_of(tmp_path, teacher="tiny", num_traces=2), run_of(tmp_path, questions))
    traces = traces_of(stage)
    assert [(t.question.id, t.draw) for t in traces] == [(q.id, d) for q in questions for d in (0, 1)]
    assert {t.terms for t in traces} == {"permits"}
    assert any("Wait" in t.thinking for t in traces)


def test_a_finished_stage_is_left_alone(tmp_path: Path) -> None:
    recipe, run = recipe_of(tmp_path, teacher="solutions"), run_of(tmp_path, SOLVED)
    stamp = distill(recipe, run).receipt_path.stat().st_mtime_ns
    assert distill(recipe, run).receipt_path.stat().st_mtime_ns == stamp


def test_thinking_is_counted_in_the_student_s_tokens(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    (tmp_path / "student").mkdir()
    tokenizer.save(str(tmp_path / "student" / "tokenizer.json"))
    count = student_counter(f"hf:{tmp_path / 'student'}")
    assert count is not None
    assert count(["aaa", ""]) == [3, 0]
    recipe = recipe_of(tmp_path, teacher="solutions").model_copy(
        update={"train": Recipe(name="x").train.model_copy(update={"base": f"random:{tmp_path / 'student'}"})}
    )
    stage = distill(recipe, run_of(tmp_path, SOLVED))
    assert traces_of(stage)[0].thinking_tokens == len(SOLVED[0].solution or "")
    assert stage.figures["thinking_tokens_counted_in"] == "student tokens"


def test_a_student_whose_tokenizer_is_not_here_is_no_error() -> None:
    assert student_counter("hf:no/such-model") is None


def test_a_published_solution_becomes_a_trace_with_its_final_answer() -> None:
    worked = "Adding the two halves of the cake gives one whole cake, so the answer is $\\boxed{1}$."
    trace = asyncio.run(SolutionsTeacher().ask(Question(text="q", solution=worked), 0))
    assert (trace.thinking, trace.answer) == (worked, "Final Answer: $\\boxed{1}$")
    bare = asyncio.run(SolutionsTeacher().ask(Question(text="q", solution="18"), 0))
    assert (bare.thinking, bare.finish_reason) == ("", "empty")


def test_the_stages_after_it_still_hear_of_an_interrupt(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    distill(recipe_of(tmp_path, teacher="solutions"), run_of(tmp_path, SOLVED))
    assert signal.getsignal(signal.SIGINT) is before


def test_traces_that_come_faster_than_shards_are_written_do_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replies out of the journal come at once; the stage waits for the disk before it takes more of them."""
    from s1kit.distill import passes

    waiting: list[int] = []
    num_written = 0

    async def settle(work: DistillPass, block: TraceBlock) -> None:
        nonlocal num_written
        waiting.append(work.num_done - num_written)
        await passes.settle(work, block)
        num_written += 8

    monkeypatch.setattr("s1kit.distill.distill.BLOCK", 8)
    monkeypatch.setattr("s1kit.distill.distill.settle", settle)
    questions = [Question(text=f"{n}+1?", solution=f"One more than {n} is sought.\n#### {n + 1}") for n in range(1200)]
    stage = distill(recipe_of(tmp_path, teacher="solutions", concurrency=100), run_of(tmp_path, questions))
    assert len(traces_of(stage)) == 1200
    assert max(waiting) < 300  # 204 workers with a trace each, and the shards that are being written


def test_a_local_reply_of_another_format_switch_or_seed_is_another_reply(tmp_path: Path) -> None:
    def key(seed: int = 0, **settings: object) -> str:
        section = {"teacher": "tiny-base"} | settings
        recipe = Recipe.model_validate({"name": "r", "out": str(tmp_path), "seed": seed, "distill": section})
        asked = open_teachers(recipe, load_engines=False)
        try:
            local = asked.teachers[0].local
            assert local is not None
            return local.request([{"role": "user", "content": "1 + 1?"}]).key
        finally:
            asked.close()

    keys = [key(), key(seed=1), key(format="s1"), key(format="qwen3"), key(template={"thinking": True})]
    assert len(set(keys)) == len(keys)
    assert key(teacher="tiny-base,format=s1") == key(format="s1")
    assert key(concurrency=3) == key()


@pytest.mark.parametrize(("budget", "expected"), [(None, (75, 25)), (40, (40, 25)), (90, (90, 10))])
def test_thinking_and_answer_of_a_local_teacher_stay_within_its_output(
    budget: int | None, expected: tuple[int, int]
) -> None:
    parameters = Parameters(max_output_tokens=100, thinking_budget=budget)
    asked = ChatRequest("local", "m", ({"role": "user", "content": "1 + 1?"},), parameters)
    request = engine_request(asked, 0, ScriptedEngine())
    assert request.budget is not None
    assert (request.budget.max_tokens, request.answer_tokens) == expected
