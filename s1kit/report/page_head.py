"""The top of a report: what was found, in sentences, and what a reader must know before believing it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from s1kit.analysis.findings import Findings
from s1kit.recipe import Recipe
from s1kit.records import Question
from s1kit.report.contamination import BOILERPLATE, NEAR_COPY, Contamination
from s1kit.report.page import is_public, mark_noise, table
from s1kit.report.sentences import WITHIN_NOISE, headline

EARLY_STOPS = (
    "The built-in teacher's traces stop too early on purpose: a model trained on them stops early as well, and a Wait "
    "makes it walk on. What this run shows is that the machinery works and what it measures, not that Waits help a "
    "model whose teacher was thorough."
)


def head(recipe: Recipe, findings: Findings) -> str:
    num = len(findings.results.questions)
    return (
        f'<header><p class="kicker">s1kit report</p><h1>{escape(recipe.report.title or recipe.name)}</h1>'
        f'<p class="lead">{escape(recipe.description)} Measured on {num:,} held-out questions.</p></header>'
        f"{head_list(findings)}{notes(recipe)}"
        '<p class="small">Square brackets hold 95 % intervals: of a share, Wilson\'s; of a difference, over the same '
        "questions, paired. A difference whose interval includes zero is called "
        f'<em class="noise">{WITHIN_NOISE}</em>, whichever way it points.</p>'
    )


def notes(recipe: Recipe) -> str:
    """What the run does not prove, in boxes."""
    is_tiny = recipe.distill.teacher == "tiny" and not recipe.evaluate.model
    texts = ([EARLY_STOPS] if is_tiny else []) + ([recipe.report.caveat] if recipe.report.caveat else [])
    return "".join(f'<p class="note">{escape(text)}</p>' for text in texts)


def head_list(findings: Findings) -> str:
    """The headline's sentences, what is within noise marked."""
    sentences = "".join(
        f"<li><strong>{mark_noise(escape(s.claim))}</strong> {escape(s.detail)}</li>" for s in headline(findings)
    )
    return f'<ol class="headline">{sentences}</ol>'


def warning(found: Contamination, questions: Sequence[Question]) -> str:
    """Benchmark questions that the model may have met in training, with their ids."""
    if not found.exact and not found.overlaps:
        return ""
    near = len(found.near_copies)
    parts = []
    if found.exact:
        parts.append(f"{len(found.exact)} of the questions asked here are, word for word, among the training samples")
    if near:
        parts.append(f"{near} share half of their wording or more with one sample")
    weak = len(found.overlaps) - near
    if weak:
        parts.append(
            f"{weak} {'more ' if parts else ''}of {len(questions):,} share eight words in a row with a sample, at most "
            f"{100 * max(o.coverage for o in found.overlaps if o.coverage < NEAR_COPY):.0f} % of their wording"
        )
    is_serious = bool(found.exact or near)
    title = "Contamination." if is_serious else "Overlap with the training samples: no copies."
    return (
        f'<div class="note{" warn" if is_serious else ""}"><strong>{title}</strong> {"; ".join(parts)}. Wording that '
        f"more than {BOILERPLATE} of the benchmark's own questions share does not count."
        f"{_overlap_table(found, questions)}</div>"
    )


def _overlap_table(found: Contamination, questions: Sequence[Question]) -> str:
    public = {q.id: is_public(q) for q in questions}
    rows = [f"<tr><td><code>{id}</code></td><td>word for word</td><td></td><td></td></tr>" for id in found.exact]
    rows += [
        f"<tr><td><code>{o.question_id}</code></td><td>{100 * o.coverage:.0f} %</td><td><code>{o.sample_id}</code></td>"
        f'<td class="text">{escape(o.words) if public[o.question_id] else "withheld"}</td></tr>'
        for o in found.overlaps
    ]
    shown = table(["question", "of its wording", "sample", "for example"], rows)
    return f"<details><summary>The ids of all {len(rows):,}</summary>{shown}</details>"
