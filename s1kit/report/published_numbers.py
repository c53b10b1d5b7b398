"""A page of accuracies that somebody printed, without their generations: lines over tokens or budgets, with intervals.

An interval is the exact one of that many right answers where the number of questions is known; otherwise there is none.
Settings cannot be compared in pairs here, and the page says so.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from s1kit.analysis.results import PublishedNumber
from s1kit.errors import InputError
from s1kit.html import Markup, write_page
from s1kit.questions import read_rows_of
from s1kit.report.figures import COLOURS, Width, canvas, token_axis, write_figure
from s1kit.report.view import templates

LINES = [name for name in COLOURS if name not in ("ink", "muted", "rule", "paper")]
MAX_NAMED = 12
"""Lines of a figure that its legend can name."""


class Series(NamedTuple):
    """One model and method on one benchmark, in rising tokens."""

    benchmark: str
    model: str
    method: str
    points: list[tuple[float | None, PublishedNumber]]
    """Thinking tokens, or the budget where they are not known; None: neither."""
    is_budget: bool
    """Whether the place of any point is its budget."""


def is_summary(path: Path) -> bool:
    """Whether the rows of a file are printed accuracies, not generations."""
    row = next((raw.row for raw in read_rows_of(path) if raw.row), {}) if path.suffix != ".eval" else {}
    return "accuracy" in row and not {"doc", "output", "response", "correct"} & row.keys()


def read_series(paths: Sequence[Path]) -> list[Series]:
    """All rows, by benchmark, model and method. Raises InputError naming the line of one without an accuracy."""
    found: defaultdict[tuple[str, str, str], list[tuple[float | None, PublishedNumber, bool]]] = defaultdict(list)
    for path in paths:
        for raw in read_rows_of(path):
            row = raw.row or {}
            try:
                accuracy = float(row["accuracy"])
            except (KeyError, TypeError, ValueError):
                fix = "Give `accuracy` from 0 to 1."
                raise InputError("the row has no accuracy", where=raw.where, fix=fix) from None
            if not 0 <= accuracy <= 1:
                raise InputError(f"accuracy is {accuracy}", where=raw.where, fix="Give 0 to 1.")
            names = str(row.get("benchmark") or ""), str(row.get("model") or ""), str(row.get("method") or "")
            tokens = _number(row, "mean_thinking_tokens", "thinking_tokens", "mean_tokens", "tokens")
            place = _number(row, "budget", "max_tokens") if tokens is None else tokens
            number = PublishedNumber(
                name=names[1],
                benchmark=names[0],
                accuracy=accuracy,
                num_questions=int(row["n"]) if row.get("n") else None,
                thinking_tokens=tokens,
                source=str(row.get("source") or ""),
            )
            found[names].append((place, number, tokens is None and place is not None))
    series = []
    for names, points in found.items():
        ordered = sorted(points, key=lambda p: (p[0] is None, p[0] or 0))
        series.append(Series(*names, [(place, number) for place, number, _ in ordered], any(b for *_, b in ordered)))
    return series


def _number(row: Mapping[str, Any], *names: str) -> float | None:
    return next((float(row[name]) for name in names if row.get(name) not in (None, "")), None)


def report_summaries(paths: Sequence[Path], out: Path) -> Path:
    """Write `summaries.html` and a figure for each benchmark into `out`; the page's path."""
    series = read_series(paths)
    out.mkdir(parents=True, exist_ok=True)
    benchmarks: defaultdict[str, list[Series]] = defaultdict(list)
    for one in series:
        benchmarks[one.benchmark].append(one)
    parts = [
        (name, _figure(name, found, out / f"benchmark-{number}"), found)
        for number, (name, found) in enumerate(benchmarks.items(), 1)
    ]
    num = sum(len(one.points) for one in series)
    html = (
        templates()
        .get_template("summaries.jinja")
        .render(benchmarks=parts, num=num, files=[p.name for p in paths], dumps=json.dumps)
    )
    path = out / "summaries.html"
    write_page(path, html)
    return path


def _figure(name: str, found: Sequence[Series], path: Path) -> Markup:
    """The figure of one benchmark; empty where no point has a place on the axis."""
    lines = [one for one in found if any(place is not None for place, _ in one.points)]
    if not lines:
        return Markup()

    @contextmanager
    def draw(preset: Width = "page") -> Iterator[Any]:
        from matplotlib.lines import Line2D

        with canvas(4.2, preset=preset) as (figure, (axes,)):
            place_of = token_axis(axes, [p for one in lines for p, _ in one.points if p])
            for i, one in enumerate(lines):
                colour = COLOURS[LINES[i % len(LINES)]]
                there = [(place_of(p), n) for p, n in one.points if p is not None]
                style = ":" if one.is_budget else "-"
                axes.plot([x for x, _ in there], [100 * n.accuracy for _, n in there], style, color=colour, marker="o")
                for x, number in there:
                    if (e := number.estimate) is not None:
                        axes.plot([x, x], [100 * e.low, 100 * e.high], color=colour, linewidth=1, alpha=0.5)
            axes.set_ylim(0, 100)
            axes.set_xlabel("thinking tokens, average; dotted: the budget, where tokens were not printed (log scale)")
            axes.set_ylabel("accuracy, %")
            axes.set_title(name, loc="left", fontsize="medium", color=COLOURS["ink"])
            if len(lines) <= MAX_NAMED:
                handles = [Line2D([], [], color=COLOURS[LINES[i % len(LINES)]]) for i in range(len(lines))]
                names = [f"{one.model}: {one.method}"[:70] for one in lines]
                axes.legend(handles, names, frameon=False, fontsize="x-small", loc="lower right")
            figure.tight_layout(pad=0.8)
            yield figure

    return write_figure(draw, f"accuracy on {name}", path)
