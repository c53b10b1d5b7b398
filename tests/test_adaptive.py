"""Thinking that ends when its answer is settled: the rule, the promise of its calibration, and asking under it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import pytest

from s1kit import Request, ThinkingBudget, load_engine
from s1kit.adaptive.answering import answer_adaptively, probe_all
from s1kit.adaptive.calibration import Probed, calibrate, labels_needed, labels_needed_for_tokens, rules_of
from s1kit.adaptive.rule import FILE, Calibrated, ExitRule, load_rule, read_rule
from s1kit.analysis.findings import Findings
from s1kit.cli import main
from s1kit.cli.preflight import check_recipe
from s1kit.engines.scripted import ScriptedEngine, Step
from s1kit.errors import InputError
from s1kit.evaluate.evaluate import evaluate
from s1kit.forcing.request import Prefix
from s1kit.recipe import Recipe
from s1kit.records import Generation, Question
from s1kit.report.rows import read_results
from s1kit.stage import open_run
from s1kit.tiny.questions import held_out_questions

STABLE_RULES = rules_of("stable", 16, 192)


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
    rule, tested = calibrate(questions, STABLE_RULES, max_loss=0.02)
    losses = {one.rule.stable: one.losses for one in tested}
    assert losses[4] == 0
    assert losses[3] == 20
    assert rule.stable == 4
    assert rule.calibrated is not None
    assert rule.calibrated.tokens < rule.calibrated.full_tokens


def test_where_no_rule_passes_thinking_is_never_left() -> None:
    rule, _ = calibrate([misleading(i, run=9) for i in range(320)], STABLE_RULES, max_loss=0.02)
    assert rule.stable is None
    assert rule.points() == [192]


def test_the_promise_holds_as_often_as_it_says() -> None:
    """Over many calibrations from a population that is known, the loss exceeds the bound in at most 5 %."""
    draw, broken, rounds, max_loss = Random(0), 0, 200, 0.05
    # Chance of a question on which so many equal answers mislead: the boldest rules lose more than is allowed.
    shares = {7: 0.01, 5: 0.02, 4: 0.025, 3: 0.03, 2: 0.1}
    population = [misleading(0, run) for run in shares] + [settled(0, 1)]
    weights = [*shares.values(), 1 - sum(shares.values())]
    true_loss = {}
    for one in STABLE_RULES:
        true_loss[one.stable] = sum(
            share for run, share in shares.items() if one.stable is not None and run >= one.stable
        )
    for _ in range(rounds):
        questions = draw.choices(population, weights, k=200)
        rule, _ = calibrate(questions, STABLE_RULES, max_loss=max_loss)
        broken += rule.stable is not None and true_loss[rule.stable] > max_loss
    assert broken / rounds <= 0.05 + 0.02
    assert true_loss[2] > max_loss > true_loss[8]


def surely(number: int, at: int, wrong_until: int = 0, length: int = 12) -> Probed:
    """A question whose answers have probability 0.99 from place `at` on and 0.6 before; the first ones are wrong."""
    answers = tuple("early" if i < wrong_until else "right" for i in range(length))
    correct = tuple(answer == "right" for answer in answers)
    probabilities = tuple(0.99 if i >= at else 0.6 for i in range(length))
    agreeing = tuple(8 if i >= at else 1 for i in range(length))
    tokens, ones = tuple(range(16, 16 * length + 1, 16)), (1,) * length
    return Probed(f"q{number}", answers, correct, tokens, ones, probabilities, agreeing, ((2,) * 8,) * (length - 1))


@pytest.mark.parametrize("kind", ["sure", "agree"])
def test_a_rule_by_probability_or_by_samples_leaves_where_they_are_enough_and_not_before(kind: Any) -> None:
    questions = [surely(i, at=3, wrong_until=3) for i in range(160)]
    rule, tested = calibrate(questions, rules_of(kind, 16, 192), max_loss=0.02)
    # The boldest candidate leaves at once, where the answer is wrong; 0.9999 and 0.999 are never reached.
    assert [one.losses for one in tested][-2:] == [0, 160]
    assert [one.tokens for one in tested][:-1] == [192.0] * 2 * (kind == "sure") + [64.0] * 6
    assert (rule.sure, rule.agree) == ((0.7, None) if kind == "sure" else (None, 2))
    assert rule.calibrated is not None
    # Three earlier probes of one token each; two samples of two tokens at each of four places.
    assert rule.calibrated.probe_tokens == (3 if kind == "sure" else 3 + 16)


def test_a_rule_that_costs_more_with_its_probes_than_it_saves_is_not_chosen() -> None:
    cheap = [settled(i, at=9) for i in range(300)]
    dear = [replace(question, prices=(10,) * 12) for question in cheap]
    assert calibrate(cheap, STABLE_RULES, max_loss=0.02)[0].stable == 2
    rule, tested = calibrate(dear, STABLE_RULES, max_loss=0.02)
    assert tested[-1].p_value < 0.05
    assert not rule.leaves_early
    assert rule.calibrated is not None
    assert (rule.calibrated.tokens, rule.calibrated.probe_tokens) == (192, 0)


def test_the_promise_of_tokens_holds_as_often_as_it_says() -> None:
    """Over many calibrations from a population that is known, the mean price is above the bound in at most 5 %."""
    draw, broken, left, rounds, bound = Random(1), 0, 0, 150, 95.0
    population, weights = [surely(0, at=at) for at in (1, 3, 5, 9, 11)], [0.3, 0.25, 0.2, 0.15, 0.1]
    population += [settled(0, at) for at in (1, 4, 8)]
    weights += [0.2, 0.1, 0.1]
    mean = {}
    for rule in [*STABLE_RULES, ExitRule(every=16, max_tokens=192)]:
        places = [question.left_at(rule) for question in population]
        prices = [q.tokens[at] + q.probe_tokens(rule, at) for q, at in zip(population, places, strict=True)]
        mean[rule.stable] = sum(w * p for w, p in zip(weights, prices, strict=True)) / sum(weights)
    assert min(mean.values()) < bound < max(mean.values())
    for _ in range(rounds):
        questions = draw.choices(population, weights, k=150)
        try:
            rule, _ = calibrate(questions, STABLE_RULES, most_tokens=bound, answer_tokens=1)
        except InputError:
            continue
        left += 1
        broken += mean[rule.stable] > bound
    assert left > rounds / 2
    assert broken / rounds <= 0.05 + 0.02


def test_a_promise_of_tokens_takes_the_most_cautious_rule_that_keeps_it_and_refuses_what_none_keeps() -> None:
    questions = [settled(i, at=i % 3) for i in range(300)]
    rule, tested = calibrate(questions, STABLE_RULES, most_tokens=110)
    assert [one.rule.stable for one in tested] == [2, 3, 4, 5, 6, 8, None]
    assert rule.stable == 5
    assert rule.calibrated is not None
    assert rule.calibrated.tokens < 110 < next(one.tokens for one in tested if one.rule.stable == 6)
    assert calibrate(questions, STABLE_RULES, most_tokens=191.9)[0].stable == 8
    with pytest.raises(InputError, match=r"no rule keeps to 40 tokens .*the boldest takes 48.0"):
        calibrate(questions, STABLE_RULES, most_tokens=40)
    needed = labels_needed_for_tokens(40, 192, 0.95)
    with pytest.raises(InputError, match=f"Give {needed} or more"):
        calibrate(questions[: needed - 1], STABLE_RULES, most_tokens=40)
    with pytest.raises(InputError, match=r"--tokens is 192, and a question can take at most 192"):
        calibrate(questions, STABLE_RULES, most_tokens=192)


def test_too_few_labels_are_refused_with_the_number_that_is_needed() -> None:
    assert labels_needed(0.01, 0.95) == 299
    with pytest.raises(InputError, match="Give 299 or more"):
        calibrate([settled(i, 1) for i in range(298)], STABLE_RULES, max_loss=0.01)
    with pytest.raises(InputError, match="--max-loss"):
        calibrate([settled(0, 1)], STABLE_RULES, max_loss=0.0)


SCRIPT = {
    "easy": [Step(" ".join(["two"] * 40), "2")],
    "short": [Step("two .", "2")],
}


def engine() -> ScriptedEngine:
    return ScriptedEngine(SCRIPT)


RULE = ExitRule(every=4, stable=3, max_tokens=32)
AGREE = ExitRule(every=4, agree=2, max_tokens=32)
SURE = ExitRule(every=16, sure=0.9, max_tokens=128)


@pytest.mark.parametrize(
    "rule", [RULE, AGREE, SURE, ExitRule(every=4, max_tokens=32), ExitRule(every=4, agree=1, max_tokens=32)]
)
def test_a_rule_in_words_is_read_back(rule: ExitRule) -> None:
    found = read_rule(rule.said, rule.max_tokens)
    assert (found.stable, found.sure, found.agree) == (rule.stable, rule.sure, rule.agree)
    assert found.points() == rule.points()


def test_samples_that_agree_end_thinking_and_are_paid_for() -> None:
    (easy,) = answer_adaptively(engine(), [Request("easy")], AGREE)
    assert easy.thinking_tokens == 4
    assert "1 probe, 6 answer tokens in earlier ones and samples; left when 2 samples agreed" in easy.note


def test_samples_that_differ_do_not_end_thinking() -> None:
    class Unsure(ScriptedEngine):
        """Samples answer otherwise until eight tokens were thought."""

        def generate(self, requests: Iterable[Request], on_segment: Any = None) -> Iterator[Generation]:
            for request, found in zip(asked := list(requests), super().generate(asked, on_segment), strict=True):
                if request.temperature and found.thinking_tokens < 8 and found.repeat == 1:
                    (answer,) = [s for s in found.segments if s.kind == "answer"]
                    others = [s for s in found.segments if s.kind != "answer"]
                    found = found.model_copy(
                        update={"segments": (*others, answer.model_copy(update={"text": "three"}))}
                    )
                yield found

    (easy,) = answer_adaptively(Unsure(SCRIPT), [Request("easy")], AGREE)
    assert easy.thinking_tokens == 8


TINY_QUESTION = "Count the letter r:\n#1 r\n#2 a\n#3 r\n#4 b\n#5 r\n#6 end"


def test_the_probability_of_an_answer_is_the_one_that_the_model_gives_it() -> None:
    """Of the answer's own tokens and its end: those of the thinking before do not count."""
    import torch

    tiny = load_engine("tiny")
    request = Request(TINY_QUESTION, ThinkingBudget(24), answer_tokens=16, measures_answer=True)
    (found,) = tiny.generate([request])
    context = [*tiny.plan(request).prompt_ids, *(i for s in found.segments for i in s.token_ids)]
    sampled = next(s for s in found.segments if s.kind == "answer")
    num = len(sampled.token_ids)
    with torch.inference_mode():
        logits = tiny.model(torch.tensor([context])).logits[0].float().log_softmax(-1)
    likely = [float(logits[len(context) - num + i - 1, id]) for i, id in enumerate(sampled.token_ids)]
    likely += [float(logits[-1].max())] if found.answer_finish == "stop" else []
    assert found.mean_logprob == pytest.approx(sum(likely) / len(likely), abs=1e-4)
    (again,) = tiny.generate([replace(request, prefix=Prefix(found.segments[:1], ending="cut_off"))])
    assert again.mean_logprob == pytest.approx(found.mean_logprob, abs=1e-4)


