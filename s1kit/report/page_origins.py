"""Where a run came from, for its report: the pool and what was dropped, training, receipts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Any

from s1kit.report.page import figure, section, short, table
from s1kit.report.provenance import Drop, Provenance, read_provenance
from s1kit.stage import Run


def funnel_section(found: Provenance, to_run: str | None) -> str:
    """What became of the pool. `to_run`: the run's folder as seen from the page, for links; None: named only."""
    stages = [(s, r) for s, r in found.receipts.items() if s in ("collect", "distill", "curate")]
    if not stages:
        return ""
    most = max((r["counts"].get("in", 0) for _, r in stages), default=0) or 1
    rows: list[str] = []
    for stage, receipt in stages:
        counts = receipt["counts"]
        rows.append(_bar(stage, counts.get("in", 0), most, ""))
        rows += [_bar("", d.count, most, d.reason) for d in found.drops if d.stage == stage]
    last = stages[-1][1]["counts"].get("out", 0)
    rows.append(_bar("kept", last, most, ""))
    links = [f"<code>{p}</code>" if to_run is None else f'<a href="{to_run}/{p}">{p}</a>' for p in found.pages]
    more = f'<p class="small">More, in the folder of the run: {", ".join(links)}</p>' if links else ""
    return section(
        "From the pool to the samples",
        f'<div class="funnel">{"".join(rows)}</div>' + more + _drop_examples(found.drops),
    )


def _bar(name: str, count: int, most: int, reason: str) -> str:
    width = 100 * count / most
    kind = "row drop" if reason else "row"
    label = f'<span title="{escape(reason)}">{escape(reason)}</span>' if reason else ""
    inside = f'<div class="track"><div class="bar" style="width:{width:.2f}%"></div>{label}</div>'
    sign = "−" if reason else ""
    return f'<div class="{kind}"><div>{escape(name)}</div>{inside}<div class="num">{sign}{count:,}</div></div>'


def _drop_examples(drops: Sequence[Drop]) -> str:
    rows = [
        f'<tr><td class="text">{escape(d.reason)}</td><td class="text">{escape(short(d.example))}</td>'
        f'<td class="text">{escape(short(d.evidence))}</td></tr>'
        for d in drops
        if d.example
    ]
    if not rows:
        return ""
    examples = table(["reason", "for example", "evidence"], rows, text=True)
    return f"<details><summary>An example of each reason to drop</summary>{examples}</details>"


def training_section(found: Provenance, svg: str) -> str:
    if not found.losses:
        return ""
    (first, a), (last, b) = found.losses[0], found.losses[-1]
    return section(
        "Training", figure(svg, f"Training loss, from {a:.2f} at step {first:,} to {b:.3f} at step {last:,}.")
    )


def training_table(runs: Sequence[tuple[str, Run]]) -> str:
    """What each of several runs learned from, side by side; empty where none was trained."""
    rows = []
    for name, run in runs:
        found = read_provenance(run)
        curate, train = found.receipts.get("curate"), found.receipts.get("train")
        if curate is None or train is None:
            continue
        mix = ", ".join(f"{escape(s.rpartition('/')[2])} {n}" for s, n in sorted(curate["sources"].items()))
        loss = f"{found.losses[-1][1]:.3f}" if found.losses else ""
        rows.append(
            f"<tr><td>{escape(name)}</td><td>{escape(curate['config']['selection'])}</td>"
            f"<td>{curate['counts']['out']:,}</td><td>{curate['thinking_tokens']['mean']:,.0f}</td>"
            f'<td class="text">{mix}</td><td>{loss}</td><td>{train["seconds"]:,.0f}</td></tr>'
        )
    columns = ["run", "selection", "samples", "thinking tokens each", "sources", "last loss", "seconds"]
    return section("What each learned from", table(columns, rows)) if rows else ""


def receipts_section(found: Provenance, identity: dict[str, Any]) -> str:
    rows = [
        f"<tr><td>{stage}</td><td>{receipt['seconds']:,.1f}</td><td>{receipt['seed']}</td>"
        f"<td class='text'>{escape(_counts(receipt['counts']))}</td><td>{escape(receipt['finished'])}</td></tr>"
        for stage, receipt in found.receipts.items()
    ]
    recipes = f"<pre>{escape(json.dumps(identity, indent=2, ensure_ascii=False))}</pre>"
    inputs = {f"{s}: {path}": h for s, r in found.receipts.items() for path, h in r["inputs"].items()}
    hashes = "".join(f"{h[:16]}  {escape(path)}\n" for path, h in inputs.items())
    return section(
        "Receipts",
        table(["stage", "seconds", "seed", "counts", "finished"], rows)
        + f"<details><summary>The recipe as resolved</summary>{recipes}</details>"
        + (f"<details><summary>SHA-256 of the inputs</summary><pre>{hashes}</pre></details>" if hashes else ""),
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n:,} {what}" for what, n in counts.items() if not what.startswith("dropped:"))
