"""The two pictures of the documentation: python docs/draw.py

`forcing.svg` shows real generations of the tiny model, so a change in forcing or in the model changes the picture.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

from s1kit import Request, ThinkingBudget, load_engine
from s1kit.records import Generation

matplotlib.use("svg")
matplotlib.rcParams |= {"svg.hashsalt": "s1kit", "font.family": "monospace"}

IMAGES = Path(__file__).parent / "images"
QUESTION = "What is the last digit of this sum?\n" + "\n".join(
    [*(f"#{place} {digit}" for place, digit in enumerate([1, 5, 2, 7, 6, 3, 7, 2, 1, 4, 9, 7], start=1)), "#13 end"]
)
BUDGETS = {
    "as long as it likes": ThinkingBudget(256),
    "one Wait": ThinkingBudget(256, num_waits=1),
    "at most 40 tokens": ThinkingBudget(40),
}
SAMPLED, FORCED, INK = "#3b6fb6", "#d9730d", "#6b7280"


def draw_forcing(path: Path) -> None:
    """One column a budget: the end of its thinking and its answer, sampled and forced text in two colours."""
    from matplotlib import pyplot

    engine = load_engine("tiny")
    generations = [
        next(iter(engine.generate([Request(QUESTION, budget=b, answer_tokens=16)]))) for b in BUDGETS.values()
    ]
    figure, axes = pyplot.subplots(figsize=(9.6, 3.6))
    axes.set(xlim=(0, 3), ylim=(-12.2, 1.6))
    axes.axis("off")
    for column, (title, generation) in enumerate(zip(BUDGETS, generations, strict=True)):
        axes.text(column + 0.04, 0.9, title, color=INK, size=12, weight="bold", family="sans-serif")
        lines = _lines(generation)
        for row, pieces in enumerate(lines[-9:]):
            at = column + 0.04
            for text, origin in pieces:
                axes.text(at, -row, text, color=FORCED if origin == "forced" else SAMPLED, size=10,
                          weight="bold" if origin == "forced" else "normal")  # fmt: skip
                at += 0.0338 * len(text)
        count = f"{generation.thinking_tokens} thinking tokens"
        axes.text(column + 0.04, -10.3, count, color=INK, size=10, family="sans-serif")
    axes.text(0.04, -11.7, "sampled", color=SAMPLED, size=10, family="sans-serif")
    axes.text(0.34, -11.7, "forced", color=FORCED, size=10, weight="bold", family="sans-serif")
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None}, transparent=True)
    pyplot.close(figure)


def _lines(generation: Generation) -> list[list[tuple[str, str]]]:
    """The transcript as lines of (text, origin); delimiters that do not print are written out."""
    lines: list[list[tuple[str, str]]] = [[]]
    for segment in generation.segments:
        first, *rest = segment.text.replace("<|im_start|>", "◂").split("\n")
        lines[-1].append((first, segment.origin))
        lines += [[(line, segment.origin)] for line in rest]
    return [[piece for piece in line if piece[0]] for line in lines if any(piece[0] for piece in line)]


STAGES = {
    "collect": ("questions", "files or the Hub,\nless repeats and\nbenchmark overlap"),
    "distill": ("traces", "a teacher's thinking,\npaid once,\ncapped in dollars"),
    "curate": ("samples", "quality, difficulty,\ndiversity;\na seeded draw"),
    "train": ("checkpoint", "full or adapters,\none CPU to\n16 cards"),
    "evaluate": ("generations", "budgets, Waits,\nvotes, on\nheld-out questions"),
    "report": ("a curve", "intervals, flips,\nwhole traces"),
}


def draw_road(path: Path) -> None:
    """The six stages, what each does, and what it hands on."""
    from matplotlib import pyplot
    from matplotlib.patches import FancyBboxPatch

    figure, axes = pyplot.subplots(figsize=(10.4, 1.9))
    axes.set(xlim=(0, 6), ylim=(0, 1))
    axes.axis("off")
    for place, (stage, (out, does)) in enumerate(STAGES.items()):
        axes.add_patch(FancyBboxPatch((place + 0.04, 0.3), 0.8, 0.62, boxstyle="round,pad=0,rounding_size=0.05",
                                      facecolor="none", edgecolor=SAMPLED))  # fmt: skip
        axes.text(place + 0.44, 0.8, stage, ha="center", color=SAMPLED, weight="bold", size=11, family="sans-serif")
        axes.text(place + 0.44, 0.52, does, ha="center", va="center", color=INK, size=7.5, family="sans-serif")
        axes.text(place + 0.44, 0.12, f"{out}", ha="center", color=FORCED, size=9, family="sans-serif")
        if place < len(STAGES) - 1:
            axes.annotate("", (place + 1.03, 0.61), (place + 0.85, 0.61), arrowprops={"arrowstyle": "->", "color": INK})
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None}, transparent=True)
    pyplot.close(figure)


if __name__ == "__main__":
    draw_forcing(IMAGES / "forcing.svg")
    draw_road(IMAGES / "road.svg")
