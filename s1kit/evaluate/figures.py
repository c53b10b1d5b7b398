"""The figures of a report, drawn once and saved as SVG and PNG. They know points and intervals, nothing of pages.

In the page an SVG takes its colours from the page's style, so that it follows the reader's light or dark theme: each
colour here has a name there.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s1kit.errors import MissingExtra
from s1kit.evaluate.findings import Findings
from s1kit.evaluate.points import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "ink": "#1c1e21",
    "muted": "#6f757d",
    "rule": "#dfe1e4",
    "paper": "#fefefd",
    "budget": "#2f62c9",
    "waits": "#c8501e",
    "both": "#d99a6c",
    "votes": "#1f8a70",
    "baseline": "#7d838b",
    "m1": "#7b4fb5",
    "m2": "#b3407a",
    "m3": "#8a6d1f",
    "m4": "#3d7f8c",
    "m5": "#5a6b2f",
    "m6": "#9a5b3d",
}
"""Name of a colour in the page's style (`--name`), and its value in a file that stands alone."""

STYLE = {
    "font.family": ["Inter", "DejaVu Sans"],
    "font.size": 10.5,
    "axes.edgecolor": COLOURS["rule"],
    "axes.linewidth": 1.0,
    "axes.labelcolor": COLOURS["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.major.pad": 6,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": COLOURS["rule"],
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "figure.facecolor": COLOURS["paper"],
    "axes.facecolor": COLOURS["paper"],
    "savefig.facecolor": COLOURS["paper"],
    "svg.fonttype": "none",
    "svg.hashsalt": "s1kit",
    "lines.solid_capstyle": "round",
    "lines.solid_joinstyle": "round",
}


@contextmanager
def canvas(width: float, height: float, panels: int = 1) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure in the report's style, closed afterwards. MissingExtra without matplotlib."""
    try:
        import logging

        import matplotlib as mpl
        from matplotlib import pyplot

        logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    except ImportError as error:
        raise MissingExtra("the report", "matplotlib", extra="report") from error
    mpl.use("agg")
    with mpl.rc_context(STYLE):
        figure, axes = pyplot.subplots(1, panels, figsize=(width, height), squeeze=False, sharey=True)
        try:
            yield figure, list(axes[0])
        finally:
            pyplot.close(figure)


def as_svg(figure: Figure) -> str:
    """The figure as SVG text, the same every time."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def save(figure: Figure, svg: str, path: Path) -> None:
    """As `path` with .svg and .png: the same picture, twice."""
    figure.savefig(path.with_suffix(".png"), dpi=200)
    path.with_suffix(".svg").write_text(svg, encoding="utf-8")


def inline(svg: str, title: str) -> str:
    """An SVG as an element whose colours are the page's and whose words are read aloud as `title`."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.S)
    for name, value in COLOURS.items():
        svg = svg.replace(value, f"var(--{name})")
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--sans)", svg)
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", svg, count=1)
    # Two figures on one page must not share the ids of their clip paths.
    mark = re.sub(r"\W", "", title)[:40]
    svg = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{mark}-", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)


def draw_curve(findings: Findings) -> Callable[[], Any]:
    """The scaling curve: accuracy against thinking, by budget, by Waits, and by votes at the same price."""

    @contextmanager
    def draw() -> Iterator[Figure]:
        with canvas(8.6, 4.9) as (figure, (axes,)):
            _curve_on(axes, findings)
            figure.tight_layout(pad=0.8)
            yield figure

    return draw


def _curve_on(axes: Axes, findings: Findings) -> None:
    tokens = [p.tokens for p in _all_points(findings) if p.tokens > 0]
    place = _token_axis(axes, tokens)
    labels = []
    if findings.by_budget_with_waits:
        _line(axes, findings.by_budget_with_waits, "both", place, band=False, style=(0, (1, 2.2)))
    if findings.by_votes:
        _line(axes, findings.by_votes, "votes", place)
        labels.append((findings.by_votes[-1], "votes", "majority vote"))
    if findings.by_budget:
        _line(axes, findings.by_budget, "budget", place)
    if findings.by_waits:
        _line(axes, findings.by_waits, "waits", place)
    if findings.baseline:
        _baseline(axes, findings.baseline)
    for i, point in enumerate(findings.comparators):
        _other_model(axes, point, f"m{1 + i % 6}", place)
    _name_points(axes, findings, place)
    axes.set_ylim(0, 100)
    axes.set_yticks(range(0, 101, 20), [f"{y} %" for y in range(0, 101, 20)])
    axes.set_xlabel("thinking tokens a question, average (log scale)")
    _legend(axes, findings)


