"""The default grader. Cheapest rule first: spelling, numbers, options, then math-verify and a numeric second opinion.

It abstains where it cannot know: a solution without a final answer, a comparison that does not end, two opinions that
disagree and no judge to ask.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from s1kit.errors import MissingExtra
from s1kit.grade.cases import Case, Judgement, judge_any
from s1kit.grade.compare import canonical
from s1kit.grade.normalise import normalise
from s1kit.grade.rules import judge_by_rules, short
from s1kit.grade.shapes import other_names, unalike
from s1kit.grade.workers import SECONDS, WorkerPool

Judge = Callable[[Sequence[Case]], Sequence[Judgement]]
"""Asked only where the rules disagree."""


class Cascade:
    """The default grader. Worker processes start when the first case needs them."""

    def __init__(self, processes: int = 2, seconds: float = SECONDS, judge: Judge | None = None) -> None:
        self._pool = WorkerPool(processes, seconds)
        self._judge = judge

    def __call__(
        self, answer: str, solution: str, kind: str = "", question: str = "", aliases: tuple[str, ...] = ()
    ) -> Judgement:
        return self.grade([Case(answer, solution, kind, question, aliases)])[0]

    def close(self) -> None:
        """Stop the worker processes. They also stop when the grader is garbage collected."""
        self._pool.close()

    def grade(self, cases: Sequence[Case]) -> list[Judgement]:
        """The verdicts, one a case, in order. Whatever a case holds, it neither raises nor hangs."""
        done = judge_any(cases, self._grade)
        return self._ask_judge(cases, done) if self._judge else done

    def _grade(self, cases: Sequence[Case]) -> list[Judgement]:
        judgements: list[Judgement | None] = []
        pairs: dict[tuple[str, str], list[int]] = {}
        for number, case in enumerate(cases):
            ruled = judge_by_rules(case)
            if isinstance(ruled, Judgement):
                judgements.append(ruled)
            else:
                judgements.append(None)
                pairs.setdefault(ruled, []).append(number)
        if pairs:
            _require_math_verify()
        for (pair, numbers), found in zip(pairs.items(), self._pool.run(list(pairs)) if pairs else (), strict=True):
            for number in numbers:
                judgements[number] = _symbolic_judgement(pair, found)
        return [judgement for judgement in judgements if judgement is not None]

    def _ask_judge(self, cases: Sequence[Case], judgements: list[Judgement]) -> list[Judgement]:
        open_ones = [n for n, j in enumerate(judgements) if j.verdict == "abstain" and j.final_answer]
        if open_ones and self._judge is not None:
            for number, judged in zip(open_ones, self._judge([cases[n] for n in open_ones]), strict=True):
                before = judgements[number]
                evidence = f"{before.evidence}; {judged.evidence}"
                judgements[number] = Judgement(judged.verdict, evidence, before.final_answer)
        return judgements


def _symbolic_judgement(pair: tuple[str, str], found: dict[str, object]) -> Judgement:
    mine, right = pair
    shown, final = f"{short(mine)} and {short(right)}", canonical(normalise(mine))
    if failure := found.get("failure"):
        return Judgement("abstain", f"{failure}: {shown}", final)
    verified, numeric = found["verified"], found["numeric"]
    if numeric == "certain":
        return Judgement("wrong", f"other values: {shown}", final)
    if verified is None:
        if numeric in ("same", "different"):
            return Judgement("correct" if numeric == "same" else "wrong", f"numbers say {numeric}: {shown}", final)
        unread = "answer" if not found["read_answer"] else "solution"
        return Judgement("abstain", f"math-verify cannot read the {unread}: {shown}", final)
    if verified and numeric == "different":
        return Judgement("abstain", f"math-verify says equal, numbers say different: {shown}", final)
    if not verified and numeric in ("same", "positive"):
        # Our parser read all of both and found equal values at every point, so math-verify misread one of them. Equal
        # at positive points only, or an equation, is no proof.
        sure = numeric == "same" and "=" not in mine + right
        says = f"math-verify says different, numbers say {numeric}"
        return Judgement("correct" if sure else "abstain", f"{says}: {shown}", final)
    if not verified and numeric == "close" and re.search(r"\.\d", right) and re.search("[a-zA-Z]", right):
        return Judgement("abstain", f"other decimals: {shown}", final)
    support = "" if numeric in ("unknown", "close") else ", and so do numbers"
    if verified and other_names(mine, right):
        return Judgement("abstain", f"other names: {shown}", final)
    if verified:
        return Judgement("correct", f"math-verify says equal{support}: {shown}", final)
    if why := unalike(mine, right):
        return Judgement("abstain", f"{why}: {shown}", final)
    return Judgement("wrong", f"math-verify says different{support}: {shown}", final)


def _require_math_verify() -> None:
    from importlib.util import find_spec

    if find_spec("math_verify") is None:
        raise MissingExtra("comparing formulas", "math-verify", extra="grade")
