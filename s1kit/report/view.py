"""What the templates of a report are given: their environment, and the tables that need more than a look-up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from jinja2 import Environment

from s1kit.analysis.findings import Findings
from s1kit.analysis.intervals import Estimate
from s1kit.analysis.paired import Comparison, compare
from s1kit.analysis.results import (
    HIDDEN,
    NO_COUNT,
    UNCOUNTED,
    WORDS_NOTE,
    Draws,
    Point,
    Rates,
    rates,
    thinking_by_correctness,
)
from s1kit.analysis.settings import CHAT, waits_name
from s1kit.analysis.statistics import question_means, ratio
from s1kit.html import Markup, environment, escape
from s1kit.recipe import Recipe
from s1kit.records import Question
from s1kit.report.contamination import Contamination, contamination_of
from s1kit.report.provenance import origins, read_provenance
from s1kit.report.questions import examples, flip_map, longest, verdicts
from s1kit.report.sentences import WITHIN_NOISE, headline, not_drawn, p_value, percent, points, with_interval
from s1kit.stage import Run

EARLY_STOPS = (
    "The built-in teacher's traces stop too early on purpose: a model trained on them stops early as well, and a Wait "
    "makes it walk on. What this run shows is that the machinery works and what it measures, not that Waits help a "
    "model whose teacher was thorough."
)


_AS_REPORTED = "as reported"
_COUNTED = {
    HIDDEN: "hidden; from the reported usage",
    UNCOUNTED: "estimated: output less the answer's words",
    WORDS_NOTE: "counted as words",
    NO_COUNT: "not known, so 0",
}
"""How a note of a generation reads in the table."""


class Group(NamedTuple):
    """The points of one method in the table of settings."""

    name: str
    colour: str
    """Name of the colour in the page's style, or empty."""
    points: Sequence[Point]


def templates() -> Environment:
    """The report's templates with their filters."""
    return environment(
        "s1kit.report",
        percent=percent,
        bare_points=lambda difference: points(difference).replace(" points", ""),
        amount=amount,
        tokens=lambda value: "" if value != value else f"{value:,.0f}",
        p_value=p_value,
        waits_name=waits_name,
        short=short,
        is_public=is_public,
        mark_noise=mark_noise,
        rates=rates,
        reference=lambda q: str(q.metadata.get("final_answer") or q.solution or "")[:80],
        tokens_by_correctness=thinking_by_correctness,
        odd_settings=odd_settings,
        if_graded=if_graded,
        if_estimated=if_estimated,
        said_counts=lambda counts: ", ".join(f"{n:,} {w}" for w, n in counts.items() if not w.startswith("dropped:")),
    )


