"""Thinking that ends when its answer is settled: the rule, the promise of its calibration, and asking under it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import pytest

from s1kit import Request, ThinkingBudget, load_engine
from s1kit.adaptive.answering import answer_adaptively, probe_all
from s1kit.adaptive.calibration import Probed, calibrate, candidates, labels_needed
from s1kit.adaptive.rule import FILE, Calibrated, ExitRule, load_rule
from s1kit.analysis.findings import Findings
from s1kit.cli import main
from s1kit.cli.preflight import check_recipe
from s1kit.engines.scripted import ScriptedEngine, Step
from s1kit.errors import InputError
from s1kit.evaluate.evaluate import evaluate
from s1kit.recipe import Recipe
from s1kit.records import Generation, Question
from s1kit.report.rows import read_results
from s1kit.stage import open_run


def settled(number: int, at: int, *, right: bool = True, length: int = 12) -> Probed:
    """A question whose probes agree from place `at` on; before, each gives another answer."""
    answers = tuple("right" if i >= at else f"wrong {i}" for i in range(length))
    correct = tuple((i >= at) == right for i in range(length))
    return Probed(f"q{number}", answers, correct, tuple(16 * (i + 1) for i in range(length)))


def misleading(number: int, run: int, length: int = 12) -> Probed:
    """A question whose first `run` probes agree on a wrong answer; full thinking is right."""
    answers = tuple("early" if i < run else "right" for i in range(length))
    return Probed(f"q{number}", answers, tuple(i >= run for i in range(length)), tuple(range(16, 16 * length + 1, 16)))


def test_the_boldest_rule_that_keeps_the_promise_is_taken() -> None:
    questions = [settled(i, at=1) for i in range(300)] + [misleading(i, run=3) for i in range(300, 320)]
    rule, tested = calibrate(questions, 16, 192, max_loss=0.02, confidence=0.95)
    losses = {one.stable: one.losses for one in tested}
    assert losses[4] == 0
    assert losses[3] == 20
    assert rule.stable == 4
    assert rule.calibrated is not None
    assert rule.calibrated.tokens < rule.calibrated.full_tokens


def test_where_no_rule_passes_thinking_is_never_left() -> None:
    rule, _ = calibrate([misleading(i, run=9) for i in range(320)], 16, 192, 0.02, 0.95)
    assert rule.stable is None
    assert rule.points() == [192]


def test_the_promise_holds_as_often_as_it_says() -> None:
    """Over many calibrations from a population that is known, the loss exceeds the bound in at most 5 %."""
    draw, broken, rounds, max_loss = Random(0), 0, 400, 0.05
    # Chance of a question on which so many equal answers mislead: the boldest rules lose more than is allowed.
    shares = {7: 0.01, 5: 0.02, 4: 0.025, 3: 0.03, 2: 0.1}
    population = [misleading(0, run) for run in shares] + [settled(0, 1)]
    weights = [*shares.values(), 1 - sum(shares.values())]
    true_loss = {}
    for one in candidates(population, max_loss):
        true_loss[one.stable] = sum(share for run, share in shares.items() if run >= one.stable)
    for _ in range(rounds):
        questions = draw.choices(population, weights, k=200)
        rule, _ = calibrate(questions, 16, 192, max_loss, 0.95)
        broken += rule.stable is not None and true_loss[rule.stable] > max_loss
    assert broken / rounds <= 0.05 + 0.02
    assert true_loss[2] > max_loss > true_loss[8]


def test_too_few_labels_are_refused_with_the_number_that_is_needed() -> None:
    assert labels_needed(0.01, 0.95) == 299
    with pytest.raises(InputError, match="Give 299 or more"):
        calibrate([settled(i, 1) for i in range(298)], 16, 192, 0.01, 0.95)
    with pytest.raises(InputError, match="--max-loss"):
        calibrate([settled(0, 1)], 16, 192, 0.0, 0.95)


SCRIPT = {
    "easy": [Step(" ".join(["two"] * 40), "2")],
    "short": [Step("two .", "2")],
}


def engine() -> ScriptedEngine:
    return ScriptedEngine(SCRIPT)


RULE = ExitRule(every=4, stable=3, max_tokens=32)


def test_thinking_is_left_at_the_probe_that_settles_it_and_costs_are_told() -> None:
    (easy, short) = answer_adaptively(engine(), [Request("easy"), Request("short")], RULE)
    assert easy.thinking_tokens == 12
    assert "left after 3 equal answers" in easy.note
    assert short.ending == "closed"
    assert short.thinking_tokens == 2
    assert (easy.question_id, short.question_id) == (Request("easy").question_id, Request("short").question_id)


def test_a_minimum_a_maximum_and_waits_hold_under_a_rule() -> None:
    least = next(answer_adaptively(engine(), [Request("easy", ThinkingBudget(32, min_tokens=20))], RULE))
    assert least.thinking_tokens >= 20
    most = next(answer_adaptively(engine(), [Request("easy", ThinkingBudget(7))], RULE))
    assert most.thinking_tokens == 7
    with pytest.raises(InputError, match="largest budget, which is 32"):
        next(answer_adaptively(engine(), [Request("easy", ThinkingBudget(99, min_tokens=50))], RULE))


def test_probes_of_full_thinking_are_those_of_a_single_call_each() -> None:
    """Handing the thinking back in parts changes nothing: each probe is what one call under that budget gives."""
    tiny = load_engine("tiny")
    question = "Count the letter r:\n#1 r\n#2 a\n#3 r\n#4 b\n#5 r\n#6 end"
    rule = ExitRule(every=16, stable=1, max_tokens=80)
    (asked,) = probe_all(tiny, [Request(question, answer_tokens=16)], rule)
    for probe, point in zip(asked.probes, rule.points(), strict=False):
        (alone,) = tiny.generate([Request(question, ThinkingBudget(point), answer_tokens=16)])
        assert (probe.thinking, probe.answer, probe.ending) == (alone.thinking, alone.answer, alone.ending)


def test_a_rule_is_kept_beside_the_format_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    RULE.save(tmp_path / FILE)
    assert load_rule(tmp_path) == RULE
    (tmp_path / FILE).write_text('{"every": 0}')
    with pytest.raises(InputError, match="cannot be read"):
        load_rule(tmp_path)
    with pytest.raises(InputError, match="no calibrated rule"):
        load_rule(tmp_path / "other.json")


def test_calibrate_and_ask_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "rule.json"
    command = ["calibrate", "tiny", "--questions", "tiny", "--num", "20", "--every", "32", "--max-tokens", "128"]
    options = ["--answer-tokens", "16", "--max-loss", "20", "--confidence", "90", "--to", str(target)]
    assert main([*command, *options]) == 0
    assert "equal answers" in capsys.readouterr().out
    rule = load_rule(target)
    assert rule.calibrated is not None
    assert rule.calibrated.num_questions == 20
    assert main(["ask", "Count the letter r:\n#1 r\n#2 end", "--auto", str(target), "--json"]) == 0
    assert "auto:" in json.loads(capsys.readouterr().out)["note"]
    assert main([*command, "--max-loss", "1", "--to", str(target)]) == 2
    assert "Give 299 or more" in capsys.readouterr().err


def test_a_lucky_bold_rule_behind_one_that_failed_is_not_taken() -> None:
    """Two equal answers leave these questions before three to five mislead them; the order of testing forbids it."""
    answers = ("right", "right", *["early"] * 5, *["right"] * 5)
    lucky = [
        Probed(f"q{i}", answers, tuple(a == "right" for a in answers), tuple(range(16, 193, 16)))
        for i in range(300, 330)
    ]
    rule, tested = calibrate([settled(i, at=2) for i in range(300)] + lucky, 16, 192, 0.02, 0.95)
    assert {one.stable: one.losses for one in tested} == {8: 0, 6: 0, 5: 30, 4: 30, 3: 30, 2: 0}
    assert tested[-1].p_value < 0.05
    assert rule.stable == 6


def test_a_sampled_request_draws_anew_in_each_round() -> None:
    class Recording(ScriptedEngine):
        seeds: ClassVar[list[int]] = []

        def generate(self, requests: Iterable[Request], on_segment: Any = None) -> Iterator[Generation]:
            asked = list(requests)
            self.seeds.extend(request.seed for request in asked)
            return super().generate(asked, on_segment)

    list(answer_adaptively(Recording(SCRIPT), [Request("easy", temperature=0.7, seed=5)], RULE))
    assert Recording.seeds == [5, 6, 7]


def auto_recipe(folder: Path, **changes: Any) -> Recipe:
    """Sums that are right from the second thought on, with a rule that leaves after two equal answers."""
    script = {f"What is {n} and one?": [["a b c d", "0"]] + [[" , once more .", str(n + 1)]] * 9 for n in range(6)}
    (folder / "script.json").write_text(json.dumps(script))
    rows = [{"question": q, "answer": str(n + 1), "kind": "exact"} for n, q in enumerate(script)]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ExitRule(every=4, stable=2, max_tokens=40).save(folder / "rule.json")
    settings = {
        "model": f"scripted:{folder}/script.json",
        "benchmarks": [str(folder / "questions.jsonl")],
        "max_tokens": [40],
        "answer_tokens": 24,
        "auto": [str(folder / "rule.json")],
    }
    return Recipe.model_validate(
        {"name": "x", "out": str(folder), "stages": ["evaluate"], "evaluate": settings | changes}
    )


def test_an_evaluation_has_auto_beside_budgets_and_counts_what_its_probes_cost(tmp_path: Path) -> None:
    recipe = auto_recipe(tmp_path, num_waits=[0, 6])
    assert check_recipe(recipe) == []
    stage = evaluate(recipe, open_run(recipe.folder, recipe.name, {}))
    rows = list(stage.rows("generations", Generation))
    auto = [row for row in rows if row.setting is not None and row.setting.method == "auto"]
    assert {row.setting.num_waits for row in auto if row.setting is not None} == {0, 6}
    assert all(row.thinking_tokens <= 40 for row in auto)
    assert any(row.thinking_tokens < 30 for row in auto if "left after 2 equal" in row.note)
    findings = Findings(read_results(list(stage.rows("questions", Question)), stage.shards("generations")))
    first, second = findings.others["left when settled"]
    assert first.name.startswith("auto within 40 tokens: probes every 4, left after 2 equal")
    thought = [row.thinking_tokens for row in auto if row.setting is not None and row.setting.num_waits == 6]
    assert second.tokens > sum(thought) / len(thought)


def test_a_rule_calibrated_on_the_benchmark_is_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    recipe = auto_recipe(tmp_path)
    ids = [Question(text=f"What is {n} and one?").id for n in (1, 3)] + ["other"]
    promise = Calibrated(
        max_loss=0.1, confidence=0.9, num_questions=3, losses=0, tokens=8, full_tokens=40, question_ids=tuple(ids)
    )
    ExitRule(every=4, stable=2, max_tokens=40, calibrated=promise).save(tmp_path / "rule.json")
    what = "2 of 6 questions are among the 3 that the exit rule was calibrated on"
    (fault,) = check_recipe(recipe)
    assert what in str(fault)
    with pytest.raises(InputError, match=what):
        evaluate(recipe, open_run(recipe.folder, recipe.name, {}))


def test_the_rule_of_a_model_that_is_no_folder_is_asked_for_by_name(tmp_path: Path) -> None:
    (fault,) = check_recipe(auto_recipe(tmp_path, auto=["model"]))
    assert "is no checkpoint folder, so no rule lies in it" in str(fault)
    (fault,) = check_recipe(auto_recipe(tmp_path, auto=["nowhere.json"]))
    assert "there is no calibrated rule (nowhere.json)" in str(fault)
