"""What every figure of a report is made of: colours, axes, lines with bands, files. What is drawn is in `curves`.

In the page an SVG takes its colours from the page's style, so that it follows the reader's light or dark theme: each
colour here has a name there.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from s1kit.analysis.results import Point, PublishedNumber
from s1kit.errors import MissingExtra
from s1kit.html import Markup, escape

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
    "m7": "#3f5f9a",
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
    "pdf.fonttype": 42,
    "svg.hashsalt": "s1kit",
    "lines.solid_capstyle": "round",
    "lines.solid_joinstyle": "round",
}


Width = Literal["page", "column"]
"""`page`: as wide as the report; `column`: one column of a paper or a phone, with smaller letters."""

PAGE = 8.6
"""Width in inches of a figure on the page."""

COLUMN, COLUMN_FONT = 3.4, 7.0
"""Inches and points of a figure in one column."""


@contextmanager
def canvas(
    height: float, panels: int = 1, rows: int = 1, preset: Width = "page"
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure in the report's style, inches high, closed afterwards. MissingExtra without matplotlib.

    In one column it is narrower, less high, and its panels stand below each other.
    """
    try:
        import logging

        import matplotlib as mpl
        from matplotlib import pyplot

        logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    except ImportError as error:
        raise MissingExtra("the report", "matplotlib", extra="report") from error
    mpl.use("agg")
    style: dict[str, Any] = STYLE
    width = PAGE
    if preset == "column":
        rows, height = panels, max(2.5, 1.5 * panels) if panels > 1 else min(height, 2.6)
        width, style = COLUMN, STYLE | {"font.size": COLUMN_FONT, "xtick.major.pad": 3}
    with mpl.rc_context(style):
        figure, axes = pyplot.subplots(rows, panels // rows, figsize=(width, height), squeeze=False, sharey=True)
        try:
            yield figure, list(axes.ravel())
        finally:
            pyplot.close(figure)


def write_figure(draw: Callable[..., Any], title: str, path: Path) -> Markup:
    """Draw a figure for the page, and write it as SVG, PDF and PNG; as `...-column.svg` in one column of a paper.

    `draw(preset)` is a context manager that gives the figure. On a narrow screen the page shows the column.
    """
    with draw("page") as figure:
        broad = as_svg(figure)
        figure.savefig(path.with_suffix(".png"), dpi=200)
        figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})
    with draw("column") as figure:
        narrow = as_svg(figure)
    path.with_suffix(".svg").write_text(broad, encoding="utf-8")
    path.with_name(f"{path.name}-column.svg").write_text(narrow, encoding="utf-8")
    both = '<div class="broad">{}</div><div class="narrow">{}</div>'
    return Markup(both).format(inline(broad, title, "broad"), inline(narrow, title, "narrow"))


def as_svg(figure: Figure) -> str:
    """The figure as SVG text, the same every time."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def inline(svg: str, title: str, kind: str) -> Markup:
    """An SVG as an element whose colours are the page's and whose words are read aloud as `title`."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.S)
    for name, value in COLOURS.items():
        svg = svg.replace(value, f"var(--{name})")
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--sans)", svg)
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", svg, count=1)
    # Two figures on one page must not share the ids of their clip paths.
    mark = kind + re.sub(r"\W", "", title)[:40]
    svg = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{mark}-", svg)
    return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1))


def token_axis(axes: Axes, tokens: Sequence[float]) -> Callable[[float], float]:
    """Give the axes a log2 scale with a place for zero at the left; returns the function from tokens to x."""
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


def draw_line(
    axes: Axes,
    points: Sequence[Point],
    colour: str,
    place: Callable[[float], float],
    is_main: bool = True,
    style: Any = "-",
) -> None:
    """Points as a line with the band of their intervals; what is not the main line is thinner and paler."""
    ordered = sorted(points, key=lambda p: p.tokens)
    x = [place(p.tokens) for p in ordered]
    y = [100 * p.estimate.value for p in ordered]
    hue = COLOURS[colour]
    low = [100 * p.estimate.low for p in ordered]
    high = [100 * p.estimate.high for p in ordered]
    if len(ordered) > 1:
        axes.fill_between(x, low, high, color=hue, alpha=0.13 if is_main else 0.07, linewidth=0)
    else:
        axes.vlines(x, low, high, color=hue, linewidth=1, alpha=0.6)
    axes.plot(x, y, color=hue, linewidth=2.0 if is_main else 1.4, linestyle=style, zorder=3)
    # A point at 100 % is drawn whole, over the frame.
    size = 5.5 if is_main else 4.5
    axes.plot(x, y, "o", color=hue, markersize=size, markeredgecolor=COLOURS["paper"], zorder=4, clip_on=False)