def _all_points(findings: Findings) -> list[Point]:
    return [
        *findings.by_budget,
        *findings.by_budget_with_waits,
        *findings.by_waits,
        *findings.by_votes,
        *findings.comparators,
    ]


def _token_axis(axes: Axes, tokens: Sequence[float]) -> Callable[[float], float]:
    """A log2 axis with a place for zero at its left end; returns where a number of tokens lies."""
    import math

    low = math.floor(math.log2(min(tokens))) if tokens else 0
    high = math.ceil(math.log2(max(tokens)) - 0.15) if tokens else 1
    zero = low - 0.7

    def place(value: float) -> float:
        return zero if value <= 0 else math.log2(value)

    ticks = list(range(low, high + 1))
    while len(ticks) > 9:
        ticks = ticks[::2]
    axes.set_xticks([zero, *ticks], ["none", *(f"{2**t:,}" for t in ticks)])
    axes.set_xlim(zero - 0.25, max(high, math.log2(max(tokens)) if tokens else 1) + 0.35)
    return place


def _line(
    axes: Axes,
    points: Sequence[Point],
    colour: str,
    place: Callable[[float], float],
    band: bool = True,
    style: Any = "-",
) -> None:
    ordered = sorted(points, key=lambda p: p.tokens)
    x = [place(p.tokens) for p in ordered]
    y = [100 * p.estimate.value for p in ordered]
    hue = COLOURS[colour]
    if band:
        low = [100 * p.estimate.low for p in ordered]
        high = [100 * p.estimate.high for p in ordered]
        axes.fill_between(x, low, high, color=hue, alpha=0.13, linewidth=0)
    axes.plot(x, y, color=hue, linewidth=2.0 if band else 1.4, linestyle=style, zorder=3)
    axes.plot(x, y, "o", color=hue, markersize=5.5 if band else 3.5, markeredgecolor=COLOURS["paper"], zorder=4)


def _baseline(axes: Axes, point: Point) -> None:
    low, value, high = (100 * x for x in (point.estimate.low, point.estimate.value, point.estimate.high))
    axes.axhspan(low, high, color=COLOURS["baseline"], alpha=0.10, linewidth=0)
    axes.axhline(value, color=COLOURS["baseline"], linewidth=1.2, linestyle=(0, (4, 3)))


def _other_model(axes: Axes, point: Point, colour: str, place: Callable[[float], float]) -> None:
    x, y = place(point.tokens), 100 * point.estimate.value
    low, high = 100 * point.estimate.low, 100 * point.estimate.high
    axes.errorbar(
        [x], [y], yerr=[[y - low], [high - y]], fmt="D", color=COLOURS[colour], markersize=5, elinewidth=1, zorder=4
    )
    axes.annotate(
        point.name, (x, y), xytext=(7, 0), textcoords="offset points", va="center", fontsize=9, color=COLOURS[colour]
    )


def _name_points(axes: Axes, findings: Findings, place: Callable[[float], float]) -> None:
    """The numbers of Waits and votes beside their points, where there is room."""

    def write(point: Point, text: str, colour: str, offset: tuple[float, float], align: str = "center") -> None:
        axes.annotate(
            text,
            (place(point.tokens), 100 * point.estimate.value),
            xytext=offset,
            textcoords="offset points",
            ha=align,
            color=COLOURS[colour],
            fontsize=9,
            zorder=5,
        )

    shown: list[float] = []
    for point in findings.by_waits:
        x = place(point.tokens)
        if all(abs(x - other) > 0.16 for other in shown):
            write(point, str(point.draws.setting.num_waits), "waits", (0, 8))
            shown.append(x)
    for point in findings.by_votes:
        write(point, f"{point.votes}", "votes", (0, -15))


def _legend(axes: Axes, findings: Findings) -> None:
    entries = [
        (bool(findings.by_waits), "waits", "Waits under the largest budget (0, 1, 2, ...)"),
        (bool(findings.by_budget), "budget", "thinking budget, stopping when it wants"),
        (bool(findings.by_budget_with_waits), "both", "thinking budget, with the most Waits"),
        (bool(findings.by_votes), "votes", "majority vote of 1, 2, ... samples"),
        (findings.baseline is not None, "baseline", "base model, answering directly"),
    ]
    from matplotlib.lines import Line2D

    shown = [(colour, text) for is_there, colour, text in entries if is_there]
    handles = [Line2D([], [], color=COLOURS[colour], linewidth=2.4) for colour, _ in shown]
    axes.legend(
        handles,
        [text for _, text in shown],
        loc="upper left",
        frameon=False,
        fontsize=9.5,
        labelcolor=COLOURS["ink"],
        handlelength=1.4,
        borderaxespad=0.2,
        labelspacing=0.45,
    )


