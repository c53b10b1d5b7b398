"""What each way of spending test-time compute is worth at equal tokens, from finished runs, as tables of a page.

    python bench/findings.py NAME=RUN_FOLDER ...                     prints the tables
    python bench/findings.py --page docs/findings.md NAME=RUN ...    puts each between the page's marks of that name

The marks are `<!-- run: NAME -->` and `<!-- end: NAME -->`; what stands outside of them is left as it is. RUN_FOLDER is
a run of `s1kit run` or `s1kit evaluate` with several thinking budgets, or what `s1kit report --from` made of published
generations.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from matched import AtEqualTokens, at_equal_tokens

from s1kit.analysis.findings import Findings
from s1kit.analysis.intervals import Estimate
from s1kit.analysis.paired import Comparison, compare
from s1kit.analysis.results import Point
from s1kit.errors import S1kitError
from s1kit.report.report import findings_of
from s1kit.report.sentences import percent
from s1kit.stage import Run


def tables(folder: Path) -> str:
    """The run's curve, and every other method beside budgets that spend the same."""
    # Not read as a recipe: a run of an earlier version has settings that this one does not know.
    settings = json.loads((folder / "run.json").read_text(encoding="utf-8"))["resolved"]
    found = findings_of(Run(folder), settings["evaluate"]["votes"])
    model = settings["evaluate"]["model"] or f"{settings['train']['base']}, fine-tuned"
    asked = len(found.results.questions)
    lines = [f"Model `{model}`, {asked:,} questions ({', '.join(found.benchmarks)}).", ""]
    lines += ["| thinking budget | tokens | accuracy, % |", "|---|---|---|"]
    lines += [f"| {point.name} | {point.tokens:,.0f} | {percent(point.estimate)} |" for point in found.by_budget]
    lines += ["", *_rise(found)]
    rows = at_equal_tokens(found)
    if rows:
        lines += [
            "| method | | tokens | accuracy, % | budgets at equal tokens, % | difference in points | |",
            "|---|---|---|---|---|---|---|",
            *map(_row, rows),
            "",
            f"Intervals are at 95 %. Those of the {len(rows)} differences hold all at once; what is called better or "
            "worse is so by the paired test, too.",
        ]
        if not all(row.is_equal for row in rows):
            lines.append("\\* spends more than the largest budget, or less than the smallest: compared with that one.")
    lines += _against_one_sample(found)
    return "\n".join(lines)


def _against_one_sample(found: Findings) -> list[str]:
    """What choosing among samples brings, both sides decoded alike; the chosen cost as many times the tokens."""
    one = next((point for point in found.by_votes if point.votes == 1), None)
    names = ("shortest of several", "likeliest of several", "adaptive vote")
    chosen = [point for point in found.by_votes if point.votes > 1] + [
        p for n in names for p in found.others.get(n, [])
    ]
    if one is None or not chosen:
        return []
    lines = [
        "",
        f"Against one sample at the same temperature, {one.tokens:,.0f} tokens, {percent(one.estimate)} %:",
        "",
    ]
    lines += ["| method | tokens | difference in points | |", "|---|---|---|---|"]
    for point in chosen:
        row = compare(one, point, comparisons=len(chosen))
        lines.append(f"| {point.name} | {point.tokens:,.0f} | {_difference(row.difference)} | {_verdict(row)} |")
    return lines


def _verdict(found: Comparison) -> str:
    if found.is_noise:
        return "no difference shown"
    return "**better**" if found.difference.value > 0 else "**worse**"


def _rise(found: Findings) -> list[str]:
    if len(found.by_budget) < 2:
        return []
    first, last = found.by_budget[0], found.by_budget[-1]
    rise = compare(first, last).difference
    shown = "excludes zero" if rise.excludes_zero else "does not exclude zero: the curve is not shown to rise"
    text = f"From {first.name} to {last.name}: {_difference(rise)} points, which {shown}."
    return [text, ""]


def _row(row: AtEqualTokens) -> str:
    before, after, difference = row.comparison.before, row.comparison.after, row.comparison.difference
    sampling = f" ({row.comparison.sampling})" if row.comparison.sampling else ""
    star = "" if row.is_equal else "*"
    return (
        f"| {row.method} | {after.name} | {after.tokens:,.0f}{star} | {percent(after.estimate)} | "
        f"{_value(before)} | {_difference(difference)} | {_verdict(row.comparison)}{sampling} |"
    )


def _value(point: Point) -> str:
    return f"{100 * point.estimate.value:.1f}"


def _difference(found: Estimate) -> str:
    value, low, high = (round(100 * x, 1) + 0.0 for x in found)
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def fill(page: Path, name: str, text: str) -> None:
    """Put a run's tables between its marks."""
    marks = re.compile(rf"(<!-- run: {re.escape(name)} -->\n).*?(<!-- end: {re.escape(name)} -->)", re.DOTALL)
    old = page.read_text(encoding="utf-8")
    if not marks.search(old):
        sys.exit(f"{page} has no marks <!-- run: {name} --> and <!-- end: {name} -->")
    page.write_text(marks.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", old), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", type=Path)
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN_FOLDER")
    given = parser.parse_args()
    for named in given.runs:
        name, equals, folder = named.partition("=")
        if not equals or not (Path(folder) / "run.json").is_file():
            sys.exit(f"{named!r} names no run folder: give NAME=RUN_FOLDER")
        try:
            text = tables(Path(folder))
        except S1kitError as error:
            sys.exit(f"{folder}: {error}")
        if given.page:
            fill(given.page, name, text)
        else:
            print(f"## {name}\n\n{text}\n")


if __name__ == "__main__":
    main()
