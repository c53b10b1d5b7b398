"""HTML pages from jinja2 templates. Every value is escaped, and nothing is fetched when a page is opened.

A package keeps templates of its own in its folder `templates`. They may extend `layout.jinja` and import
`macros.jinja`, the look that all pages share. Nothing here knows what a page says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from s1kit.files import write_atomically

__all__ = ["Markup", "environment", "escape", "highlight", "histogram", "write_page"]


def environment(package: str, **filters: Callable[..., object]) -> Environment:
    """The templates of a package (by its import name) beside the shared ones, with filters of its own.

    A name that a template uses and nobody gave raises jinja2's UndefinedError.
    """
    found = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("s1kit.html")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"cell": cell, "highlight": highlight, "is_number": is_number} | filters
    return found


def is_number(value: object) -> bool:
    """Whether a cell is set to the right, as numbers are."""
    return isinstance(value, int | float)


def cell(value: object) -> str:
    """A value as a table shows it: thousands separated, three digits of a float, yes and no.

    >>> cell(12345), cell(0.12345), cell(True), cell("<b>")
    ('12,345', '0.123', 'yes', '<b>')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def highlight(text: str, words: str) -> Markup:
    """The text, escaped, with the first place of `words` in it marked; upper and lower case are the same."""
    at = text.casefold().find(words.casefold()) if words else -1
    if at < 0:
        return escape(text)
    end = at + len(words)
    return Markup("{}<mark>{}</mark>{}").format(text[:at], text[at:end], text[end:])


_BINS = 20
"""Bins of a histogram, at most."""


def histogram(values: Sequence[int]) -> dict[str, int]:
    """Counts of whole numbers in bins of equal width, named by their first and last value."""
    if not values:
        return {}
    low, high = min(values), max(values)
    width = max(1, -(-(high - low + 1) // _BINS))
    counts = dict.fromkeys(range(low, high + 1, width), 0)
    for value in values:
        counts[low + (value - low) // width * width] += 1
    return {f"{start:,}" if width == 1 else f"{start:,}-{start + width - 1:,}": n for start, n in counts.items()}


def write_page(path: Path, html: str) -> None:
    """Write a page as a whole or not at all."""
    write_atomically(path, lambda p: p.write_text(html, encoding="utf-8"))
