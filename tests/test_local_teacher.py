"""An engine of ours as a teacher: through the same call and the same journal as a provider."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

import pytest
from collected_runs import collected_run

from s1kit.cli import main
from s1kit.distill.distill import distill
from s1kit.distill.open_teacher import open_teachers
from s1kit.engines import Engine, load_engine
from s1kit.errors import InputError
from s1kit.files import read_rows
from s1kit.forcing import ThinkingBudget
from s1kit.forcing.request import Request, Sampling
from s1kit.journal import Journal
from s1kit.providers.chat import Parameters, Problem, Reply
from s1kit.providers.local import LocalChat
from s1kit.recipe import Recipe
from s1kit.records import Generation, Question, Trace
from s1kit.tiny.questions import held_out_questions

pytest.importorskip("transformers")

MODEL = f"hf:{resources.files('s1kit.tiny')}/model"
ASKED = [question.text for question in held_out_questions(6, seed=0)]
SHORT = Parameters(max_output_tokens=400, thinking_budget=200)


class Counting:
    """An engine that counts the batches it is given, and may leave the last request of each without an answer."""

    def __init__(self, engine: Engine, *, forgets: bool = False) -> None:
        self.engine, self.forgets, self.batches = engine, forgets, list[int]()

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation]:
        some = list(requests)
        self.batches.append(len(some))
        return self.engine.generate(some[:-1] if self.forgets else some)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return load_engine("tiny")


def ask(chat: LocalChat, questions: list[str]) -> list[Reply | BaseException]:
    async def run() -> list[Reply | BaseException]:
        asked = [chat.chat([{"role": "user", "content": question}]) for question in questions]
        return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(run())


def test_questions_share_a_batch_and_replies_are_not_computed_twice(engine: Engine, tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite") as journal:
        counting = Counting(engine)
        first = ask(LocalChat(counting, MODEL, journal, SHORT), ASKED)
        assert counting.batches == [len(ASKED)]
        again = ask(LocalChat(counting, MODEL, journal, SHORT), ASKED)
        assert again == first
        assert counting.batches == [len(ASKED)]
        assert [entry.via for entry in journal.entries()] == ["local"] * len(ASKED)
    (reply, *_) = first
    assert isinstance(reply, Reply)
    assert reply.thinking
    assert reply.answer
    assert reply.thinking_tokens is not None
    assert reply.thinking_tokens <= 200
    assert reply.usage.output_tokens > reply.thinking_tokens


def test_a_question_the_engine_leaves_out_is_a_problem_and_the_others_are_kept(engine: Engine, tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite") as journal:
        replies = ask(LocalChat(Counting(engine, forgets=True), MODEL, journal, SHORT), ASKED[:3])
        assert [type(reply) for reply in replies] == [Reply, Reply, Problem]
        assert len(journal) == 2


def test_questions_join_while_others_decode_and_an_interrupt_keeps_what_is_done(
    engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Engines may take hours for what is under way: nobody waits for that, and the next run begins with the rest."""
    monkeypatch.setattr("s1kit.providers.local.SECONDS_AWAY", 0.001)
    batch = engine.running_batch()
    monkeypatch.setattr(type(engine), "running_batch", lambda _: batch)
    steps, admitted = [0], list[int]()

    def step(self: Any, one: Any) -> Any:
        steps[0] += 1
        return one.step()

    def admit(plan: Any, *given: Any) -> int:
        admitted.append(steps[0])
        return type(batch).admit(batch, plan, *given)

    monkeypatch.setattr(type(engine), "step", step)
    monkeypatch.setattr(batch, "admit", admit)

    async def interrupted(journal: Journal) -> None:
        long = LocalChat(engine, MODEL, journal, Parameters(max_output_tokens=400, thinking_budget=200))
        tasks = [asyncio.create_task(long.chat([{"role": "user", "content": ASKED[0]}]))]
        while not steps[0]:
            await asyncio.sleep(0.001)
        tasks += [asyncio.create_task(long.chat([{"role": "user", "content": text}])) for text in ASKED[1:]]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        raise KeyboardInterrupt

    with Journal(tmp_path / "j.sqlite") as journal:
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(interrupted(journal))
        assert admitted[0] == 0 < admitted[1]
        assert not batch.is_idle, "it did not wait for all"
        assert 1 <= len(journal) < len(ASKED)


def test_what_a_local_engine_lacks_is_refused_not_ignored(engine: Engine, tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite") as journal:
        (refused,) = ask(LocalChat(engine, MODEL, journal, Parameters(reasoning_effort="high")), ASKED[:1])
        assert isinstance(refused, InputError)


def test_the_answer_of_a_local_engine_is_held_to_the_schema_that_is_asked_for(engine: Engine, tmp_path: Path) -> None:
    pytest.importorskip("llguidance")
    schema = {
        "type": "object",
        "properties": {"sum": {"enum": [3, 4]}},
        "required": ["sum"],
        "additionalProperties": False,
    }
    asked = {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}}
    with Journal(tmp_path / "j.sqlite") as journal:
        parameters = SHORT.model_copy(update={"extra": asked})
        replies = ask(LocalChat(engine, MODEL, journal, parameters), ASKED[:3])
    for reply in replies:
        assert isinstance(reply, Reply)
        assert json.loads(reply.answer)["sum"] in (3, 4)


