"""Where a run's numbers are from: receipts, the funnel, what was dropped and why, the losses.

It reads whatever exists; a run that begins with a finished model has less to show.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s1kit.recipe import Recipe
from s1kit.records import Dropped, from_arrow
from s1kit.stage import Run, drops_in, is_finished

STAGES = ("collect", "distill", "curate", "train", "evaluate")
PAGES = (("collect", "collect.html"), ("curate", "curate.html"))
"""Pages that stages write of their own."""


@dataclass(frozen=True)
class Drop:
    """A reason to drop, how often it applied, and an example."""

    stage: str
    reason: str
    count: int
    example: str = ""
    evidence: str = ""


@dataclass
class Provenance:
    """What the stages of a run left behind, as far as they are done."""

    receipts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Receipts of the finished stages, in order."""
    drops: list[Drop] = field(default_factory=list)
    losses: list[tuple[int, float]] = field(default_factory=list)
    """Optimiser step, training loss."""
    pages: list[str] = field(default_factory=list)
    """Paths below the run folder of the stages' own pages."""


def read_provenance(run: Run) -> Provenance:
    """Reads receipts, dropped rows, the training log and the list of pages from a run folder."""
    found = Provenance()
    for stage in STAGES:
        if is_finished(run.folder, stage):
            found.receipts[stage] = run.receipt(stage)
            found.drops += _drops(run.folder / stage, stage, found.receipts[stage]["counts"])
    found.losses = list(_losses(run.folder / "train" / "log.jsonl"))
    found.pages = [f"{stage}/{name}" for stage, name in PAGES if (run.folder / stage / name).exists()]
    return found


def _drops(folder: Path, stage: str, counts: dict[str, int]) -> list[Drop]:
    reasons = {reason: num for reason, num in drops_in(counts).items() if num}
    examples = _examples(folder, set(reasons))
    return [
        Drop(stage, reason, n, *examples.get(reason, ("", "")))
        for reason, n in sorted(reasons.items(), key=lambda item: -item[1])
    ]


def _examples(folder: Path, reasons: set[str]) -> dict[str, tuple[str, str]]:
    """One question and its evidence for each reason: the first in the shards."""
    import pyarrow.parquet as pq

    examples: dict[str, tuple[str, str]] = {}
    for path in sorted(folder.glob("dropped-?????.parquet")):
        if reasons <= examples.keys():
            break
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=512, columns=["id", "stage", "reason", "evidence", "row"]):
                for row in batch.to_pylist():
                    if row["reason"] not in examples:
                        dropped = from_arrow(Dropped, row)
                        examples[dropped.reason] = (_text(json.loads(dropped.row)), dropped.evidence)
    return examples


def _text(row: dict[str, Any]) -> str:
    """The question's text, wherever the row keeps it."""
    for _ in range(3):
        if isinstance(row.get("text"), str):
            return str(row["text"])
        row = row.get("question") or row.get("trace") or {}
    return ""


def _losses(path: Path) -> Iterator[tuple[int, float]]:
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue  # a line that a killed process left half written
            if isinstance(row, dict) and isinstance(row.get("loss"), int | float):
                yield int(row.get("step", number)), float(row["loss"])


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
