"""Several runs in one report: the same questions, paired against the first run, which is the control.

A difference is given only on questions that both runs asked, adjusted for the number of runs that are held against
the control and of settings in which they are. Below the comparison stands the whole report of the run with the most
settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s1kit.analysis.findings import Findings
from s1kit.analysis.methods import plain
from s1kit.analysis.paired import Comparison, shared_ids
from s1kit.analysis.paired import compare as compare_points
from s1kit.analysis.results import Draws, Point
from s1kit.analysis.settings import CHAT, DIRECT, FILE, PROBE
from s1kit.analysis.statistics import question_means
from s1kit.errors import InputError
from s1kit.html import write_page
from s1kit.recipe import Recipe, recipe_of_run
from s1kit.records import Setting
from s1kit.report import view
from s1kit.report.curves import draw_lines
from s1kit.report.figures import COLOURS, Width, write_figure
from s1kit.report.provenance import training
from s1kit.report.questions import kind_of
from s1kit.report.report import body_of, findings_of
from s1kit.report.sentences import WITHIN_NOISE, not_drawn, points
from s1kit.stage import Run

LINES = ("budget", "waits", "votes", "m1", "m2", "m3", "m4", "m5", "m6")


@dataclass(frozen=True)
class Compared:
    """One of the runs that are compared, with its settings by name."""

    name: str
    run: Run
    recipe: Recipe
    findings: Findings

    def draws(self, setting: Setting) -> Draws:
        """The draws of this run in a setting that it has."""
        return self.findings.results.draws[setting]


@dataclass(frozen=True)
class Difference:
    """A run against the control (the first run) in one setting."""

    run: str
    setting: Setting
    comparison: Comparison

    @property
    def sentence(self) -> str:
        """The claim in words: `better` or `worse` only where interval and test both exclude no difference."""
        if self.comparison.is_noise:
            return WITHIN_NOISE
        return "better" if self.comparison.difference.value > 0 else "worse"


def load_runs(folders: Sequence[Path]) -> list[Compared]:
    """The finished evaluations of run folders. InputError where one is missing or asked other questions."""
    runs = []
    for folder in folders:
        recipe, run = recipe_of_run(folder), Run(folder)
        runs.append(Compared(folder.name, run, recipe, findings_of(run, recipe.evaluate.votes)))
    control = {q.id for q in runs[0].findings.results.questions}
    for other in runs[1:]:
        if not control & {q.id for q in other.findings.results.questions}:
            fix = "Evaluate both on the same benchmarks with the same seed."
            raise InputError(f"{other.name} shares no question with {runs[0].name}", where="RUN", fix=fix)
    return runs


def shared_settings(runs: Sequence[Compared]) -> list[Setting]:
    """Settings of the models under evaluation in which each run shares a question with the first, in its order."""
    control, *others = runs
    own = [s for s in control.findings.results.draws if s.method not in (PROBE, DIRECT, CHAT, FILE)]
    found = [s for s in own if all(s in r.findings.results.draws for r in others)]
    return [s for s in found if all(shared_ids([control.draws(s), r.draws(s)]) for r in others)]


def differences(runs: Sequence[Compared], settings: Sequence[Setting]) -> list[Difference]:
    """Every other run against the first, in each setting; adjusted for all of them, since all are shown."""
    control, *others = runs
    out = []
    for setting in settings:
        for run in others:
            a, b = control.draws(setting), run.draws(setting)
            ids = shared_ids([a, b])
            before, after = plain(a.on(ids), control.name), plain(b.on(ids), run.name)
            found = compare_points(before, after, comparisons=len(others) * len(settings))
            out.append(Difference(run.name, setting, found))
    return out


def compare(folders: Sequence[Path], out: Path, title: str = "", description: str = "") -> Path:
    """Write compare.html, compare.svg and compare.png into `out`; the page's path."""
    runs = load_runs(folders)
    settings = shared_settings(runs)
    found = differences(runs, settings)
    out.mkdir(parents=True, exist_ok=True)
    figure = write_figure(_draw(runs), "runs compared", out / "compare")
    title = title or " · ".join(r.name for r in runs)
    fullest = max(runs, key=lambda r: len(r.findings.results.draws))
    shown = {
        **body_of(fullest.run, fullest.recipe, fullest.findings, out),
        "title": title,
        "description": description,
        "runs": runs,
        "num_questions": len(runs[0].findings.results.questions),
        "lines": describe(runs),
        "notes": list(dict.fromkeys(note for r in runs for note in view.notes(r.recipe))),
        "figure": figure,
        "differences": [(s, [d for d in found if d.setting == s]) for s in settings],
        "changed": changed(runs),
        "main": _main_settings(runs),
        "names": [r.name for r in runs],
        "training": training([(r.name, r.run.folder) for r in runs]),
        "fullest": fullest,
    }
    path = out / "compare.html"
    write_page(path, view.templates().get_template("compare.jinja").render(shown))
    return path


def describe(runs: Sequence[Compared]) -> list[str]:
    """The comparison as lines for the terminal."""
    main, control = _main_settings(runs), runs[0]
    said = control.findings.results.said
    return [
        f"{d.run} against {control.name}, {said(d.setting)}: {points(d.comparison.difference)}, {d.sentence}"
        for d in differences(runs, shared_settings(runs))
        if d.setting in main
    ] + [f"{run.name}: {text.rstrip('.')}" for run in runs for text in not_drawn(run.findings)]


def changed(runs: Sequence[Compared]) -> list[dict[str, Any]]:
    """Questions that another run answers better or worse than the control, in the last of the main settings."""
    main = _main_settings(runs)
    if not main:
        return []
    questions = {q.id: q for q in runs[0].findings.results.questions}
    shares = [
        dict(zip(d.question_ids, question_means(d.correct).tolist(), strict=True))
        for d in (r.draws(main[-1]) for r in runs)
    ]
    rows = []
    for question_id, control in shares[0].items():
        others = [share.get(question_id) for share in shares[1:]]
        kinds = {kind_of([control, other]) for other in others} & {"fixed", "broken"}
        if kinds:
            row = {"question": questions[question_id], "shares": [control, *others], "kinds": " ".join(sorted(kinds))}
            rows.append(row)
    return rows


def _main_settings(runs: Sequence[Compared]) -> list[Setting]:
    """The largest budget without a Wait, and with the number of Waits that is best for the control."""
    findings = runs[0].findings
    best = findings.best_waits
    wanted = (
        [best.before.draws.setting, best.after.draws.setting]
        if best
        else [p.draws.setting for p in findings.main_line[-1:]]
    )
    return [s for s in wanted if s in shared_settings(runs)]


def _draw(runs: Sequence[Compared]) -> Callable[..., Any]:
    @contextmanager
    def draw(preset: Width = "page") -> Iterator[Any]:
        lines: list[tuple[str, str, Sequence[Point], Any]] = []
        for i, run in enumerate(runs):
            colour = LINES[i % len(LINES)]
            assert colour in COLOURS
            lines.append((run.name, colour, run.findings.main_line, "-"))
            if run.findings.by_waits:
                lines.append(("", colour, run.findings.by_budget, (0, (1, 2))))
        with draw_lines(lines, preset) as figure:
            yield figure

    return draw