def draw_methods(findings: Findings) -> Callable[[], Any]:
    """All methods, each as a line of its points with its name at the end."""
    series = [
        ("Waits", "waits", findings.by_waits),
        ("thinking budget", "budget", findings.by_budget),
        ("majority vote", "votes", findings.by_votes),
        *((name, f"m{1 + i % 6}", points) for i, (name, points) in enumerate(findings.others.items())),
    ]

    return lambda: draw_lines([(name, colour, points, "-") for name, colour, points in series])


@contextmanager
def draw_lines(series: Sequence[tuple[str, str, Sequence[Point], Any]]) -> Iterator[Figure]:
    """Lines of points on common axes: name, colour, points, line style. A line without a name is not in the legend."""
    from matplotlib.lines import Line2D

    shown = [line for line in series if line[2]]
    with canvas(8.6, 5.2) as (figure, (axes,)):
        place = _token_axis(axes, [p.tokens for _, _, points, _ in shown for p in points if p.tokens > 0])
        for _, colour, points, style in shown:
            _line(axes, points, colour, place, band=False, style=style if len(points) > 1 else "None")
        axes.set_ylim(0, 100)
        axes.set_yticks(range(0, 101, 20), [f"{y} %" for y in range(0, 101, 20)])
        axes.set_xlabel("thinking tokens a question, all draws together, average (log scale)")
        named = [(name, colour) for name, colour, _, _ in shown if name]
        axes.legend(
            [Line2D([], [], color=COLOURS[colour], linewidth=2.4) for _, colour in named],
            [name for name, _ in named],
            loc="upper left",
            frameon=False,
            fontsize=9,
            labelcolor=COLOURS["ink"],
            handlelength=1.4,
        )
        figure.tight_layout(pad=0.8)
        yield figure


def draw_loss(losses: Sequence[tuple[int, float]]) -> Callable[[], Any]:
    """Training loss by optimiser step, on a log scale."""

    @contextmanager
    def draw() -> Iterator[Figure]:
        with canvas(8.6, 2.6) as (figure, (axes,)):
            axes.plot([s for s, _ in losses], [v for _, v in losses], color=COLOURS["budget"], linewidth=1.5)
            axes.set_yscale("log")
            axes.set_xlabel("optimiser step")
            axes.set_ylabel("loss, log scale")
            axes.minorticks_off()
            figure.tight_layout(pad=0.8)
            yield figure

    return draw


def draw_panels(findings: Findings) -> Callable[[], Any]:
    """One small curve for each source of questions, after Figure 1 of the paper."""

    @contextmanager
    def draw() -> Iterator[Figure]:
        sources = findings.sources
        with canvas(8.6, 2.9, panels=len(sources)) as (figure, all_axes):
            for axes, source in zip(all_axes, sources, strict=True):
                _panel_on(axes, findings, source)
            all_axes[0].set_yticks(range(0, 101, 25), [f"{y} %" for y in range(0, 101, 25)])
            figure.supxlabel("thinking tokens a question, average", color=COLOURS["muted"], fontsize=10)
            figure.tight_layout(pad=0.8)
            yield figure

    return draw


def _panel_on(axes: Axes, findings: Findings, source: str) -> None:
    from dataclasses import replace

    rows = {q.id for q in findings.results.questions if q.source == source}

    def narrowed(points: Sequence[Point]) -> list[Point]:
        out = []
        for p in points:
            ids = [q for q in p.draws.question_ids if q in rows]
            draws = p.draws.on(ids)
            out.append(
                replace(p, tokens=p.votes * draws.mean_thinking, estimate=findings.by_source(p)[source], draws=draws)
            )
        return out

    budget, waits = narrowed(findings.by_budget), narrowed(findings.by_waits)
    place = _token_axis(axes, [p.tokens for p in [*budget, *waits] if p.tokens > 0])
    if budget:
        _line(axes, budget, "budget", place)
    if waits:
        _line(axes, waits, "waits", place)
    axes.set_ylim(0, 100)
    ticks = [t for t in axes.get_xticks() if t == int(t)]
    axes.set_xticks(ticks[:: max(1, len(ticks) // 3)], [f"{2 ** int(t):,}" for t in ticks[:: max(1, len(ticks) // 3)]])
    axes.set_title(source, fontsize=10.5, color=COLOURS["ink"], loc="left", pad=8)
