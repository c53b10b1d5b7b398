"""The figures of a report: the scaling curve, all methods, a panel for each kind of question, the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from s1kit.analysis import methods
from s1kit.analysis.findings import Findings
from s1kit.analysis.results import Point
from s1kit.report.figures import (
    COLOURS,
    Width,
    canvas,
    draw_baseline,
    draw_line,
    draw_numbers,
    draw_other_model,
    token_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


ABOVE: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0)}
"""Where a legend stands in one column: over the axes, which have no room for it."""

NAMED_PANEL = 3.4
"""Inches that a panel is high which names others' numbers at its side."""


def draw_curve(findings: Findings) -> Callable[..., Any]:
    """The scaling curve: accuracy against thinking, by budget, by Waits, and by votes at the same price."""

    @contextmanager
    def draw(preset: Width = "page") -> Iterator[Figure]:
        with canvas(4.9, preset=preset) as (figure, (axes,)):
            _curve_on(axes, findings, preset)
            figure.tight_layout(pad=0.8)
            yield figure

    return draw


def _curve_on(axes: Axes, findings: Findings, preset: Width) -> None:
    numbers = findings.numbers_of(None)
    tokens = [p.tokens for p in _all_points(findings)] + [n.thinking_tokens or 0 for n in numbers]
    place = token_axis(axes, [t for t in tokens if t > 0])
    if findings.by_budget_with_waits:
        draw_line(axes, findings.by_budget_with_waits, "both", place, is_main=False, style=(0, (1, 2.2)))
    if findings.by_votes:
        draw_line(axes, findings.by_votes, "votes", place)
    if findings.by_budget:
        draw_line(axes, findings.by_budget, "budget", place)
    if findings.by_waits:
        draw_line(axes, findings.by_waits, "waits", place)
    if findings.baseline:
        draw_baseline(axes, findings.baseline)
    for i, point in enumerate(findings.comparators):
        draw_other_model(axes, point, f"m{1 + i % 6}", place)
    draw_numbers(axes, numbers, place, height=4.9)
    _name_points(axes, findings, place)
    axes.set_ylim(0, 100)
    axes.set_yticks(range(0, 101, 20), [f"{y} %" for y in range(0, 101, 20)])
    axes.set_xlabel("thinking tokens a question, average (log scale)")
    _legend(axes, findings, preset)


def _all_points(findings: Findings) -> list[Point]:
    return [
        *findings.by_budget,
        *findings.by_budget_with_waits,
        *findings.by_waits,
        *findings.by_votes,
        *findings.comparators,
    ]


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
            fontsize="small",
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


PANEL_LINES = ("waits", "budget", "votes")
"""The lines that a panel has."""


def _legend(axes: Axes, findings: Findings, preset: Width, of: Sequence[str] = ()) -> None:
    """Names the lines that are there, or those `of` them."""
    entries = [
        (bool(findings.by_waits), "waits", "Waits under the largest budget (0, 1, 2, ...)"),
        (bool(findings.by_budget), "budget", "thinking budget, stopping when it wants"),
        (bool(findings.by_budget_with_waits), "both", "thinking budget, with the most Waits"),
        (bool(findings.by_votes), "votes", "majority vote of 1, 2, ... samples"),
        (findings.baseline is not None, "baseline", "base model, answering directly"),
        (bool(findings.numbers_of(None)), "muted", "published elsewhere, not measured here"),
    ]
    from matplotlib.lines import Line2D

    shown = [(colour, text) for is_there, colour, text in entries if is_there and (not of or colour in of)]
    if of:
        shown = [(colour, {"waits": "Waits", "budget": "budget", "votes": "votes"}[colour]) for colour, _ in shown]
    handles = [Line2D([], [], color=COLOURS[colour], linewidth=2.4) for colour, _ in shown]
    axes.legend(
        handles,
        [text for _, text in shown],
        **({"loc": "best"} if preset == "page" or of else ABOVE),
        frameon=False,
        fontsize="small",
        labelcolor=COLOURS["ink"],
        handlelength=1.4,
        borderaxespad=0.2,
        labelspacing=0.45,
    )


def draw_methods(findings: Findings) -> Callable[..., Any]:
    """All methods, each as a line of its points. Requested and enforced lengths are dotted, in the same colour."""
    series: list[tuple[str, str, Sequence[Point], Any]] = [
        ("Waits", "waits", findings.by_waits, "-"),
        ("thinking budget", "budget", findings.by_budget, "-"),
        ("majority vote", "votes", findings.by_votes, "-"),
    ]
    colours: dict[str, str] = {}
    for name, points in findings.others.items():
        family = name.removesuffix(methods.AND_FORCED)
        colour = colours.setdefault(family, f"m{1 + len(colours) % 7}")
        series.append((name, colour, points, "-" if name == family else (0, (1, 1.6))))
    return lambda preset="page": draw_lines(series, preset)