def test_fields_that_only_a_server_knows_are_refused_before_the_engine_is_loaded(tmp_path: Path) -> None:
    settings = {"teacher": "hf:nowhere", "extra": {"top_logprobs": 5}}
    recipe = Recipe.model_validate({"name": "r", "out": str(tmp_path), "distill": settings})
    with pytest.raises(InputError, match="takes no further field 'top_logprobs'") as caught:
        open_teachers(recipe, load_engines=False)
    assert caught.value.where == "distill.extra"


def test_the_stage_distills_from_a_local_model_and_a_second_run_computes_nothing(tmp_path: Path) -> None:
    settings = {"teacher": MODEL, "max_output_tokens": 400, "thinking_budget": 200}
    traces = []
    for name in ("first", "second"):
        run = collected_run(tmp_path / name, [Question(text=text) for text in ASKED])
        recipe = Recipe.model_validate({"name": name, "out": str(tmp_path), "distill": settings})
        traces.append(list(distill(recipe, run).rows("traces", Trace)))
    assert traces[0] == traces[1]
    assert [trace.question.text for trace in traces[0]] == ASKED
    assert {trace.teacher for trace in traces[0]} == {MODEL}
    assert all(trace.thinking and trace.cost_usd == 0.0 for trace in traces[0])
    with Journal(tmp_path / "journal.sqlite") as journal:
        assert len(journal) == len(ASKED)


def test_what_a_recipe_leaves_open_is_the_models_own(engine: Engine, tmp_path: Path) -> None:
    class Own:
        context_tokens = 100
        sampling = Sampling(0.6, 0.95, 20)
        asked: ClassVar[list[Request]] = []

        def generate(self, requests: Iterable[Request]) -> Iterator[Generation]:
            self.asked += requests
            return iter(())

    with Journal(tmp_path / "j.sqlite") as journal:
        ask(LocalChat(Own(), MODEL, journal, Parameters(max_output_tokens=32768)), ASKED[:1])
        ask(LocalChat(Own(), MODEL, journal, Parameters(max_output_tokens=40, temperature=0.0)), ASKED[:1])
    open_, stated = Own.asked
    assert (open_.temperature, open_.top_p, open_.top_k) == (0.6, 0.95, 20)
    assert (open_.answer_tokens, open_.budget) == (25, ThinkingBudget(75))
    assert (stated.temperature, stated.top_p, stated.top_k) == (0.0, 1.0, 0)
    assert stated.answer_tokens == 10


def test_the_embedded_base_teaches_as_check_says_it_can(tmp_path: Path) -> None:
    (tmp_path / "pool.jsonl").write_text('{"question": "Count the letter r: #1 r #2 end", "answer": "1"}\n')
    (tmp_path / "own.toml").write_text(
        f'name = "own"\nout = "{tmp_path}"\nstages = ["collect", "distill", "train"]\n'
        f'[collect]\nsources = [{{ path = "{tmp_path}/pool.jsonl" }}]\n'
        '[distill]\nteacher = "tiny-base"\nmax_output_tokens = 32\nmax_unusable = 1.0\n[train]\nbase = "tiny-base"\n'
    )
    recipe = str(tmp_path / "own.toml")
    assert main(["check", recipe]) == 0
    assert main(["collect", recipe]) == main(["distill", recipe]) == 0
    (file,) = (tmp_path / "own" / "distill").glob("traces-*.parquet")
    (trace,) = read_rows([file], Trace)
    assert (trace.teacher, trace.terms) == ("tiny-base", "permits")


def test_no_more_decodes_together_than_the_recipe_lets_be_in_flight(tmp_path: Path) -> None:
    for teacher, num in ((MODEL, 3), (f"{MODEL},max_batch=5", 5)):
        settings = {"teacher": teacher, "concurrency": 3}
        asked = open_teachers(Recipe.model_validate({"name": "few", "out": str(tmp_path), "distill": settings}))
        try:
            assert asked.teachers[0].engine.max_batch == num  # type: ignore[union-attr]
        finally:
            asked.close()


@pytest.mark.parametrize(
    ("format", "turns", "wanted"),
    [
        ("direct", ["", "answer " * 90], ("", 90)),  # no thinking: a quarter had been left to it
        ("s1", ["a thought .", "answer " * 60], ("a thought .", 60)),  # thinking ends early
    ],
)
def test_what_thinking_leaves_of_the_output_limit_is_the_answer_s(
    format: str, turns: list[str], wanted: tuple[str, int], tmp_path: Path
) -> None:
    (tmp_path / "script.json").write_text(json.dumps({"Which?": [turns]}))
    engine = load_engine(f"scripted:{tmp_path / 'script.json'}", format=format)
    with Journal(tmp_path / "j.sqlite") as journal:
        (reply,) = ask(LocalChat(engine, "scripted", journal, Parameters(max_output_tokens=100)), ["Which?"])
    assert isinstance(reply, Reply)
    assert (reply.thinking.strip(), len(reply.answer.split()), reply.finish_reason) == (*wanted, "stop")
