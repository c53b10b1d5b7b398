"""The findings as sentences, for the page and the terminal. They never claim what the intervals do not carry."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

from s1kit.analysis.findings import Findings
from s1kit.analysis.intervals import Estimate
from s1kit.analysis.paired import Comparison, compare
from s1kit.analysis.results import Point
from s1kit.analysis.statistics import question_means

WITHIN_NOISE = "within noise"
NOTHING_SHARED = "no question was asked both ways, so nothing can be compared"
MOST_TRUNCATED = 0.05
"""Share of cut answers on one side from which on a comparison says so: a cut answer counts as wrong."""


def percent(estimate: Estimate) -> str:
    """`52.0 [46.4, 57.6]`: a share in percent with its 95 % interval."""
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def points(difference: Estimate) -> str:
    """`+28.0 points [22.1, 33.9]`: a difference of shares."""
    # Adding zero turns a rounded minus zero into zero.
    value, low, high = (round(100 * x, 1) + 0.0 for x in difference)
    return f"{value:+.1f} points [{low:+.1f}, {high:+.1f}]"


def with_interval(estimate: Estimate, form: str) -> str:
    """A number with its interval, each in a format such as `,.0f`; bare where the interval has no upper end.

    >>> with_interval(Estimate(512, 480.2, 544), ",.0f"), with_interval(Estimate(inf, 0, inf), ".4f")
    ('512 [480, 544]', 'none right')
    >>> with_interval(Estimate(0.5, 0, inf), ".4f")
    '0.5000'
    """
    value, low, high = estimate
    if value == inf:
        return "none right"
    if high == inf:  # one question says nothing of others
        return f"{value:{form}}"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


class Sentence(NamedTuple):
    """A claim with its interval, and what it rests on."""

    claim: str
    detail: str

    def __str__(self) -> str:
        return f"{self.claim} {self.detail}"


def headline(findings: Findings) -> list[Sentence]:
    """The headline claims, most important first; each comparison with its paired interval."""
    sentences = [
        *_budget_sentence(findings.by_budget or findings.by_budget_with_waits),
        *_waits_sentence(findings.best_waits, len(findings.by_waits) - 1),
        *_vote_sentence(findings.matched_vote, len(findings.matched_votes)),
    ]
    if findings.baseline:
        sentences.append(_baseline_sentence(findings.baseline, [*findings.by_budget, *findings.by_waits]))
    return sentences or [
        Sentence(f"{setting.label}: {100 * draws.accuracy:.1f} %", f"of {len(draws.question_ids)} questions.")
        for setting, draws in findings.results.draws.items()
    ]


MOST_NAMED = 3
"""Settings that are named where there are more."""


def not_drawn(findings: Findings) -> list[str]:
    """A sentence that names the settings which stand in the table alone; none where every setting is drawn."""
    names = [p.name for p in findings.undrawn]
    if not names:
        return []
    more = [f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    t = findings.results.temperature
    is_other = any(p.draws.setting.temperature != t for p in findings.undrawn)
    curve = f"The curve is at temperature {t:g}{'' if t else ' or none stated'}. " if is_other else ""
    return [f"{curve}Not drawn, and only in the table of settings: {'; '.join([*names[:MOST_NAMED], *more])}."]


def _budget_sentence(by_budget: Sequence[Point]) -> list[Sentence]:
    if not by_budget:
        return []
    first, last = by_budget[0], by_budget[-1]
    if first is last:
        return [Sentence(f"{percent(last.estimate)} % are right", f"(thinking: {last.name}).")]
    return [
        Sentence(
            _claim("More thinking", compare(first, last)) + _truncated([first, last]),
            f"Allowed {last.name} instead of {first.name}, accuracy goes from {percent(first.estimate)} to "
            f"{percent(last.estimate)} %.",
        )
    ]


def _waits_sentence(step: Comparison | None, num_tried: int) -> list[Sentence]:
    if step is None:
        return []
    picked = f" (the best of {num_tried} numbers tried; the interval is widened for that)" if num_tried > 1 else ""
    is_shares = max(step.before.draws.repeats, step.after.draws.repeats) > 1
    fixed, broken = ("right more often", "less often") if is_shares else ("fixed", "broken")
    return [
        Sentence(
            _claim("Waiting", step) + _truncated([step.before, step.after]),
            f"Told to wait where it would have stopped, it goes from {percent(step.before.estimate)} to "
            f"{percent(step.after.estimate)} % with {step.after.name}{picked}: {step.flips.fixed} questions {fixed}, "
            f"{step.flips.broken} {broken}, exact p {p_value(step.p_value)}.",
        )
    ]


def _vote_sentence(matched: Comparison | None, num_tried: int) -> list[Sentence]:
    if matched is None or not matched.shared:
        return []
    waits, vote, difference = matched.after, matched.before, matched.difference
    name = "One sample" if vote.votes == 1 else f"A {vote.name}"
    if matched.is_noise:
        claim = f"Waits against votes: {WITHIN_NOISE}, {points(difference)}."
    else:
        claim = f"{'Waits do better' if difference.value > 0 else 'Votes do better'}: {points(abs_of(difference))}."
    unlike = f" The two are not decoded alike: {matched.sampling}." if matched.sampling else ""
    picked = f" The interval is widened for the {num_tried} pairs looked at." if num_tried > 1 else ""
    return [
        Sentence(
            claim + _truncated([vote, waits]),
            f"{name} at the nearest cost, {vote.tokens:,.0f} against {waits.tokens:,.0f} thinking tokens, is "
            f"right on {percent(vote.estimate)} %; with {waits.name} it is {percent(waits.estimate)} %."
            f"{picked}{unlike}",
        )
    ]


def _baseline_sentence(baseline: Point, others: Sequence[Point]) -> Sentence:
    said = f"The base model, answering directly, is right on {percent(baseline.estimate)} %"
    if not others:
        return Sentence(f"{said}.{_truncated([baseline], 'evaluate.direct_tokens')}", "")
    top = max(others, key=lambda p: p.estimate.value)
    return Sentence(
        _claim("Learning to think", compare(baseline, top, comparisons=len(others)))
        + _truncated([baseline], "evaluate.direct_tokens")
        + _truncated([top]),
        f"{said}; the trained model with {top.name}, the best of {len(others)} settings, on {percent(top.estimate)} %.",
    )


def _truncated(sides: Sequence[Point], setting: str = "evaluate.answer_tokens") -> str:
    """What must stand beside a comparison of these: whose answers ran out of room, and how many of them did."""
    cut = [(p, float(question_means(p.draws.truncated).mean())) for p in sides]
    said = [f"{100 * share:.0f} % of the answers ({p.name})" for p, share in cut if share > MOST_TRUNCATED]
    if not said:
        return ""
    return f" But {' and '.join(said)} were cut off at their room and count as wrong: raise {setting}."


def abs_of(difference: Estimate) -> Estimate:
    """The difference turned so that its value is positive."""
    if difference.value >= 0:
        return difference
    return Estimate(-difference.value, -difference.high, -difference.low)


def _claim(what: str, found: Comparison) -> str:
    if not found.shared:
        return f"{what}: {NOTHING_SHARED}."
    asked = [len(side.draws.question_ids) for side in (found.before, found.after)]
    of = "" if max(asked) == found.shared else f" on the {found.shared:,} questions that both were asked"
    if found.is_noise:
        return f"{what}: {WITHIN_NOISE}, {points(found.difference)}{of}."
    return f"{what} {'helps' if found.difference.value > 0 else 'hurts'}: {points(found.difference)}{of}."


def p_value(p: float) -> str:
    """A p-value as text after the letter p: `= 0.032`, `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 1 else "= 1"


_BAR = 40
"""Characters of a bar from 0 to 1."""


def text_curve(points_: Sequence[Point]) -> list[str]:
    """The curve as lines of text: name, tokens, a bar with the interval marked, the numbers."""
    lines = []
    longest = max((len(p.name) for p in points_), default=0)
    for p in points_:
        low, value, high = (round(x * _BAR) for x in (p.estimate.low, p.estimate.value, p.estimate.high))
        bar = "".join(
            "█" if i < min(low, value) else "▓" if i < value else "░" if i < high else " " for i in range(_BAR)
        )
        lines.append(f"  {p.name:<{longest}} {p.tokens:7,.0f} |{bar}| {percent(p.estimate)}")
    return lines
