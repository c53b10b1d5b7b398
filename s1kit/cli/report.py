"""`s1kit report`: the last stage of a recipe, finished run folders, or recorded generations (`--from`)."""

from __future__ import annotations

import argparse
from pathlib import Path

from s1kit.cli import run
from s1kit.cli.run import report_runs
from s1kit.errors import InputError
from s1kit.records import Question


def main(given: argparse.Namespace) -> int:
    _refuse_idle(given)
    if given.recorded:
        return _report_recorded(given)
    if not given.recipe:
        fix = "Give a recipe, run folders, or files of generations after --from."
        raise InputError("there is nothing to report", where="RECIPE", fix=fix)
    if _is_run(given):
        folders = [Path(given.recipe), *map(Path, given.overrides)]
        if given.out and len(folders) == 1:
            fix = "Leave it out: the report of one run lies in its folder. It is for several runs, or beside --from."
            raise InputError(f"{given.out!r} names a folder for one run's report", where="--out", fix=fix)
        return report_runs(folders, Path(given.out) if given.out else None)
    return run.main(given)


def _is_run(given: argparse.Namespace) -> bool:
    return bool(given.recipe) and (Path(given.recipe) / "run.json").is_file()


def _refuse_idle(given: argparse.Namespace, *, is_summary: bool = False) -> None:
    """Raises InputError for flags that what is reported has no use for."""
    of_rows = {"--column": given.column, "--pattern": given.pattern, "--regrade": given.regrade}
    if given.recorded:
        idle, why = {"--redo": given.redo} | (of_rows if is_summary else {}), "on recorded "
        why += "scores" if is_summary else "generations"
    elif _is_run(given):
        idle, why = of_rows | {"--redo": given.redo}, "on run folders"
    else:
        idle, why = of_rows | {"--out": given.out}, "on a recipe"
    if named := [flag for flag, value in idle.items() if value]:
        raise InputError(f"{named[0]} has no effect {why}", where=named[0], fix="Leave it out.")


def _report_recorded(given: argparse.Namespace) -> int:
    from s1kit.evaluate.recorded import files_of, record
    from s1kit.report.published_numbers import is_summary, report_summaries

    if given.recipe:
        raise InputError(
            f"{given.recipe!r} is given beside --from",
            where="RECIPE",
            fix="Give files after --from, or a recipe or run folders without it.",
        )
    columns = {}
    for named in given.column:
        field, equals, column = named.partition("=")
        if not equals or not field or not column:
            raise InputError(f"{named!r} names no column", where="--column", fix="Give field=column.")
        columns[field] = column
    paths, out = files_of(given.recorded), Path(given.out or "recorded")
    if is_summary(paths[0]):
        _refuse_idle(given, is_summary=True)
        print(f"report: {report_summaries(paths, out)}")
        return 0
    runs = record(paths, out, columns, given.pattern, regrade=given.regrade)
    asked = [{q.id for q in made.rows("evaluate", "questions", Question)} for _, made in runs]
    together = [made.folder for (_, made), ids in zip(runs, asked, strict=True) if ids & asked[0]]
    for _, made in runs:
        if made.folder not in together or len(together) == 1:
            report_runs([made.folder])
    return report_runs(together, out / "compare") if len(together) > 1 else 0