def draw_baseline(axes: Axes, point: Point) -> None:
    """A dashed line across at the accuracy, with its interval as a band."""
    low, value, high = (100 * x for x in (point.estimate.low, point.estimate.value, point.estimate.high))
    axes.axhspan(low, high, color=COLOURS["baseline"], alpha=0.10, linewidth=0)
    axes.axhline(value, color=COLOURS["baseline"], linewidth=1.2, linestyle=(0, (4, 3)))


def draw_other_model(axes: Axes, point: Point, colour: str, place: Callable[[float], float]) -> None:
    """A named diamond with its interval; `place` maps thinking tokens to the axis."""
    x, y = place(point.tokens), 100 * point.estimate.value
    low, high = 100 * point.estimate.low, 100 * point.estimate.high
    axes.errorbar(
        [x], [y], yerr=[[y - low], [high - y]], fmt="D", color=COLOURS[colour], markersize=5, elinewidth=1, zorder=4
    )
    axes.annotate(
        point.name,
        (x, y),
        xytext=(7, 0),
        textcoords="offset points",
        va="center",
        fontsize="small",
        color=COLOURS[colour],
    )


def draw_numbers(
    axes: Axes, numbers: Sequence[PublishedNumber], place: Callable[[float], float], height: float
) -> None:
    """Published numbers, told apart from what was measured here: hollow marks, dotted lines, muted names.

    One with thinking tokens is a point; one without is a line at the right edge. Only what has an interval shows one.
    `height` is that of the panel in inches, which says how far apart names must be.
    """
    muted = COLOURS["muted"]
    placed = sorted((n for n in numbers if n.thinking_tokens is not None), key=lambda n: n.thinking_tokens or 0)
    for i, number in enumerate(placed):
        if number.thinking_tokens is not None:
            x, y = place(number.thinking_tokens), 100 * number.accuracy
            if (estimate := number.estimate) is not None:
                axes.plot([x, x], [100 * estimate.low, 100 * estimate.high], color=muted, linewidth=1, linestyle=":")
            axes.plot([x], [y], "s", color=muted, markerfacecolor=COLOURS["paper"], markersize=6, zorder=4)
            axes.annotate(
                number.name,
                (x, y),
                xytext=(-8, 6 if i % 2 else -6),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize="small",
                color=muted,
            )
    without = sorted((n for n in numbers if n.thinking_tokens is None), key=lambda n: n.accuracy)
    for number, at in zip(without, spread([100 * n.accuracy for n in without], 17 / (height - 0.9)), strict=True):
        y = 100 * number.accuracy
        axes.plot([0.94, 1.0], [y, y], transform=axes.get_yaxis_transform(), color=muted, linewidth=1.2, linestyle=":")
        axes.annotate(
            f"{number.name} {y:.1f}",
            (1.0, y),
            xycoords=("axes fraction", "data"),
            xytext=(1.015, at),
            textcoords=("axes fraction", "data"),
            va="center",
            fontsize="small",
            color=muted,
            annotation_clip=False,
        )


def spread(values: Sequence[float], gap: float) -> list[float]:
    """Rising places for labels, near their values and at least `gap` apart, no higher than 100.

    >>> spread([50, 50, 90], gap=4)
    [48.0, 52.0, 90.0]
    """
    groups: list[tuple[float, int]] = []  # centre, size
    for value in values:
        centre, size = float(value), 1
        while groups and centre - (size - 1) * gap / 2 < groups[-1][0] + (groups[-1][1] - 1) * gap / 2 + gap:
            last, num = groups.pop()
            centre, size = (last * num + centre * size) / (num + size), num + size
        groups.append((min(centre, 100 - (size - 1) * gap / 2), size))
    return [centre + (i - (size - 1) / 2) * gap for centre, size in groups for i in range(size)]
