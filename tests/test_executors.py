"""The same rows from one process, from several, and from Ray."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from collected_runs import collected_run

from s1kit.cli import main
from s1kit.cli.preflight import check_recipe
from s1kit.curate.difficulty import Attempt, attempt_all
from s1kit.curate.domains import domains
from s1kit.curate.labelling import label_questions
from s1kit.distill.distill import distill
from s1kit.errors import InputError, MissingExtra, WorkFailed
from s1kit.evaluate.evaluate import evaluate
from s1kit.executors import OnProgress, Rows, RowWork, in_order, load_executor
from s1kit.executors.grading import Grading, SpreadGrader
from s1kit.executors.ray_actors import room
from s1kit.grade import Case, load_grader, reference
from s1kit.journal import Journal
from s1kit.pool.collect import collect
from s1kit.recipe import Recipe
from s1kit.records import Question
from s1kit.stage import open_run
from s1kit.tiny.questions import held_out_questions


def double(rows: Rows, factor: int) -> Rows:
    return [{"n": row["n"] * factor} for row in rows]


BATCHES = [[{"n": n} for n in range(first, first + 5)] for first in range(0, 60, 5)]


@dataclass(frozen=True)
class Fragile:
    """Squares numbers; the first process that meets a number of `kills` is killed at it, `times` times."""

    folder: str
    kills: tuple[int, ...] = ()
    times: int = 1

    @contextmanager
    def open(self) -> Iterator[Callable[[int, OnProgress], int]]:
        def square(number: int, on_progress: OnProgress) -> int:
            if number in self.kills:
                for attempt in range(self.times):
                    mark = Path(self.folder, f"{number}-{attempt}")
                    if not mark.exists():
                        mark.touch()
                        os.kill(os.getpid(), signal.SIGKILL)
            with Path(self.folder, "done").open("a") as file:
                file.write(f"{number}\n")
            on_progress(1)
            return number * number

        yield square


@dataclass(frozen=True)
class Refusing:
    """Work that cannot be opened."""

    @contextmanager
    def open(self) -> Iterator[Callable[[int, OnProgress], int]]:
        raise InputError("the card is on holiday", where="card", fix="Wait.")
        yield


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """One local Ray of four workers for all tests."""
    ray = pytest.importorskip("ray")
    load_executor("ray", 4)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the actors cannot import a file of tests
    yield
    ray.shutdown()


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_batches(processes: int) -> None:
    executor = load_executor("local", processes)
    done = list(in_order(executor.run(RowWork(double, {"factor": 2}), BATCHES)))
    assert [row["n"] for rows in done for row in rows] == list(range(0, 120, 2))


def test_shards_are_drawn_as_workers_come_free(tmp_path: Path) -> None:
    drawn: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(50):
            drawn.append(number)
            yield number

    results = load_executor("local", 2).run(Fragile(str(tmp_path)), numbers())
    assert next(results)[1] in (0, 1, 4, 9)
    assert len(drawn) < 10
    results.close()


def test_rows_done_in_other_processes_are_counted_here(tmp_path: Path) -> None:
    told: list[int] = []
    list(load_executor("local", 2).run(Fragile(str(tmp_path)), range(20), told.append))
    assert sum(told) == 20


def test_a_process_that_dies_is_said_and_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(WorkFailed, match="a worker process ended unexpectedly"):
        list(load_executor("local", 2).run(Fragile(str(tmp_path), kills=(5,)), range(20)))


def test_an_unknown_executor_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean local"):
        load_executor("locall")


def test_settings_of_ray_without_ray_are_refused() -> None:
    with pytest.raises(InputError, match=r"cards_per_engine is 2 without Ray .*Add executor = ray"):
        load_executor("local", 2, cards_per_engine=2)


def test_errors_keep_their_three_parts_between_processes() -> None:
    import pickle

    for error in (InputError("a", where="b", fix="C."), WorkFailed("a"), MissingExtra("a", "b", extra="c")):
        back = pickle.loads(pickle.dumps(error))
        assert (type(back), str(back), back.where, back.fix) == (type(error), str(error), error.where, error.fix)


def node(cards: float, processors: float = 16) -> dict[str, Any]:
    return {"Resources": {"GPU": cards, "CPU": processors} if cards else {"CPU": processors}}


@pytest.mark.parametrize(
    ("nodes", "asked", "cards", "found"),
    [
        ([node(8), node(8)], None, None, (16, 1)),
        ([node(8), node(8)], None, 4, (4, 4)),
        ([node(8), node(4)], None, 8, (1, 8)),
        ([node(1)], None, 0.5, (2, 0.5)),
        ([node(3)], 5, 0.5, (5, 0.5)),
        ([node(0, 4)], None, None, (4, 0)),
        ([node(8)], 12, 0, (12, 0)),
    ],
)
def test_engines_fit_on_the_cards_of_one_machine_each(
    nodes: list[dict[str, Any]], asked: int | None, cards: float | None, found: tuple[int, float]
) -> None:
    cluster = room(nodes, asked, cards)
    assert (cluster.num_engines, cluster.cards_per_engine) == found


@pytest.mark.parametrize(
    ("nodes", "asked", "cards", "complaint"),
    [
        ([node(4), node(4)], 2, 8, "2 engines of 8 cards each do not fit: the cluster has 8 cards and 32 processors"),
        ([node(4)], 5, None, "5 engines of 1 card each do not fit.*room for 4"),
        ([node(0, 2)], 1, 1, "1 engine of 1 card each does not fit: the cluster has 0 cards"),
        ([node(0, 2)], 3, None, "3 engines of one processor each do not fit"),
        ([node(4)], 1, 1.5, "cards_per_engine is 1.5"),
        ([node(1)], 4, 0.4, "room for 2"),
    ],
)
def test_fewer_cards_than_asked_are_refused_with_what_there_is(
    nodes: list[dict[str, Any]], asked: int | None, cards: float | None, complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        room(nodes, asked, cards)


def collected(folder: Path, monkeypatch: pytest.MonkeyPatch, **config: Any) -> dict[str, bytes]:
    monkeypatch.setattr("s1kit.pool.reading.BATCH", 100)
    pool = {"sources": [{"builtin": "tiny", "num": 500}], "decontaminate": "strict", "against": ["tiny"]}
    recipe = Recipe.model_validate({"name": "test", "collect": pool | config})
    stage = collect(recipe, open_run(folder, recipe.name, recipe.model_dump()))
    return {p.name: p.read_bytes() for p in stage.folder.glob("*.parquet")}


def attempted(folder: Path, first: str, **config: Any) -> dict[str, bytes]:
    """Each question attempted by two students, the second a scripted one that is asked what the first leaves."""
    questions = held_out_questions(24, seed=3)
    for name, wrong in (("one", 3), ("other", 4)):
        script = {q.text: [["hm .", str(reference(q) if n % wrong else "0")]] for n, q in enumerate(questions)}
        (folder.parent / f"{name}.json").write_text(json.dumps(script))
    students = [first or f"scripted:{folder.parent}/one.json", f"scripted:{folder.parent}/other.json"]
    settings = {"attempt_shard": 4, "attempt_tokens": 16, "students": students}
    curate = Recipe.model_validate({"name": "test", "curate": settings | config}).curate
    stage = open_run(folder, "test", {}).open("curate", config={}, seed=0)
    attempt_all(questions, curate, load_grader(), stage, seed=0)
    assert {a.student for a in stage.rows("attempts", Attempt)} == set(students)
    return {p.name: p.read_bytes() for p in stage.folder.glob("*.parquet")}


def distilled(folder: Path, **config: Any) -> tuple[dict[str, bytes], int]:
    """Two replies of a local teacher to each question, and how many the journal holds."""
    questions = held_out_questions(24, seed=7)
    script = {q.text: [["let me see .", str(reference(q))]] for q in questions}
    (folder.parent / "teacher.json").write_text(json.dumps(script))
    settings = {"teacher": f"scripted:{folder.parent}/teacher.json", "num_traces": 2, "max_output_tokens": 64}
    recipe = Recipe.model_validate({"name": "run", "out": str(folder), "distill": settings | config})
    stage = distill(recipe, collected_run(recipe.folder, questions))
    with Journal(folder / "journal.sqlite") as journal:
        return {p.name: p.read_bytes() for p in stage.folder.glob("*.parquet")}, len(journal)


def evaluated(folder: Path, **config: Any) -> dict[str, bytes]:
    rows = [{"question": q.text, "answer": reference(q)} for q in held_out_questions(24, seed=5)]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "model": "tiny",
        "benchmarks": [str(folder / "questions.jsonl")],
        "max_tokens": [0, 24],
        "num_waits": [0, 1],
        "answer_tokens": 12,
        "batch_size": 3,
    }
    recipe = Recipe.model_validate({"name": "small", "out": str(folder), "evaluate": settings | config})
    stage = evaluate(recipe, open_run(recipe.folder, recipe.name, recipe.model_dump(mode="json")))
    return {p.name: p.read_bytes() for p in stage.folder.glob("generations-*.parquet")}


def test_several_processes_collect_the_same_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = collected(tmp_path / "one", monkeypatch)
    assert collected(tmp_path / "two", monkeypatch, processes=2) == one


def test_two_engines_of_a_local_teacher_give_the_same_traces_and_their_replies_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = distilled(tmp_path / "one")
    assert one[1] == 48
    assert distilled(tmp_path / "two", num_engines=2, engine_shard=5) == one
    shutil.rmtree(tmp_path / "two" / "run" / "distill")

    def nothing_to_ask(self: object, work: object, shards: Iterable[object], on_progress: object) -> Iterator[Any]:
        assert list(shards) == []
        yield from ()

    # The file must stay as it is: the replies of another script would be others in the journal.
    monkeypatch.setattr("s1kit.executors.local.LocalExecutor.run", nothing_to_ask)
    assert distilled(tmp_path / "two", num_engines=2, engine_shard=5) == one


def test_an_engine_labels_domains_and_two_of_them_label_the_same(tmp_path: Path) -> None:
    asked = [Question(text="What is 2 + 3?"), Question(text="How far does light travel in a second?")]
    script = {q.text: [["hm .", label]] for q, label in zip(asked, ("11 Number theory", domains()[-1]), strict=True)}
    (tmp_path / "script.json").write_text(json.dumps(script))
    for executor in (load_executor(), load_executor("local", 2)):
        journal = tmp_path / f"{executor.num_workers}.sqlite"
        labels = label_questions(asked, f"scripted:{tmp_path}/script.json", journal, executor)
        assert labels.domains == ["11 Number theory", domains()[-1]]
        assert labels.num_unread == 0


def test_grading_over_processes_gives_the_judgements_in_order() -> None:
    cases = [Case(f"The answer is \\boxed{{{n % 7}}}.", str(n % 5), "", "?") for n in range(1100)]
    spread = SpreadGrader(load_executor("local", 2), Grading())
    assert spread.grade(cases) == load_grader().grade(cases)


@pytest.mark.usefixtures("ray_here")
@pytest.mark.slow
def test_ray_collects_the_same_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = collected(tmp_path / "one", monkeypatch)
    assert collected(tmp_path / "ray", monkeypatch, executor="ray", processes=2) == one


TINY_ON_RAY = pytest.param("tiny-base", marks=pytest.mark.slow)


@pytest.mark.usefixtures("ray_here")
@pytest.mark.parametrize("student", ["", TINY_ON_RAY])
def test_attempts_on_four_actors_are_byte_for_byte_those_of_one_process(tmp_path: Path, student: str) -> None:
    one = attempted(tmp_path / "one", student)
    assert len(one) > 6
    assert attempted(tmp_path / "ray", student, executor="ray", num_engines=4) == one


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_evaluation_on_four_actors_is_byte_for_byte_that_of_one_process(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "ray").mkdir()
    one = evaluated(tmp_path / "one")
    assert len(one) == 8
    assert evaluated(tmp_path / "ray", executor="ray", num_engines=4) == one


@pytest.mark.usefixtures("ray_here")
def test_an_actor_that_is_killed_is_replaced_and_only_what_it_was_at_is_done_again(tmp_path: Path) -> None:
    told: list[int] = []
    executor = load_executor("ray", 4)
    results = dict(executor.run(Fragile(str(tmp_path), kills=(3, 11)), range(20), told.append))
    assert results == {number: number * number for number in range(20)}
    assert sum(told) == 20
    assert sorted(map(int, (tmp_path / "done").read_text().split())) == list(range(20))


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_rows_that_kill_every_actor_end_the_work(tmp_path: Path) -> None:
    with pytest.raises(WorkFailed, match="died 4 times at the same rows"):
        list(load_executor("ray", 2).run(Fragile(str(tmp_path), kills=(1,), times=99), range(4)))


@pytest.mark.usefixtures("ray_here")
def test_what_an_actor_refuses_is_refused_here_in_its_words() -> None:
    with pytest.raises(InputError) as told:
        list(load_executor("ray", 2).run(Refusing(), range(4)))
    assert str(told.value) == "the card is on holiday (card). Wait."


@pytest.mark.usefixtures("ray_here")
def test_cards_that_the_cluster_does_not_have_are_refused() -> None:
    with pytest.raises(InputError, match="1 engine of 1000 cards each does not fit: the cluster has"):
        load_executor("ray", 1, cards_per_engine=1000)


def test_a_cluster_that_is_not_there_is_refused_by_check_and_by_name(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    script = tmp_path / "script.json"
    script.write_text("{}")
    settings = {"model": f"scripted:{script}", "benchmarks": ["tiny"], "executor": "ray", "address": address}
    recipe = Recipe.model_validate({"name": "x", "out": str(tmp_path), "stages": ["evaluate"], "evaluate": settings})
    (fault,) = check_recipe(recipe)
    assert f"there is no Ray cluster at '{address}'" in str(fault)
    assert "ray start --head" in str(fault)


@pytest.mark.parametrize("address", ["http://there:80", "host:port"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    pytest.importorskip("ray")
    with pytest.raises(InputError, match="is no address of a Ray cluster"):
        load_executor("ray", 1, address=address)


def graded_file(folder: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    path = folder / "pairs.jsonl"
    rows = [{"answer": f"The answer is {n % 7}.", "solution": str(n % 5), "n": n} for n in range(1300)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["grade", str(path), *flags]) == 0
    return capsys.readouterr().out


def test_a_file_graded_by_two_processes_is_the_one_that_one_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = graded_file(tmp_path, capsys)
    assert [json.loads(line)["n"] for line in one.splitlines()] == list(range(1300))
    assert graded_file(tmp_path, capsys, "--processes", "2") == one


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_ray_grades_a_file_and_labels_domains_as_one_process_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = graded_file(tmp_path, capsys)
    assert graded_file(tmp_path, capsys, "--executor", "ray", "--processes", "4") == one
    asked = held_out_questions(40, seed=6)
    script = {q.text: [["hm .", domains()[n % 5]]] for n, q in enumerate(asked)}
    (tmp_path / "script.json").write_text(json.dumps(script))
    reference = f"scripted:{tmp_path}/script.json"
    here = label_questions(asked, reference, tmp_path / "here.sqlite", load_executor())
    assert label_questions(asked, reference, tmp_path / "ray.sqlite", load_executor("ray", 4)) == here
    assert set(here.domains) == set(domains()[:5])


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_local_teacher_on_four_actors_gives_the_traces_of_one_process(tmp_path: Path) -> None:
    one = distilled(tmp_path / "one")
    assert distilled(tmp_path / "ray", executor="ray", num_engines=4, engine_shard=5) == one


def test_a_judge_is_not_spread_and_settings_of_ray_are_refused_without_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"answer": "7", "solution": "7"}\n')
    command = ["grade", str(tmp_path / "pairs.jsonl")]
    assert main([*command, "--judge", "chat:openai/gpt-5", "--processes", "2"]) == 2
    assert "a judge keeps its answers in one journal" in capsys.readouterr().err
    assert main([*command, "--address", "10.0.0.1:6379"]) == 2
    assert "Add executor = ray" in capsys.readouterr().err