@contextmanager
def draw_lines(series: Sequence[tuple[str, str, Sequence[Point], Any]], preset: Width = "page") -> Iterator[Figure]:
    """Lines of points on common axes: name, colour, points, line style. A line without a name is not in the legend."""
    from matplotlib.lines import Line2D

    shown = [line for line in series if line[2]]
    with canvas(5.2, preset=preset) as (figure, (axes,)):
        place = token_axis(axes, [p.tokens for _, _, points, _ in shown for p in points if p.tokens > 0])
        for _, colour, points, style in shown:
            draw_line(axes, points, colour, place, is_main=False, style=style if len(points) > 1 else "None")
        axes.set_ylim(0, 100)
        axes.set_yticks(range(0, 101, 20), [f"{y} %" for y in range(0, 101, 20)])
        broken = "\n" if preset == "column" else " "
        axes.set_xlabel(f"thinking tokens a question, all draws together,{broken}average (log scale)")
        named = [(name, colour, style) for name, colour, _, style in shown if name]
        is_beside = len(named) > 5 and preset == "page"
        place_of_legend = {"loc": "best"} if preset == "page" else ABOVE
        beside = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if is_beside else place_of_legend
        axes.legend(
            [Line2D([], [], color=COLOURS[colour], linewidth=2.4, linestyle=style) for _, colour, style in named],
            [name for name, _, _ in named],
            **beside,
            frameon=False,
            fontsize="small",
            labelcolor=COLOURS["ink"],
            handlelength=1.4,
        )
        figure.tight_layout(pad=0.8)
        yield figure


def draw_loss(losses: Sequence[tuple[int, float]]) -> Callable[..., Any]:
    """Training loss by optimiser step, on a log scale."""

    @contextmanager
    def draw(preset: Width = "page") -> Iterator[Figure]:
        with canvas(2.6, preset=preset) as (figure, (axes,)):
            axes.plot([s for s, _ in losses], [v for _, v in losses], color=COLOURS["budget"], linewidth=1.5)
            axes.set_yscale("log")
            axes.set_xlabel("optimiser step")
            axes.set_ylabel("loss, log scale")
            axes.minorticks_off()
            figure.tight_layout(pad=0.8)
            yield figure

    return draw


def draw_panels(findings: Findings) -> Callable[..., Any]:
    """One small curve for each source of questions, after Figure 1 of the paper; below each other where they have names
    at their sides."""

    @contextmanager
    def draw(preset: Width = "page") -> Iterator[Figure]:
        sources = findings.sources
        named = len(findings.benchmarks) > 1 and bool(findings.numbers)
        rows, height = (len(sources), NAMED_PANEL) if named else (1, 2.9)
        with canvas(rows * height, panels=len(sources), rows=rows, preset=preset) as (figure, all_axes):
            for axes, source in zip(all_axes, sources, strict=True):
                _panel_on(axes, findings, source)
                axes.set_yticks(range(0, 101, 25), [f"{y} %" for y in range(0, 101, 25)])
                axes.tick_params(labelleft=True)
                _legend(axes, findings, preset, PANEL_LINES)
            figure.supxlabel("thinking tokens a question, average", color=COLOURS["muted"], fontsize="small")
            figure.tight_layout(pad=0.8)
            yield figure

    return draw


def _panel_on(axes: Axes, findings: Findings, source: str) -> None:
    rows = {q for q, kind in findings.source_of.items() if kind == source}

    def narrowed(points: Sequence[Point]) -> list[Point]:
        out = []
        for p in points:
            ids = [q for q in p.draws.question_ids if q in rows]
            draws = p.draws.on(ids)
            out.append(
                replace(p, tokens=p.votes * draws.mean_thinking, estimate=findings.by_source(p)[source], draws=draws)
            )
        return out

    series = [
        ("votes", narrowed(findings.by_votes)),
        ("budget", narrowed(findings.by_budget)),
        ("waits", narrowed(findings.by_waits)),
    ]
    others = narrowed([p for p in findings.comparators if rows & set(p.draws.question_ids)])
    numbers = findings.numbers_of(source) if len(findings.benchmarks) > 1 else []
    tokens = [p.tokens for _, points in [*series, ("", others)] for p in points]
    place = token_axis(axes, [t for t in [*tokens, *(n.thinking_tokens or 0 for n in numbers)] if t > 0])
    for colour, points in series:
        if points:
            draw_line(axes, points, colour, place, is_main=colour != "votes")
    for i, point in enumerate(others):
        draw_other_model(axes, point, f"m{1 + i % 6}", place)
    draw_numbers(axes, numbers, place, height=NAMED_PANEL)
    axes.set_ylim(0, 100)
    ticks = [t for t in axes.get_xticks() if t == int(t)]
    axes.set_xticks(ticks[:: max(1, len(ticks) // 3)], [f"{2 ** int(t):,}" for t in ticks[:: max(1, len(ticks) // 3)]])
    axes.set_title(source, fontsize="medium", color=COLOURS["ink"], loc="left", pad=8)
