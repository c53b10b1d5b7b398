"""`s1kit calibrate`: find how early thinking may be left, on labelled questions, with a promise."""

from __future__ import annotations

import argparse
from pathlib import Path

from s1kit.adaptive.answering import ProbedRequest, answer_of, probe_all
from s1kit.adaptive.calibration import Probed, calibrate, labels_needed
from s1kit.adaptive.rule import FILE, ExitRule
from s1kit.engines import load_engine
from s1kit.engines.options import read_switches
from s1kit.errors import InputError
from s1kit.evaluate.benchmarks import load_benchmarks
from s1kit.evaluate.evaluate import grade
from s1kit.forcing.request import Request
from s1kit.grade import load_grader
from s1kit.grade.equality import group_equal
from s1kit.progress import say
from s1kit.records import Question


def main(given: argparse.Namespace) -> int:
    max_loss, confidence = given.max_loss / 100, given.confidence / 100
    target = _target(given.model, given.to)
    questions = load_benchmarks([given.questions], given.num, given.seed)
    if 0 < max_loss < 1 and 0 < confidence < 1 and len(questions) >= labels_needed(max_loss, confidence):
        probed = _probe(given, questions)
    else:
        probed = [Probed(q.id, (None,), (False,), (0,)) for q in questions]  # refused below, before anything is decoded
    rule, tested = calibrate(probed, given.every, given.max_tokens, max_loss, confidence)
    print("equal answers  tokens  losses  gains  p-value")
    for one in tested:
        chosen = "  <- chosen" if one.stable == rule.stable else ""
        print(f"{one.stable:13}  {one.tokens:6.1f}  {one.losses:6}  {one.gains:5}  {one.p_value:.3g}{chosen}")
    assert rule.calibrated is not None
    full = rule.calibrated.full_tokens
    if rule.stable is None:
        print(f"No rule passes: thinking is never left early ({full:.1f} tokens).")
    else:
        print(
            f"Left after {rule.stable} equal answers: {rule.calibrated.tokens:.1f} thinking tokens, not {full:.1f}. "
            f"With {given.confidence:g} % confidence at most {given.max_loss:g} points of accuracy are lost."
        )
    rule.save(target)
    say(f"written to {target}")
    return 0


def _target(model: str, to: str | None) -> Path:
    if to is not None:
        return Path(to)
    folder = Path(model.removeprefix("hf:").removeprefix("vllm:"))
    if not folder.is_dir():
        raise InputError(
            f"{model} is not a checkpoint folder", where="--to", fix="Say where the rule is to be written."
        )
    return folder / FILE


def _probe(given: argparse.Namespace, questions: list[Question]) -> list[Probed]:
    switches = read_switches(given.template)
    engine = load_engine(given.model, template=switches, **({"format": given.format} if given.format else {}))
    plain = ExitRule(every=given.every, stable=1, max_tokens=given.max_tokens)
    requests = [Request(q.text, answer_tokens=given.answer_tokens, question_id=q.id) for q in questions]
    say(f"{len(questions)} questions, {len(plain.points())} probes each at most")
    asked = probe_all(engine, requests, plain)
    by_id = {q.id: q for q in questions}
    grader = load_grader()
    return [_probed(one, by_id, grader) for one in asked]


def _probed(asked: ProbedRequest, by_id: dict[str, Question], grader: object) -> Probed:
    graded = grade(asked.probes, by_id, grader)  # type: ignore[arg-type]
    answers = [answer_of(probe) for probe in asked.probes]
    names = iter(group_equal([a for a in answers if a]))
    return Probed(
        asked.request.question_id,
        tuple(next(names) if answer else None for answer in answers),
        tuple(row.verdict == "correct" for row in graded),
        tuple(probe.thinking_tokens for probe in asked.probes),
    )
