"""Reports of run folders: one by itself, or several on one page."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from s1kit.recipe import Recipe
from s1kit.recipe.complaints import explain
from s1kit.stage import Run


def report_runs(folders: list[Path], out: Path | None = None, title: str = "", description: str = "") -> int:
    """The report of one run folder, or several runs in one report, the first being the control."""
    from s1kit.report.compare import compare, describe, load_runs
    from s1kit.report.report import report, summary

    if len(folders) == 1:
        path = folders[0] / "run.json"
        try:
            recipe = Recipe.model_validate(json.loads(path.read_text(encoding="utf-8"))["resolved"])
        except ValidationError as error:  # made by another version, whose settings had other names
            raise explain(error, str(path)) from error
        report(recipe, Run(folders[0]))
        print(summary(Run(folders[0])))
        return 0
    page = compare(folders, out or folders[0].parent / "compare", title, description)
    print("\n".join([*describe(load_runs(folders)), f"report: {page}"]))
    return 0