def short(text: str) -> str:
    """One line of at most 180 characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= 180 else flat[:177] + "..."


def mark_noise(text: str) -> Markup:
    """The text, escaped, with the words `within noise` emphasised."""
    return Markup(escape(text).replace(WITHIN_NOISE, Markup(f'<em class="noise">{WITHIN_NOISE}</em>')))


def is_public(question: Question) -> bool:
    """Whether a page that may be published may show the question: the authors of some ask that it be not."""
    return "not to be republished" not in question.licence


def amount(estimate: Estimate | None) -> str:
    """A number of tokens with its interval: `512 [480, 544]`; bare where it is zero throughout, empty without."""
    if estimate is None:
        return ""
    return "0" if estimate.value == estimate.high == 0 else with_interval(estimate, ",.0f")


def body(
    run: Run, recipe: Recipe, findings: Findings, figures: dict[str, Markup], to_run: str | None
) -> dict[str, Any]:
    """The variables of `body.jinja`. Links are included where `to_run` leads from the page to the folder of the run."""
    questions = findings.results.questions
    transcripts, num_left_out = longest(findings)
    columns, rows = verdicts(findings)
    return {
        "findings": findings,
        "figures": figures,
        "caption": caption(findings),
        "headline": headline(findings),
        "overlap": overlap(contamination_of(run, questions), questions),
        "groups": groups(findings),
        "by_source": by_source(findings),
        "comparators": comparators(findings),
        "flips": flip_map(findings),
        "traces": examples(findings),
        "questions": {q.id: q for q in questions},
        "transcripts": transcripts,
        "num_left_out": num_left_out,
        "question_columns": columns,
        "question_rows": rows,
        **origins(read_provenance(run), recipe, to_run),
    }


def notes(recipe: Recipe) -> list[str]:
    """What the run does not show, one sentence each: the caveat of its recipe, and that of the tiny demo."""
    is_tiny = [each.teacher for each in recipe.distill.each] == ["tiny"] and not recipe.evaluate.model
    return ([EARLY_STOPS] if is_tiny else []) + ([recipe.report.caveat] if recipe.report.caveat else [])


def caption(findings: Findings) -> str:
    """The sentences below the scaling curve."""
    parts = [f"{len(findings.results.questions):,} questions; bands are 95 % intervals of each point by itself."]
    if findings.by_waits:
        parts.append("Numbers at the orange points count Waits.")
    if findings.by_votes:
        parts.append("A vote is drawn at the tokens of all its samples together; numbers below the points count them.")
    return " ".join([*parts, *not_drawn(findings)])


def overlap(found: Contamination, questions: Sequence[Question]) -> dict[str, Any]:
    """Benchmark questions that the model may have met in training, with their ids."""
    lines = []
    if found.exact:
        lines.append(f"{len(found.exact)} of the questions asked here are, word for word, among the training samples")
    if found.overlaps:
        lines.append(f"{len(found.overlaps)} share half of their wording or more with one sample")
    public = {q.id: is_public(q) for q in questions}
    return {
        "lines": lines,
        "rows": [(id, "word for word", "", "") for id in found.exact]
        + [
            (o.question_id, f"{100 * o.coverage:.0f} %", o.sample_id, o.words if public[o.question_id] else "withheld")
            for o in found.overlaps
        ],
    }


def groups(findings: Findings) -> list[Group]:
    """Every setting and method of the run, in the order of the tables."""
    found = [
        Group("Thinking budget, stopping when it wants", "budget", findings.by_budget),
        Group("Waits under the largest budget", "waits", findings.by_waits),
        Group("Thinking budget with the most Waits", "both", findings.by_budget_with_waits),
        Group("Majority vote over samples", "votes", findings.by_votes),
        *(Group(name[0].upper() + name[1:], "", found) for name, found in findings.others.items()),
        Group("Not on the curve", "", findings.undrawn),
        Group("Any of several samples (nobody tells which: a bound, not a method)", "", findings.passes[1:]),
        Group("Other models", "", findings.comparators),
        Group("Baseline", "baseline", [findings.baseline] if findings.baseline else []),
    ]
    return [group for group in found if group.points]


def odd_settings(found: Sequence[Group]) -> list[tuple[str, Rates]]:
    """The settings with answers that are missing, truncated, looped, not graded or failed, with their shares."""
    draws = {p.draws.setting: p.draws for group in found for p in group.points}
    all_rates = [(setting.label, rates(d)) for setting, d in draws.items()]
    return [
        (label, r)
        for label, r in all_rates
        if any(e.value for e in (r.no_answer, r.truncated, r.loop, r.abstain, r.failed))
    ]


def if_graded(point: Point) -> str:
    """The accuracy that a point would have if all that the grader abstained from were right; empty where it did not."""
    abstained = float(question_means(point.draws.abstained).mean())
    if not abstained or point.per_question is not None:
        return ""
    return f"{100 * (point.estimate.value + abstained):.1f} if all ungraded are right"


def by_source(findings: Findings) -> dict[str, Any]:
    """The accuracy of a few settings on each kind of question."""
    budgets = findings.by_budget
    columns = [p for p in (findings.baseline, *budgets[:1], *budgets[1:][-1:]) if p]
    if findings.best_waits:
        columns.append(findings.best_waits.after)
    cells = [findings.by_source(p) for p in columns]
    counts = Counter(findings.source_of.values())
    return {
        "columns": [p.name for p in columns],
        "rows": [(source, counts[source], [cell[source] for cell in cells]) for source in findings.sources],
    }


def comparators(findings: Findings) -> dict[str, Any]:
    """Other models whose outputs were graded here, compared with the best setting of this run."""
    ours, tried = findings.main_line[-1] if findings.main_line else None, 1
    if findings.best_waits:
        ours, tried = findings.best_waits.after, max(1, len(findings.by_waits) - 1)
    tried *= len(findings.comparators)
    asked = len(findings.results.questions)
    return {
        "ours": ours.name if ours else "",
        "rows": [
            _comparator(p, asked, compare(ours, p, comparisons=tried) if ours else None) for p in findings.comparators
        ],
    }


def _comparator(p: Point, asked: int, difference: Comparison | None) -> dict[str, Any]:
    import numpy as np

    draws = p.draws
    num, dollars = len(draws.question_ids), float(np.nansum(draws.cost_usd))
    failed = rates(draws).failed.value
    price = ratio(np.nansum(draws.cost_usd, axis=1), np.nansum(draws.correct, axis=1))
    return {
        "point": p,
        "how": "asked now" if draws.setting.method == CHAT else "published outputs",
        "lost": f"{100 * failed:.1f} % failed, counted as wrong" if failed else "",
        "questions": str(num) if num == asked else f"{num} of {asked}",
        "counted": counted(draws),
        "dollars": f"{dollars:.4f}" if dollars else "",
        "dollars_per_right": with_interval(price, ".4f") if price.value else "",
        "difference": difference,
    }


def counted(draws: Draws) -> str:
    """How the thinking tokens of a model's rows were counted, in words; several ways, where rows differ."""
    import numpy as np

    ways: Counter[str] = Counter()
    for note in draws.note[~np.isnan(draws.correct)].tolist():
        ways[next((text for key, text in _COUNTED.items() if key in str(note)), _AS_REPORTED)] += 1
    if len(ways) == 1:
        return next(iter(ways))
    return "; ".join(f"{num}: {way}" for way, num in ways.most_common())


def if_estimated(draws: Draws) -> str:
    """How the thinking tokens of a setting were counted, where any row's were not counted as tokens; else empty."""
    return "" if (ways := counted(draws)) == _AS_REPORTED else ways
