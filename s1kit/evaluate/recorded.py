"""Generations that somebody recorded, as the rows of an evaluation: nothing is decoded, so no engine is needed.

Read are samples of lm-evaluation-harness (`--log_samples`), logs of inspect (`.json`, `.eval`), our own generations,
and rows of any JSONL, CSV or Parquet file with a question, an output or a verdict, and what was asked for (budget,
Waits, temperature). Which setting a row belongs to is read from its columns or from the name of its file. Rows with a
verdict of their own keep it; others are graded.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from s1kit.analysis.results import NO_COUNT, NO_VERDICT
from s1kit.errors import InputError, nearest
from s1kit.evaluate.evaluate import grade
from s1kit.evaluate.recorded_rows import FIELDS, Recorded, recorded
from s1kit.evaluate.recorded_shapes import evalplus_rows, inspect_rows, is_evalplus, is_inspect
from s1kit.grade import load_grader
from s1kit.progress import say
from s1kit.questions import find_files, whole_rows
from s1kit.recipe import Recipe
from s1kit.records import Generation, Question, Setting, from_arrow, question_id
from s1kit.stage import Run, Stage, open_run

VOTES = (1, 3, 4, 8, 16, 32, 64)


def record(
    paths: Sequence[Path], out: Path, columns: Mapping[str, str], pattern: str = "", *, regrade: bool = False
) -> list[tuple[Recipe, Run]]:
    """Write each model's recorded generations as a finished evaluation below `out`; its recipe and run.

    `columns` maps a field of `FIELDS` to the column that has it, or to several joined by commas. `pattern` is matched
    with the names of the files and names fields in braces: `aime_{max_tokens}_{num_waits}.jsonl`. Raises InputError for
    a row without a question, an unknown field, a file that the pattern does not fit.
    """
    for field in columns:
        if field not in FIELDS:
            raise InputError(f"there is no field {field!r}", where="--column", fix=nearest(field, list(FIELDS)))
    by_model: defaultdict[str, list[Recorded]] = defaultdict(list)
    rows = list(_read(paths, columns, pattern))
    for row in _numbered(rows if "max_tokens" in columns else _with_limits(rows)):
        by_model[row.model].append(row)
    if not by_model:
        fix = "Give files with rows; of lm-evaluation-harness samples_*.jsonl, which --log_samples writes."
        raise InputError("the files hold no generation", where="--from", fix=fix)
    return [_write(model, rows, paths, out, regrade) for model, rows in sorted(by_model.items())]


def _write(model: str, rows: Sequence[Recorded], paths: Sequence[Path], out: Path, regrade: bool) -> tuple[Recipe, Run]:
    questions = {row.question.id: row.question for row in rows}
    counts = Counter((row.generation.setting, row.question.id) for row in rows)
    most = max(counts.values())
    judged = sum(bool(r.generation.verdict or (r.generation.answer and r.question.solution)) for r in rows)
    if not judged:
        fix = "Name the columns: --column correct=NAME, or --column output=NAME --column solution=NAME."
        whose = f" of {model}" if model else ""
        what = (
            f"no row{whose} can be judged ({len(rows):,} in all): there is no verdict, nor an output beside a reference"
        )
        raise InputError(what, where=", ".join(map(str, paths)), fix=fix)
    if judged < len(rows):
        say(f"{len(rows) - judged:,} of {len(rows):,} rows have neither a verdict nor an output beside a reference")
    if uncounted := sum(row.generation.note == NO_COUNT for row in rows):
        what = (
            f"{uncounted:,} of {len(rows):,} rows have neither thinking nor a count of its tokens, which are taken as 0"
        )
        say(f"{what}: name their column, --column thinking_tokens=NAME, or leave such rows out")
    has_answers = any(r.generation.final_answer or r.generation.answer for r in rows)
    recipe = Recipe.model_validate(
        {
            "name": re.sub(r"[^\w.-]+", "-", model).strip("-.") or "recorded",
            "description": f"Recorded generations of {model or 'one model'}; nothing was decoded here.",
            "out": str(out),
            "evaluate": {
                "model": f"recorded:{model}",
                "votes": [k for k in VOTES if k <= most] if has_answers and most > 1 else [],
            },
        }
    )
    run = open_run(recipe.folder, recipe.name, recipe.model_dump(mode="json"))
    stage = _opened(run, {"recorded": model, "regrade": regrade}, paths)
    if not stage.is_done:
        stage.write("questions", Question, list(questions.values()), shard=0)
        stage.write("generations", Generation, _graded(rows, questions, regrade), shard=0)
        stage.counts |= {"questions": len(questions), "out": len(rows), "settings": len({s for s, _ in counts})}
        stage.figures["model"] = model
        free = (row for row in rows if row.generation.setting is None or row.generation.setting.max_tokens is None)
        stage.figures["states_budget"] = all(row.states_budget for row in free)
        stage.finish()
    return recipe, run


def _opened(run: Run, config: Mapping[str, Any], paths: Sequence[Path]) -> Stage:
    """The stage's folder. What other files or settings were made into is made anew: nothing was decoded for it.

    Raises InputError where a folder holds an evaluation that was decoded.
    """
    try:
        return run.open("evaluate", config=config, seed=0, inputs=list(paths))
    except InputError as error:
        started = run.folder / "evaluate" / "started.json"
        if "recorded" not in json.loads(started.read_text(encoding="utf-8"))["config"]:
            raise
        say(f"report: {run.folder} is made anew: {error.what}")
        for name in ("evaluate", "report"):
            shutil.rmtree(run.folder / name, ignore_errors=True)
        return run.open("evaluate", config=config, seed=0, inputs=list(paths))


def _graded(rows: Sequence[Recorded], questions: Mapping[str, Question], regrade: bool) -> list[Generation]:
    """The generations, those without a verdict graded; one that nothing can be said of is an abstention."""
    found = [row.generation for row in rows]
    open_ones = [
        i
        for i, g in enumerate(found)
        if (g.verdict is None or regrade) and g.answer and questions[g.question_id].solution
    ]
    if open_ones:
        say(f"grading {len(open_ones):,} of {len(found):,} generations")
        grader = load_grader()
        judged = grade([found[i] for i in open_ones], dict(questions), grader)
        for i, generation in zip(open_ones, judged, strict=True):
            found[i] = generation
    return [g if g.verdict else g.model_copy(update={"verdict": "abstain", "evidence": NO_VERDICT}) for g in found]


def _read(paths: Sequence[Path], columns: Mapping[str, str], pattern: str) -> Iterator[Recorded]:
    known: dict[str, Question] = {}  # rows of questions beside our own generations
    for path in paths:
        of_file = _fields_of_name(path, pattern)
        for row, where in _rows(path):
            if {"results", "configs", "versions"} <= row.keys():
                say(f"{path.name} is lm-evaluation-harness's summary of a run and holds no generation: left out")
                continue
            if _is_question(row):
                question = from_arrow(Question, row)
                known[question.id] = question
                continue
            yield from recorded(row, where, of_file, columns, known)


def _with_limits(rows: Sequence[Recorded]) -> Sequence[Recorded]:
    """The rows, their `max_tokens` as thinking budgets where one question was asked under several: these are no draws
    of one setting. One value for all is what an output may be long at most, and no setting.
    """
    limits: defaultdict[tuple[str, Setting, str], set[int | None]] = defaultdict(set)
    for row in rows:
        limits[row.model, row.generation.setting or Setting(), row.question.id].add(row.limit)
    models = {model for (model, _, _), values in limits.items() if len(values) > 1}
    if not models:
        return rows
    say("the column max_tokens is read as the thinking budget: it has several values for one question")
    return [
        row._replace(
            generation=row.generation.model_copy(update={"setting": _limited(row.generation.setting, row.limit)})
        )
        if row.model in models and row.limit is not None and row.limit >= 0
        else row
        for row in rows
    ]


def _limited(setting: Setting | None, limit: int | None) -> Setting:
    return (setting or Setting()).model_copy(update={"max_tokens": limit})


def _numbered(rows: Iterable[Recorded]) -> Iterator[Recorded]:
    """The rows, the draws of a question in one setting numbered."""
    repeats: Counter[tuple[str, Setting, str]] = Counter()
    for row in rows:
        key = row.model, row.generation.setting or Setting(), row.question.id
        yield row._replace(generation=row.generation.model_copy(update={"repeat": repeats[key]}))
        repeats[key] += 1


def _is_question(row: Mapping[str, Any]) -> bool:
    return {"id", "text", "solution", "source", "licence"} <= row.keys() and row["id"] == question_id(str(row["text"]))


def _fields_of_name(path: Path, pattern: str) -> dict[str, str]:
    """The fields that a file's name says, by the pattern."""
    if not pattern:
        return {}
    names = re.findall(r"{(\w+)}", pattern)
    if unknown := [name for name in names if name not in FIELDS]:
        raise InputError(f"there is no field {unknown[0]!r}", where="--pattern", fix=nearest(unknown[0], list(FIELDS)))
    parts = re.split(r"{\w+}", pattern)
    wanted = "(.+?)".join(map(re.escape, parts))
    # A field at the end of the pattern goes to the end of the name, its endings left out.
    ending = r"(?:\.(?:jsonl?|csv|tsv|parquet|eval|gz))*$" if parts[-1] == "" else ""
    match = re.search(wanted + ending, path.name)
    if match is None:
        raise InputError(
            f"the pattern {pattern!r} does not fit", where=str(path), fix="Correct --pattern, or leave it out."
        )
    return dict(zip(names, match.groups(), strict=True))


def _rows(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """The rows of a file with their places; an inspect log is one a sample."""
    if path.suffix == ".json" and is_evalplus(path):
        yield from evalplus_rows(path)
        return
    if path.suffix == ".eval" or (path.suffix == ".json" and is_inspect(path)):
        yield from inspect_rows(path)
        return
    yield from whole_rows(path)


def files_of(given: Iterable[str]) -> list[Path]:
    """The files that paths, folders and globs name. InputError where there is none."""
    found: list[Path] = []
    for name in given:
        folder = Path(name)
        found += sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else find_files(name)
    if not found:
        raise InputError("there is no file in it", where="--from", fix="Give files, or folders that hold some.")
    return found
