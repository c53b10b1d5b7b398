"""Where a run's numbers are from: the pool and what was dropped, training, receipts, hashes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s1kit.recipe import Recipe
from s1kit.report.provenance import Provenance, read_provenance
from s1kit.stage import Run


def origins(found: Provenance, recipe: Recipe, to_run: str | None) -> dict[str, Any]:
    """The variables of `origins.jinja`: the pool and what was dropped, training, receipts."""
    inputs = {f"{s}: {path}": h for s, r in found.receipts.items() for path, h in r["inputs"].items()}
    return {
        "provenance": found,
        "to_run": to_run,
        "funnel": _funnel(found),
        "identity": json.dumps(recipe.model_dump(mode="json"), indent=2, ensure_ascii=False),
        "hashes": "".join(f"{h[:16]}  {path}\n" for path, h in inputs.items()),
    }


def _funnel(found: Provenance) -> list[tuple[str, int, float, str]]:
    """Rows of the funnel: name, count, width in percent, reason of a drop."""
    stages = [(s, r["counts"]) for s, r in found.receipts.items() if s in ("collect", "distill", "curate")]
    if not stages:
        return []
    rows: list[tuple[str, int, str]] = []
    for stage, counts in stages:
        rows.append((stage, counts.get("in", 0), ""))
        rows += [("", d.count, d.reason) for d in found.drops if d.stage == stage]
    rows.append(("kept", stages[-1][1].get("out", 0), ""))
    most = max((counts.get("in", 0) for _, counts in stages), default=0) or 1
    return [(name, num, 100 * num / most, reason) for name, num, reason in rows]


def training(runs: Sequence[tuple[str, Path]]) -> list[dict[str, Any]]:
    """What each of several runs learned from; those that trained nothing are left out."""
    rows = []
    for name, folder in runs:
        found = read_provenance(Run(folder))
        curate, train = found.receipts.get("curate"), found.receipts.get("train")
        if curate is None or train is None:
            continue
        rows.append(
            {
                "name": name,
                "selection": curate["config"]["selection"],
                "samples": curate["counts"]["out"],
                "thinking_tokens": curate["thinking_tokens"]["mean"],
                "sources": ", ".join(f"{s.rpartition('/')[2]} {n}" for s, n in sorted(curate["sources"].items())),
                "loss": f"{found.losses[-1][1]:.3f}" if found.losses else "",
                "seconds": train["seconds"],
            }
        )
    return rows
