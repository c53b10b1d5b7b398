"""Self-contained HTML pages out of tables and bars: no script, no network, every text escaped.

A report is a list of sections; whoever has numbers makes rows of them. Nothing here knows what the numbers mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from s1kit.records import Dropped
from s1kit.stage import write_atomically

STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --soft: #5b6b7b; --line: #d8dfe6; --bar: #4878a8; --back: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e9ef; --soft: #9aa8b5; --line: #36424e; --bar: #6c9bcb; --back: #12181f; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back);
  max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
table { border-collapse: collapse; width: 100%; margin: .6rem 0; }
th, td { text-align: left; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bar { background: var(--bar); height: .8rem; min-width: 1px; border-radius: 2px; }
.soft { color: var(--soft); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .2rem 0; font-size: .85rem; }
summary { cursor: pointer; } mark { background: #f6c94466; color: inherit; }
.wide { overflow-x: auto; }
"""


def page(title: str, sections: Iterable[str], lead: str = "") -> str:
    """A whole page."""
    body = "\n".join(sections)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n'
        f'<body><h1>{escape(title)}</h1><p class="soft">{escape(lead)}</p>\n{body}\n</body></html>\n'
    )


def section(title: str, *parts: str) -> str:
    """A heading and what follows it; parts are HTML already."""
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def reason_section(reason: str, drops: Sequence[Dropped], example: Callable[[Dropped], str], most: int) -> str:
    """What one reason dropped: how many, and at most so many of them as examples."""
    shown = drops[:most]
    more = paragraph(f"{len(shown)} of {len(drops):,} are shown.") if len(drops) > len(shown) else ""
    return section(f"{reason} ({len(drops):,})", more, *map(example, shown))


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; numbers stand to the right, texts are escaped."""
    rows = list(rows)
    numeric = [all(isinstance(row[n], int | float) for row in rows) if rows else False for n in range(len(columns))]
    head = "".join(f"<th{_side(is_n)}>{escape(name)}</th>" for name, is_n in zip(columns, numeric, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{_side(is_n)}>{_cell(v)}</td>" for v, is_n in zip(row, numeric, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def bars(counts: Mapping[str, int], limit: int = 40) -> str:
    """Names with their counts as horizontal bars, in the order given, at most `limit` of them."""
    largest = max(counts.values(), default=1) or 1
    shown = list(counts.items())[:limit]
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="n">{num:,}</td>'
        f'<td style="width:60%"><div class="bar" style="width:{100 * num / largest:.1f}%"></div></td></tr>'
        for name, num in shown
    )
    more = f'<p class="soft">and {len(counts) - limit} more</p>' if len(counts) > limit else ""
    return f"<table><tbody>{rows}</tbody></table>{more}"


def histogram(values: Sequence[int], num_bins: int = 20) -> dict[str, int]:
    """Counts of whole numbers in bins of equal width, named by their first and last value."""
    if not values:
        return {}
    low, high = min(values), max(values)
    width = max(1, -(-(high - low + 1) // num_bins))
    counts = dict.fromkeys(range(low, high + 1, width), 0)
    for value in values:
        counts[low + (value - low) // width * width] += 1
    return {f"{start:,}" if width == 1 else f"{start:,}-{start + width - 1:,}": n for start, n in counts.items()}


def details(summary: str, text: str, mark: str = "") -> str:
    """A text that opens on a click; the first place of `mark` in it is highlighted."""
    shown = escape(text)
    if mark and (at := text.casefold().find(mark.casefold())) >= 0:
        end = at + len(mark)
        shown = f"{escape(text[:at])}<mark>{escape(text[at:end])}</mark>{escape(text[end:])}"
    return f"<details><summary>{escape(summary)}</summary><pre>{shown}</pre></details>"


def write_page(path: Path, html: str) -> None:
    write_atomically(path, lambda p: p.write_text(html, encoding="utf-8"))


def _side(is_number: bool) -> str:
    return ' class="n"' if is_number else ""


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return escape(f"{value:.3g}" if isinstance(value, float) else str(value))
