"""Reports of run folders: one by itself, or several on one page."""

from __future__ import annotations

from pathlib import Path

from s1kit.recipe import recipe_of_run
from s1kit.stage import Run


def report_runs(folders: list[Path], out: Path | None = None, title: str = "", description: str = "") -> int:
    """The report of one run folder, or several runs in one report, the first being the control."""
    from s1kit.report.compare import compare, describe, load_runs
    from s1kit.report.report import report, summary

    if len(folders) == 1:
        run = Run(folders[0])
        report(recipe_of_run(run.folder), run)
        print(summary(run))
        return 0
    page = compare(folders, out or folders[0].parent / "compare", title, description)
    print("\n".join([*describe(load_runs(folders)), f"report: {page}"]))
    return 0