@pytest.mark.parametrize("rule", [SURE, ExitRule(every=16, agree=3, max_tokens=128)])
def test_each_rule_leaves_at_the_first_probe_that_its_evidence_settles(rule: ExitRule) -> None:
    tiny = load_engine("tiny")
    questions = [Request(q.text, answer_tokens=16) for q in held_out_questions(6, seed=2)]
    everything = probe_all(tiny, questions, rule)
    found = list(answer_adaptively(tiny, questions, rule))
    for probed, left in zip(everything, found, strict=True):
        known = [rule.is_settled(evidence) for evidence in probed.all_evidence()]
        place = known.index(True) if True in known else len(known) - 1
        assert left.thinking == probed.probes[place].thinking
        assert left.answer == probed.probes[place].answer
    assert {left.thinking_tokens for left in found} != {rule.max_tokens}


@pytest.mark.parametrize("rule", [SURE, ExitRule(every=16, agree=1, max_tokens=128)])
def test_minimum_maximum_and_waits_hold_under_every_rule(rule: ExitRule) -> None:
    tiny = load_engine("tiny")
    bold = rule.model_copy(update={"sure": 1e-9} if rule.sure else {})
    for question in held_out_questions(2, seed=9):
        for budget in (ThinkingBudget(128, min_tokens=50), ThinkingBudget(37), ThinkingBudget(128, num_waits=3)):
            (found,) = answer_adaptively(tiny, [Request(question.text, budget, answer_tokens=16)], bold)
            assert budget.min_tokens <= found.thinking_tokens <= budget.max_tokens
            assert found.num_waits <= budget.num_waits
            (full,) = tiny.generate([Request(question.text, budget, answer_tokens=16)])
            assert full.thinking.startswith(found.thinking)  # what was thought is what one call would have thought


def test_a_rule_by_probability_is_refused_where_the_engine_has_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="by the probability of the answer, and this engine does not say it"):
        next(answer_adaptively(engine(), [Request("easy")], SURE))
    with pytest.raises(InputError, match="does not say how probable its answers are"):
        next(engine().generate([Request("easy", measures_answer=True)]))
    SURE.save(tmp_path / "sure.json")
    (fault,) = check_recipe(auto_recipe(tmp_path, auto=[str(tmp_path / "sure.json")]))
    assert "by the probability of the answer" in str(fault)


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
    assert "left after 8 equal" in capsys.readouterr().out
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
    rule, tested = calibrate([settled(i, at=2) for i in range(300)] + lucky, STABLE_RULES, max_loss=0.02)
    assert {one.rule.stable: one.losses for one in tested} == {8: 0, 6: 0, 5: 30, 4: 30, 3: 30, 2: 0}
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
