"""Reports of run folders: one by itself, or several on one page."""

from __future__ import annotations

import json
from pathlib import Path

from s1kit.recipe import Recipe
from s1kit.stage import Run


def report_runs(folders: list[Path], out: Path | None = None, title: str = "", description: str = "") -> int:
    """The report of one run folder, or several runs in one report, the first being the control."""
    from s1kit.report.compare import compare, describe, load_runs
    from s1kit.report.report import report, summary

    if len(folders) == 1:
        resolved = json.loads((folders[0] / "run.json").read_text(encoding="utf-8"))["resolved"]
        report(Recipe.model_validate(resolved), Run(folders[0]))
        print(summary(Run(folders[0])))
        return 0
    path = compare(folders, out or folders[0].parent / "compare", title, description)
    print("\n".join([*describe(load_runs(folders)), f"report: {path}"]))
    return 0
