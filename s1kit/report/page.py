"""A page and its parts: sections, tables, figures, numbers as text. It knows HTML; never what the numbers mean.

Nothing is fetched when the page is opened: style and figures are inside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources

from s1kit.analysis.statistics import Estimate
from s1kit.records import Question
from s1kit.report.sentences import WITHIN_NOISE, percent


def page(title: str, sections: Iterable[str]) -> str:
    """The whole document around its sections."""
    css = (resources.files("s1kit.report") / "page.css").read_text(encoding="utf-8")
    body = "\n".join(section for section in sections if section)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>\n{css}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


def figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{caption}</figcaption></figure>"


def section(title: str, body: str) -> str:
    """A titled part of the page."""
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def table(columns: Sequence[str], rows: Iterable[str], text: bool = False, wide: bool = False) -> str:
    """Rows of cells under their columns, scrolling by itself on a narrow screen; `wide`: as wide as a figure."""
    kind = ' class="text"' if text else ""
    head_ = "".join(f"<th{kind}>{c}</th>" for c in columns)
    body = f"<thead><tr>{head_}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="scroll{" wide" if wide else ""}"><table>{body}</table></div>'


def with_interval(estimate: Estimate) -> str:
    """A share in percent, its interval paler."""
    value, interval = percent(estimate).split(" ", 1)
    return f'{value} <span class="ci">{interval}</span>'


def maybe(estimate: Estimate | None) -> str:
    return "" if estimate is None else with_interval(estimate)


def tokens(value: float) -> str:
    return "" if value != value else f"{value:,.0f}"


def share(value: float) -> str:
    return "0" if value == 0 else f"{100 * value:.1f} %"


def short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 180 else flat[:177] + "..."


def mark_noise(text: str) -> str:
    """The words `within noise` made visible."""
    return text.replace(WITHIN_NOISE, f'<em class="noise">{WITHIN_NOISE}</em>')


def is_public(question: Question) -> bool:
    """Whether a page that may be published may show the question: the authors of some ask that it be not."""
    return "not to be republished" not in question.licence
