"""`s1kit calibrate`: find how early thinking may be left, on labelled questions, with a bound on the loss."""

from __future__ import annotations

import argparse
from pathlib import Path

from s1kit.adaptive.answering import ProbedRequest, answer_of, check_engine, probe_all
from s1kit.adaptive.calibration import (
    Probed,
    TriedRule,
    calibrate,
    check_promise,
    largest_price,
    points,
    rules_of,
)
from s1kit.adaptive.rule import FILE, Calibrated, ExitRule
from s1kit.engines import load_engine
from s1kit.engines.interface import close_engine
from s1kit.engines.references import read_switches
from s1kit.errors import InputError
from s1kit.evaluate.benchmarks import load_benchmarks
from s1kit.evaluate.evaluate import grade
from s1kit.forcing.request import Engine, Request
from s1kit.grade import load_grader
from s1kit.grade.equality import group_equal
from s1kit.progress import say
from s1kit.records import Question


def main(given: argparse.Namespace) -> int:
    confidence, most_tokens = given.confidence / 100, given.tokens
    max_loss = None if most_tokens is not None else (1.0 if given.max_loss is None else given.max_loss) / 100
    target = _target(given.model, given.to)
    if given.every >= given.max_tokens:
        raise InputError(
            f"--every is {given.every} and --max-tokens {given.max_tokens}, so thinking is never asked before its end",
            where="--every",
            fix=f"Give less than {given.max_tokens}.",
        )
    rules = rules_of(given.rule, given.every, given.max_tokens)
    questions = load_benchmarks([given.questions], given.num, given.seed)
    # What can be refused is refused before anything is decoded.
    check_promise(len(questions), max_loss, most_tokens, confidence, largest_price(rules, given.answer_tokens))
    engine = load_engine(
        given.model, template=read_switches(given.template), **({"format": given.format} if given.format else {})
    )
    try:
        check_engine(rules[0], engine, "--rule")
        probed = probe_questions(engine, questions, rules[0], given.answer_tokens)
    finally:
        close_engine(engine)
    rule, tested = calibrate(
        probed,
        rules,
        max_loss=max_loss,
        most_tokens=most_tokens,
        confidence=confidence,
        answer_tokens=given.answer_tokens,
    )
    _print(rule, tested)
    rule.save(target)
    say(f"written to {target}")
    return 0


def _print(rule: ExitRule, tested: list[TriedRule]) -> None:
    promise = rule.calibrated
    assert promise is not None
    print("tokens  probes  losses  gains  p-value  rule")
    for one in tested:
        chosen = "  <- chosen" if one.rule.said == rule.said else ""
        print(
            f"{one.tokens:6.1f}  {one.probe_tokens:6.1f}  {one.losses:6}  {one.gains:5}  {one.p_value:7.3g}  "
            f"{one.rule.said}{chosen}"
        )
    full = promise.full_tokens
    if rule.leaves_early:
        print(
            f"Rule: {rule.said}: {promise.tokens:.1f} thinking tokens and {promise.probe_tokens:.1f} of probes, not "
            f"{full:.1f}. {_promise(promise)}"
        )
    elif promise.most_tokens is not None:
        print(f"Thinking is never left early: {full:.1f} tokens on average. {_promise(promise)}")
    else:
        why = "no rule passes, or what passes takes more with its probes than it saves"
        print(f"Thinking is never left early ({full:.1f} tokens): {why}.")


def _promise(promise: Calibrated) -> str:
    sure = f"With {100 * promise.confidence:g} % confidence"
    if promise.most_tokens is not None:
        return f"{sure} it takes at most {promise.most_tokens:g} tokens on average."
    return f"{sure} at most {points(promise.max_loss or 0)} of accuracy are lost."


def _target(model: str, to: str | None) -> Path:
    if to is not None:
        # Said before hours of decoding, not after them.
        if not Path(to).is_dir() and not Path(to).absolute().parent.is_dir():
            raise InputError(f"there is no folder {str(Path(to).parent)!r}", where="--to", fix="Make it first.")
        return Path(to) / FILE if Path(to).is_dir() else Path(to)
    folder = Path(model.removeprefix("hf:").removeprefix("vllm:"))
    if not folder.is_dir():
        raise InputError(
            f"{model} is not a checkpoint folder", where="--to", fix="Say where the rule is to be written."
        )
    return folder / FILE


def probe_questions(
    engine: Engine,
    questions: list[Question],
    most_cautious: ExitRule,
    room: int,
    measures: bool = False,
    num_samples: int = 0,
) -> list[Probed]:
    """Every probe of every question, graded, with all that any rule of this kind looks at.

    `room`: answer tokens. `measures` and `num_samples`: as for `probe_all`.
    """
    requests = [Request(q.text, answer_tokens=room, question_id=q.id) for q in questions]
    say(f"{len(questions)} questions, {len(most_cautious.points())} probes each at most")
    asked = probe_all(engine, requests, most_cautious, measures, num_samples)
    by_id = {q.id: q for q in questions}
    grader = load_grader()
    return [_probed(one, by_id, grader) for one in asked]


def _probed(asked: ProbedRequest, by_id: dict[str, Question], grader: object) -> Probed:
    graded = grade(asked.probes, by_id, grader)  # type: ignore[arg-type]
    answers = [answer_of(probe) for probe in asked.probes]
    names = iter(group_equal([a for a in answers if a]))
    known = asked.all_evidence()
    samples = [asked.samples[i] if i < len(asked.samples) else [] for i in range(len(answers))]
    return Probed(
        asked.request.question_id,
        tuple(next(names) if answer else None for answer in answers),
        tuple(row.verdict == "correct" for row in graded),
        tuple(probe.thinking_tokens for probe in asked.probes),
        tuple(probe.answer_tokens for probe in asked.probes),
        tuple(each.probability for each in known),
        tuple(each.agreeing for each in known),
        tuple(tuple(sample.answer_tokens for sample in drawn) for drawn in samples),
    )
