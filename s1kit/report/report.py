"""Stage `report`: one HTML file, the curve, and the table of settings as CSV and LaTeX, from the other stages' files.

It computes nothing by chance.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s1kit import __version__
from s1kit.analysis.findings import Findings
from s1kit.analysis.results import Point, PublishedNumber, rates
from s1kit.files import hash_file
from s1kit.html import Markup, write_page
from s1kit.progress import say
from s1kit.recipe import Recipe, recipe_of_run
from s1kit.records import Question
from s1kit.report import view
from s1kit.report.curves import draw_curve, draw_loss, draw_methods, draw_panels
from s1kit.report.figures import write_figure
from s1kit.report.provenance import Provenance, origins, read_provenance
from s1kit.report.rows import read_results
from s1kit.report.sentences import headline, not_drawn, percent, text_curve
from s1kit.stage import Run, Stage, is_begun, is_finished

MAX_PANELS = 6


_COLUMNS = (
    "group",
    "setting",
    "questions",
    "repeats",
    "temperature",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    *(f"thinking_tokens{part}" for part in ("", "_low", "_high")),
    "thinking_counted",
    *(f"{name}{part}" for name in ("cut_off", "no_answer", "not_graded") for part in ("", "_low", "_high")),
)
"""The columns of settings.csv. Shares are from 0 to 1; intervals are the 95 % ones of the point by itself. `repeats` is
the most of a question; `thinking_counted` says where tokens are estimated, or not known and 0."""


def report(recipe: Recipe, run: Run) -> Stage:
    """Write report/report.html and its figures as SVG and PNG. It is made anew whenever its inputs have changed.

    Of a run that ends before its evaluation it shows how the pool became samples.
    """
    stage = run.open("report", config={}, seed=0)
    if not is_finished(run.folder, "evaluate") and (found := read_provenance(run)).receipts:
        if is_begun(run.folder, "evaluate"):
            say("report: the evaluation is not finished, and nothing of it is shown")
        return _report_samples(stage, recipe, found)
    shards = run.shards("evaluate", "generations")
    read = [*run.shards("evaluate", "questions"), *run.shards("evaluate", "numbers"), *shards]
    inputs = {str(p.relative_to(run.folder)): hash_file(p) for p in read}
    if _is_made_from(stage, inputs, recipe):
        return stage
    findings = findings_of(run, recipe.evaluate.votes)
    shown = {"recipe": recipe, "notes": view.notes(recipe), **body_of(run, recipe, findings, stage.folder, to_run="..")}
    write_page(stage.folder / "report.html", view.templates().get_template("report.jinja").render(shown))
    stage.inputs = inputs
    stage.counts["questions"] = len(findings.results.questions)
    stage.counts["settings"] = len(findings.results.draws)
    stage.figures["recipe"] = recipe.model_dump(mode="json")
    stage.figures["headline"] = [str(sentence) for sentence in headline(findings)]
    stage.finish()
    return stage


def _report_samples(stage: Stage, recipe: Recipe, found: Provenance) -> Stage:
    shown = {"recipe": recipe, "figures": _loss(found, stage.folder), **origins(found, recipe, "..")}
    write_page(stage.folder / "report.html", view.templates().get_template("samples.jinja").render(shown))
    stage.figures["recipe"] = recipe.model_dump(mode="json")
    stage.finish()
    return stage


def body_of(run: Run, recipe: Recipe, findings: Findings, folder: Path, to_run: str | None = None) -> dict[str, Any]:
    """What the page says of one run, for `body.jinja`; its figures are also written into `folder`."""
    figures = {"curve": write_figure(draw_curve(findings), "accuracy against thinking tokens", folder / "curve")}
    if findings.others:
        title = "accuracy against thinking tokens for every method"
        figures["methods"] = write_figure(draw_methods(findings), title, folder / "methods")
    if 2 <= len(findings.sources) <= MAX_PANELS:
        title = "accuracy against thinking tokens by kind of question"
        figures["panels"] = write_figure(draw_panels(findings), title, folder / "panels")
    found = view.body(run, recipe, findings, figures, to_run)
    for name, text in (("settings.csv", as_csv(found["groups"])), ("settings.tex", as_latex(found["groups"]))):
        (folder / name).write_text(text, encoding="utf-8")
    return found | {"figures": defaultdict(Markup, figures | _loss(found["provenance"], folder))}


def _is_made_from(stage: Stage, inputs: dict[str, str], recipe: Recipe) -> bool:
    """Whether the report that is there already shows these rows and this recipe, in this version."""
    if not stage.is_done:
        return False
    receipt = json.loads(stage.receipt_path.read_text(encoding="utf-8"))
    made = (receipt["s1kit"], receipt["inputs"], receipt["recipe"])
    return made == (__version__, inputs, recipe.model_dump(mode="json"))


def summary(run: Run) -> str:
    """The curve as text and where the report lies, for the terminal."""
    if not is_finished(run.folder, "evaluate"):
        return f"report: {run.folder / 'report' / 'report.html'}"
    findings = findings_of(run, recipe_of_run(run.folder).evaluate.votes)
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
    lines += ["", *map(str, headline(findings)), *not_drawn(findings), ""]
    for name in ("curve.png", "report.html"):
        path = run.folder / "report" / name
        if path.exists():
            lines.append(f"{name.split('.')[0]:>7}: {path}")
    return "\n".join(lines)


def findings_of(run: Run, votes: Sequence[int]) -> Findings:
    """What a run's evaluation found. InputError where it has not finished."""
    questions = list(run.rows("evaluate", "questions", Question))
    numbers = list(run.rows("evaluate", "numbers", PublishedNumber))
    stated = run.receipt("evaluate").get("states_budget", True)
    return Findings(
        read_results(questions, run.shards("evaluate", "generations"), states_budget=stated), votes, numbers
    )


