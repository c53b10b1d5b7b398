"""Stage `report`: one HTML file and the curve, from the files of the other stages. It computes nothing by chance."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from s1kit import __version__
from s1kit.analysis.findings import Findings
from s1kit.analysis.published_number import PublishedNumber
from s1kit.recipe import Recipe
from s1kit.records import Generation, Question, Setting
from s1kit.report import page, page_head, page_methods, page_origins, page_others, page_settings, page_traces
from s1kit.report.contamination import contamination_of
from s1kit.report.curves import draw_curve, draw_loss, draw_methods, draw_panels
from s1kit.report.figures import as_svg, inline, save
from s1kit.report.provenance import Provenance, read_provenance
from s1kit.report.rows import read_results
from s1kit.report.sentences import headline, text_curve
from s1kit.stage import RECEIPT, Run, Stage, hash_file, write_atomically

MAX_PANELS = 6
MAX_TRANSCRIPTS = 500
MAX_TRANSCRIPT_TOKENS = 400_000
"""About two megabytes of page."""


def report(recipe: Recipe, run: Run) -> Stage:
    """Write report/report.html and its figures as SVG and PNG. It is made anew whenever its inputs have changed.

    Of a run that ends before its evaluation it shows how the pool became samples.
    """
    stage = run.open("report", config={}, seed=0)
    if not _is_evaluated(run) and (found := read_provenance(run)).receipts:
        return _report_samples(stage, recipe, found)
    shards = run.shards("evaluate", "generations")
    read = [*run.shards("evaluate", "questions"), *run.shards("evaluate", "numbers"), *shards]
    inputs = {str(p.relative_to(run.folder)): hash_file(p) for p in read}
    if _is_made_from(stage, inputs, recipe):
        return stage
    findings = findings_of(run, recipe.evaluate.votes)
    sections = [
        page_head.head(recipe, findings),
        *sections_of(run, recipe, findings, stage.folder, to_run=".."),
    ]
    html = page.page(f"{recipe.name}: s1kit report", sections)
    write_atomically(stage.folder / "report.html", lambda path: path.write_text(html, encoding="utf-8"))
    stage.inputs = inputs
    stage.counts["questions"] = len(findings.results.questions)
    stage.counts["settings"] = len(findings.results.draws)
    stage.figures["recipe"] = recipe.model_dump(mode="json")
    stage.figures["headline"] = [str(sentence) for sentence in headline(findings)]
    stage.finish()
    return stage


def _is_evaluated(run: Run) -> bool:
    return (run.folder / "evaluate" / RECEIPT).exists()


def _report_samples(stage: Stage, recipe: Recipe, found: Provenance) -> Stage:
    sections = [
        page_origins.funnel_section(found, ".."),
        page_origins.training_section(found, _loss(found.losses, stage.folder)),
        page_origins.receipts_section(found, recipe.model_dump(mode="json")),
    ]
    html = page.page(f"{recipe.name}: from the pool to the samples", sections)
    write_atomically(stage.folder / "report.html", lambda path: path.write_text(html, encoding="utf-8"))
    stage.figures["recipe"] = recipe.model_dump(mode="json")
    stage.finish()
    return stage


def sections_of(run: Run, recipe: Recipe, findings: Findings, folder: Path, to_run: str | None = None) -> list[str]:
    """Everything that a report says of one run, below its headline; its figures are also written into `folder`.

    With links where `to_run` leads from the page to the folder of the run.
    """
    questions = findings.results.questions
    found = read_provenance(run)
    curve = _figure(draw_curve(findings), "accuracy against thinking tokens", folder / "curve")
    return [
        page_head.warning(contamination_of(run, questions), questions),
        page.figure(curve, _caption(findings)),
        page_settings.settings_table(findings),
        page_others.others_section(findings),
        page_methods.waits_section(findings),
        page_methods.methods_section(findings),
        page.figure(
            _methods(findings, folder), "Every method on the same axes; each point costs all the draws it needed."
        )
        if findings.others
        else "",
        page_settings.sources_section(findings, _panels(findings, folder)),
        page_methods.early_exit_section(findings),
        page_traces.traces_section(_traces(findings), {q.id: q for q in questions}),
        page_traces.questions_section(findings, *_transcripts(findings)),
        page_origins.funnel_section(found, to_run),
        page_origins.training_section(found, _loss(found.losses, folder)),
        page_origins.receipts_section(found, recipe.model_dump(mode="json")),
    ]


def _is_made_from(stage: Stage, inputs: dict[str, str], recipe: Recipe) -> bool:
    """Whether the report that is there already shows these rows and this recipe, in this version."""
    if not stage.is_done:
        return False
    receipt = json.loads(stage.receipt_path.read_text(encoding="utf-8"))
    made = (receipt["s1kit"], receipt["inputs"], receipt["recipe"])
    return made == (__version__, inputs, recipe.model_dump(mode="json"))


def summary(run: Run) -> str:
    """The curve as text and where the report lies, for the terminal."""
    if not _is_evaluated(run):
        return f"report: {run.folder / 'report' / 'report.html'}"
    votes = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))["resolved"]["evaluate"]["votes"]
    findings = findings_of(run, votes)
    groups = [
        ("thinking budget", findings.by_budget),
        ("Waits", findings.by_waits),
        ("majority vote", findings.by_votes),
        ("baseline", [findings.baseline] if findings.baseline else []),
    ]
    lines = [f"\n{run.folder.name}: accuracy in % with 95 % intervals, by thinking tokens a question"]
    for name, points in groups:
        if points:
            lines += [f" {name}", *text_curve(points)]
    lines += ["", *map(str, headline(findings)), ""]
    for name in ("curve.png", "report.html"):
        path = run.folder / "report" / name
        if path.exists():
            lines.append(f"{name.split('.')[0]:>7}: {path}")
    return "\n".join(lines)


def findings_of(run: Run, votes: Sequence[int]) -> Findings:
    """What a run's evaluation found. InputError where it has not finished."""
    questions = list(run.rows("evaluate", "questions", Question))
    numbers = list(run.rows("evaluate", "numbers", PublishedNumber))
    return Findings(read_results(questions, run.shards("evaluate", "generations")), votes, numbers)


