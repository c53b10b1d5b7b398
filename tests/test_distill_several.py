"""Several teachers a question, replies until one is right, and how many replies say the same."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from collected_runs import collected_run

from s1kit.curate.quality import first_reason, rules_of
from s1kit.distill.distill import distill
from s1kit.distill.estimate import estimate_traces, probe_costs
from s1kit.errors import InputError, WorkFailed
from s1kit.grade.equality import agreements
from s1kit.journal import Journal
from s1kit.providers.spend_cap import CapReached
from s1kit.recipe import Recipe, load_recipe
from s1kit.records import Question, Trace
from s1kit.stage import Run
from tests.servers.provider_server import KEY, Fault, ProviderServer

FREE = {"price": "free"}


def run_of(tmp_path: Path, num: int, name: str = "r", solution: str = "7") -> Run:
    questions = [Question(text=f"Question {n}?", solution=solution or None) for n in range(num)]
    return collected_run(tmp_path / name, questions)


def recipe_of(tmp_path: Path, **settings: object) -> Recipe:
    return Recipe.model_validate({"name": "r", "out": str(tmp_path), "distill": settings, "train": {"base": "hf:none"}})


def traces_of(recipe: Recipe, run: Run) -> list[Trace]:
    return list(distill(recipe, run).rows("traces", Trace))


class Answers:
    """Makes the server answer each question in turn with what a function of question and time says."""

    def __init__(self, server: ProviderServer, says: Any) -> None:
        self.times: Counter[str] = Counter()
        self._says, self._lock = says, threading.Lock()
        server.faults = self._fault

    def _fault(self, number: int, question: str) -> Fault:
        with self._lock:
            time = self.times[question]
            self.times[question] += 1

        def change(reply: dict[str, Any]) -> dict[str, Any]:
            message = reply["choices"][0]["message"]
            message["content"] = f"<think>hm</think>The answer is {self._says(question, time)}."
            return reply

        return Fault(change=change)


@pytest.fixture
def second() -> Iterator[ProviderServer]:
    with ProviderServer() as running:
        yield running


def test_every_teacher_answers_every_question_in_the_order_named_under_its_own_terms_and_settings(
    server: ProviderServer, second: ProviderServer, tmp_path: Path
) -> None:
    one, other = f"chat:{server.compatible}#DeepSeek-R1", f"chat:{second.compatible}#somebody/tuned"
    teachers = [one, {"teacher": other, "prompt": "Q: {question}", "price": {"input": 1.0, "output": 2.0}}]
    recipe = recipe_of(tmp_path, teachers=teachers, num_traces=2, price="free")
    stage = distill(recipe, run_of(tmp_path, 3))
    traces = list(stage.rows("traces", Trace))
    names = [(t.question.text, t.teacher, t.draw) for t in traces]
    assert names == [(f"Question {n}?", teacher, d) for n in range(3) for teacher in (one, other) for d in (0, 1)]
    assert {(t.teacher, t.terms) for t in traces} == {(one, "permits"), (other, "unknown")}
    assert {t.cost_usd > 0 for t in traces if t.teacher == other} == {True}
    assert {t.cost_usd for t in traces if t.teacher == one} == {0.0}
    assert (server.answered["Question 0?"], second.answered["Q: Question 0?"]) == (2, 2)
    assert stage.counts[f"teacher:{other}"] == 6
    with Journal(tmp_path / "journal.sqlite") as journal:
        assert len(journal) == 12


def test_each_row_says_how_many_of_the_question_s_replies_state_the_same_answer(
    server: ProviderServer, second: ProviderServer, tmp_path: Path
) -> None:
    Answers(server, lambda question, time: "0.5" if "1" not in question else "3")
    Answers(second, lambda question, time: r"$\frac{1}{2}$")
    teachers = [f"chat:{s.compatible}#m{n}" for n, s in enumerate((server, second))]
    recipe = recipe_of(tmp_path, teachers=teachers, num_traces=2, concurrency=1)
    traces = traces_of(recipe, run_of(tmp_path, 2))
    found = [(t.agreement.num_same, t.agreement.num_replies, t.agreement.num_answers) for t in traces if t.agreement]
    assert found == [(4, 4, 1)] * 4 + [(2, 4, 2)] * 4
    reasons = [first_reason(rules_of(["minority_answer"]), trace) for trace in traces]
    assert [reason and reason.reason for reason in reasons] == [None] * 4 + ["minority_answer"] * 4


def test_a_reply_by_itself_has_no_agreement(server: ProviderServer, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, teacher=f"chat:{server.compatible}#m")
    (trace,) = traces_of(recipe, run_of(tmp_path, 1))
    assert (trace.agreement, trace.verdict) == (None, None)
    assert first_reason(rules_of(["minority_answer", "wrong_answer"]), trace) is None


@pytest.mark.parametrize(
    ("text", "answers", "same"),
    [
        ("What is 1/2?", [r"\boxed{0.5}", r"so $\boxed{\frac12}$", "The answer is 2."], [2, 2, 1]),
        ("Which?\n(A) one\n(B) two\n(C) three", ["The answer is (B).", "B", r"\boxed{\text{B}}", "C"], [3, 3, 3, 1]),
        ("Which?", ["", "I do not know what you mean by that at all, sorry, and I would rather not say so."], [0, 0]),
    ],
)
def test_equal_answers_are_found_by_value_and_by_option(text: str, answers: list[str], same: list[int]) -> None:
    assert [each.num_same for each in agreements(Question(text=text), answers)] == same


def test_the_cap_is_one_for_all_teachers(server: ProviderServer, second: ProviderServer, tmp_path: Path) -> None:
    price = {"input": 1000.0, "output": 1000.0}
    teachers = [f"chat:{s.compatible}#m{n}" for n, s in enumerate((server, second))]
    recipe = recipe_of(tmp_path, teachers=teachers, price=price, max_output_tokens=60, max_cost_usd=1.0)
    with pytest.raises(CapReached):
        distill(recipe, run_of(tmp_path, 100))
    with Journal(tmp_path / "journal.sqlite") as journal:
        assert 0.7 < sum(entry.cost_usd for entry in journal.entries()) <= 1.0
        assert {entry.model for entry in journal.entries()} == {"m0", "m1"}


def test_a_teacher_that_fails_is_named_and_only_it_is_asked_again(
    server: ProviderServer, second: ProviderServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s1kit.providers.patience.MAX_SECONDS_BETWEEN", 0.01)
    teachers = [f"chat:{s.compatible}#m{n}" for n, s in enumerate((server, second))]
    recipe, run = recipe_of(tmp_path, teachers=teachers, concurrency=2), run_of(tmp_path, 5)
    second.faults = lambda number, question: Fault(status=500) if "3" in question else None
    with pytest.raises(WorkFailed, match="1 of 10 replies are missing"):
        distill(recipe, run)
    assert f'"teacher": "{teachers[1]}"' in (run.folder / "distill" / "failures.jsonl").read_text()
    second.faults, server.num_requests, second.num_requests = lambda number, question: None, 0, 0
    assert len(traces_of(recipe, run)) == 10
    assert (server.num_requests, second.num_requests) == (0, 1)


def test_retry_asks_the_teacher_again_whose_reply_it_was(
    server: ProviderServer, second: ProviderServer, tmp_path: Path
) -> None:
    teachers = [f"chat:{s.compatible}#m{n}" for n, s in enumerate((server, second))]
    second.faults = lambda number, question: Fault(change=lambda reply: reply | {"choices": [{**reply["choices"][0], "finish_reason": "odd"}]})  # fmt: skip # noqa: E501
    run = run_of(tmp_path, 3)
    traces_of(recipe_of(tmp_path, teachers=teachers, max_unusable=1.0), run)
    second.faults, server.num_requests, second.num_requests = lambda number, question: None, 0, 0
    again = traces_of(recipe_of(tmp_path, teachers=teachers, max_unusable=1.0, retry=["malformed"]), run)
    assert (server.num_requests, second.num_requests) == (0, 3)
    assert {trace.finish_reason for trace in again} == {"stop"}


def test_retry_leaves_rows_of_teachers_alone_that_cannot_be_asked_again(server: ProviderServer, tmp_path: Path) -> None:
    (tmp_path / "few.jsonl").write_text('{"question": "Question 0?", "thinking": "t", "answer": "7"}\n')
    teachers = [f"chat:{server.compatible}#m", f"recorded:{tmp_path / 'few.jsonl'}"]
    run = run_of(tmp_path, 2)
    before = traces_of(recipe_of(tmp_path, teachers=teachers, max_unusable=1.0), run)
    assert [trace.finish_reason for trace in before] == ["stop", "stop", "stop", "failed"]
    again = traces_of(recipe_of(tmp_path, teachers=teachers, max_unusable=1.0, retry=["failed"]), run)
    assert again == before
    assert server.num_requests == 2


# ---- until it is right ----------------------------------------------------------------------------------------------


def right_at(question: str, time: int) -> str:
    """Question n is answered correctly from its n-th reply on; question 4 never in three."""
    return "7" if time >= int(question.split()[1][:-1]) else "8"


def test_a_question_is_asked_until_the_answer_is_right_and_at_most_so_often(
    server: ProviderServer, tmp_path: Path
) -> None:
    answers = Answers(server, right_at)
    recipe = recipe_of(tmp_path, teacher=f"chat:{server.compatible}#m", until_correct=3)
    stage = distill(recipe, run_of(tmp_path, 5))
    drawn = [(t.question.text[9], t.draw, t.verdict) for t in stage.rows("traces", Trace)]
    wrong = "wrong"
    assert drawn == [
        *[("0", 0, "correct"), ("1", 0, wrong), ("1", 1, "correct"), ("2", 0, wrong), ("2", 1, wrong)],
        *[("2", 2, "correct"), ("3", 0, wrong), ("3", 1, wrong), ("3", 2, wrong)],
        *[("4", 0, wrong), ("4", 1, wrong), ("4", 2, wrong)],
    ]
    assert answers.times == Counter({f"Question {n}?": min(n + 1, 3) for n in range(5)})
    assert stage.figures["draws"] == {"mean": 2.4, "most": 3, "ended_correct": 3}
    rules = rules_of(["wrong_answer"])
    assert [t.draw for t in stage.rows("traces", Trace) if first_reason(rules, t) is None] == [0, 1, 2]


def test_a_run_that_died_asks_again_nothing_that_was_answered_and_draws_the_same(
    server: ProviderServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s1kit.providers.patience.MAX_SECONDS_BETWEEN", 0.01)
    answers = Answers(server, right_at)
    whole = server.faults
    server.faults = lambda number, question: Fault(status=500) if number == 6 else whole(number, question)
    recipe, run = recipe_of(tmp_path, teacher=f"chat:{server.compatible}#m", until_correct=3, concurrency=1), run_of(tmp_path, 5)  # fmt: skip # noqa: E501
    monkeypatch.setattr("s1kit.providers.patience.MAX_ATTEMPTS", 1)
    with pytest.raises(WorkFailed):
        distill(recipe, run)
    server.faults = whole
    first = traces_of(recipe, run)
    assert answers.times == Counter({f"Question {n}?": min(n + 1, 3) for n in range(5)})
    assert traces_of(recipe_of(tmp_path, teacher=f"chat:{server.compatible}#m", until_correct=3), run_of(tmp_path, 5, "again")) == first  # fmt: skip # noqa: E501
    assert sum(answers.times.values()) == 12, "the second run asked nothing"


def test_without_a_solution_a_question_is_asked_once(server: ProviderServer, tmp_path: Path) -> None:
    answers = Answers(server, right_at)
    recipe = recipe_of(tmp_path, teacher=f"chat:{server.compatible}#m", until_correct=3)
    traces = traces_of(recipe, run_of(tmp_path, 3, solution=""))
    assert [(t.draw, t.verdict) for t in traces] == [(0, "abstain")] * 3
    assert set(answers.times.values()) == {1}


def test_a_grader_of_ones_own_says_when_it_is_right(
    server: ProviderServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "eights.py").write_text("def eight(answer, solution, kind, question):\n    return '8' in answer\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    answers = Answers(server, lambda question, time: time + 7)
    recipe = recipe_of(tmp_path, teacher=f"chat:{server.compatible}#m", until_correct=4, grader="eights:eight")
    assert [t.verdict for t in traces_of(recipe, run_of(tmp_path, 1))] == ["wrong", "correct"]
    assert answers.times["Question 0?"] == 2


def test_batches_go_in_rounds_of_what_is_not_right_yet(
    server: ProviderServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's answer is the length of the question, so that questions of one length are right and the rest not."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    settings = {"teacher": "chat:openai/o1", "base_url": server.openai, "poll_seconds": 0.01, "max_unusable": 1.0}
    run = run_of(tmp_path, 14, solution="11")  # Question 0? to Question 9? have 11 characters
    traces = traces_of(recipe_of(tmp_path, mode="batch", until_correct=2, **settings), run)
    assert Counter((t.draw, t.verdict == "correct") for t in traces) == {(0, True): 10, (0, False): 4, (1, False): 4}
    assert sorted(len(batch.requests) for batch in server.batches.values()) == [4, 14]


# ---- before anything is spent ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (['distill.teachers=["tiny", "tiny"]'], r"teachers names 'tiny' twice.*num_traces"),
        (['distill.teachers=["tiny"]', "distill.teacher=solutions"], r"teacher is 'solutions' beside teachers"),
        (['distill.teachers=[{ price = "free" }]'], "an entry of teachers names no teacher"),
        (['distill.teachers=[{ teacher = "tiny", effort = "low" }]'], r"unknown key 'distill\.teachers\.0\.effort'"),
        (["distill.until_correct=2", "distill.num_traces=2"], "Both say how often to ask"),
    ],
)
def test_a_section_that_contradicts_itself_is_refused(overrides: list[str], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        load_recipe("tiny", overrides)


def test_probes_and_totals_are_said_for_each_teacher(
    server: ProviderServer, second: ProviderServer, tmp_path: Path
) -> None:
    teachers = [f"chat:{s.compatible}#m{n}" for n, s in enumerate((server, second))]
    recipe = recipe_of(tmp_path, teachers=teachers, price={"input": 1.0, "output": 1.0})
    run = run_of(tmp_path, 40)
    estimates = probe_costs(recipe, run)
    assert [(e.teacher, e.num_probed, e.num_requests) for e in estimates] == [(teacher, 20, 40) for teacher in teachers]
    assert (server.num_requests, second.num_requests) == (20, 20)
    lines = "\n".join(estimate_traces(recipe_of(tmp_path, teachers=teachers, price="free", until_correct=4), 40))
    assert lines.count("at most 160 requests") == 2


def test_a_probe_draws_until_right_and_counts_towards_the_cap(server: ProviderServer, tmp_path: Path) -> None:
    Answers(server, lambda question, time: "7" if time == 1 else "8")
    price = {"input": 1000.0, "output": 1000.0}
    settings = {"teacher": f"chat:{server.compatible}#m", "price": price, "max_output_tokens": 60, "until_correct": 3}
    run = run_of(tmp_path, 30)
    (estimate,) = probe_costs(recipe_of(tmp_path, max_cost_usd=50.0, **settings), run)
    assert "2.00 draws on average; 20 of 20 ended correct." in estimate.note
    assert server.num_requests == 40
    # A cap of what the probes took leaves nothing for the run.
    with pytest.raises(CapReached, match=r"distill stopped with"):
        distill(recipe_of(tmp_path, max_cost_usd=estimate.spent_usd + 0.01, **settings), run)
    assert server.num_requests == 40