def _loss(found: Provenance, folder: Path) -> dict[str, Markup]:
    if not found.losses:
        return {}
    return {"loss": write_figure(draw_loss(found.losses), "training loss by optimiser step", folder / "loss")}


def as_csv(groups: Sequence[tuple[str, str, Sequence[Point]]]) -> str:
    """CSV text with a row for every point of every group; a group is its name, colour and points."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for name, _, points in groups:
        for p in points:
            d, odd = p.draws, rates(p.draws)
            counts = (len(d.question_ids), d.repeats, d.setting.temperature)
            accuracy = (f"{value:.6f}" for value in p.estimate)
            tokens = (f"{value:.1f}" for value in p.thinking)
            shares = (f"{value:.6f}" for each in (odd.cut_off, odd.no_answer, odd.abstain) for value in each)
            writer.writerow([name, p.name, *counts, *accuracy, *tokens, view.if_estimated(d), *shares])
    return text.getvalue()


def as_latex(groups: Sequence[tuple[str, str, Sequence[Point]]]) -> str:
    """A LaTeX table of the accuracy in percent, with its interval, and the thinking tokens of every point."""
    lines = [r"% needs \usepackage{booktabs}; for Wait texts in other scripts, LuaLaTeX or XeLaTeX"]
    lines += [r"\begin{tabular}{lrr}", r"\toprule", r"setting & accuracy, \% & thinking tokens \\"]
    notes: dict[str, int] = {}
    for name, _, points in groups:
        lines += [r"\midrule", rf"\multicolumn{{3}}{{l}}{{{escape(name)}}} \\"]
        for p in points:
            counted = view.if_estimated(p.draws)
            mark = f"$^{{{notes.setdefault(counted, len(notes) + 1)}}}$" if counted else ""
            lines.append(rf"{escape(p.name)} & {percent(p.estimate)} & {p.tokens:,.0f}{mark} \\")
    if notes:
        lines.append(r"\midrule")
    for counted, number in notes.items():
        lines.append(rf"\multicolumn{{3}}{{l}}{{$^{{{number}}}$ thinking tokens: {escape(counted)}}} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def escape(text: str) -> str:
    """The text as LaTeX prints it.

    >>> escape("50 % of_a & b")
    '50 \\\\% of\\\\_a \\\\& b'
    """
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$"}
    return re.sub(r"[\\~^<>&%$#_{}]", lambda match: special.get(match[0], "\\" + match[0]), text)