def _caption(findings: Findings) -> str:
    parts = [f"{len(findings.results.questions):,} questions; bands are 95 % intervals of each point by itself."]
    if findings.by_waits:
        parts.append("Numbers at the orange points count Waits.")
    if findings.by_votes:
        parts.append("A vote is drawn at the tokens of all its samples together; numbers below the points count them.")
    return " ".join(parts)


def _figure(draw: Callable[[], Any], title: str, path: Path) -> str:
    """For the page, and beside it as SVG and PNG."""
    with draw() as drawn:
        svg = as_svg(drawn)
        save(drawn, svg, path)
        return inline(svg, title)


def _panels(findings: Findings, folder: Path) -> str:
    if not 2 <= len(findings.sources) <= MAX_PANELS:
        return ""
    return _figure(draw_panels(findings), "accuracy against thinking tokens by kind of question", folder / "panels")


def _methods(findings: Findings, folder: Path) -> str:
    return _figure(draw_methods(findings), "accuracy against thinking tokens for every method", folder / "methods")


def _transcripts(findings: Findings) -> tuple[dict[str, Generation], int]:
    """The transcript of the largest setting for each question, as many as the page can carry."""
    shown = findings.by_waits or findings.by_budget
    if not shown:
        return {}, 0
    draws = shown[-1].draws
    mean = float((draws.thinking_tokens + draws.answer_tokens).mean())
    fitting = max(0, min(MAX_TRANSCRIPTS, int(MAX_TRANSCRIPT_TOKENS / max(mean, 1.0))))
    ids = draws.question_ids[:fitting]
    found = {g.question_id: g for g in findings.results.texts(ids, [draws.setting]) if g.repeat == 0}
    return found, len(draws.question_ids) - len(ids)


def _loss(losses: Sequence[tuple[int, float]], folder: Path) -> str:
    return _figure(draw_loss(losses), "training loss by optimiser step", folder / "loss") if losses else ""


def _traces(findings: Findings) -> list[tuple[str, Generation]]:
    """Up to three transcripts that show what Waits and cutoffs do, the shortest of their kind."""
    wanted: list[tuple[str, str, Setting]] = []
    if findings.best_waits:
        none, best = findings.best_waits.before, findings.best_waits.after
        fixed = _first_change(none.draws, best.draws, 0.0, 1.0)
        if fixed:
            wanted.append(("Fixed by waiting: wrong without a Wait, right with", fixed, best.draws.setting))
        most = findings.by_waits[-1]
        broken = _first_change(none.draws, most.draws, 1.0, 0.0)
        if broken:
            wanted.append(("Broken by waiting: right without a Wait, wrong with", broken, most.draws.setting))
    cut = _cut_off(findings)
    if cut:
        wanted.append(("Cut off: the budget was spent, an answer was forced", *cut))
    texts = {
        (g.question_id, g.setting): g
        for g in findings.results.texts([q for _, q, _ in wanted], [s for _, _, s in wanted])
    }
    chosen = [(why, texts[q, s]) for why, q, s in wanted if (q, s) in texts]
    if not chosen and findings.by_budget:
        draws = findings.by_budget[-1].draws
        some = findings.results.texts(draws.question_ids[:2], [draws.setting])
        chosen = [("An answer", g) for g in some][:2]
    return chosen


def _first_change(before: Any, after: Any, was: float, now: float) -> str | None:
    ids = [q for q in before.question_ids if q in set(after.question_ids)]
    a, b = before.on(ids), after.on(ids)
    hits = [i for i in range(len(ids)) if a.correct[i, 0] == was and b.correct[i, 0] == now and b.waits[i, 0] > 0]
    return ids[min(hits, key=lambda i: (b.waits[i, 0], b.thinking_tokens[i, 0]))] if hits else None


def _cut_off(findings: Findings) -> tuple[str, Setting] | None:
    for point in findings.by_budget[len(findings.by_budget) // 2 :]:
        draws = point.draws
        for i, question in enumerate(draws.question_ids):
            if draws.ending[i, 0] == "cut_off" and draws.thinking_tokens[i, 0] > 0:
                return question, draws.setting
    return None
