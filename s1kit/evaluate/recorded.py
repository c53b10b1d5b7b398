"""Generations that somebody recorded, as the rows of an evaluation: nothing is decoded, so no engine is needed.

Read are samples of lm-evaluation-harness (`--log_samples`), logs of inspect (`.json`, `.eval`), our own generations,
and rows of any JSONL, CSV or Parquet file with a question, an output or a verdict, and what was asked for (budget,
Waits, temperature). Which setting a row belongs to is read from its columns or from the name of its file. Rows with a
verdict of their own keep it; others are graded.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from s1kit.errors import InputError, nearest
from s1kit.evaluate.evaluate import grade
from s1kit.evaluate.published import ENDS, STARTS, TEXT_COLUMNS, generation_of, is_lm_eval
from s1kit.grade import load_grader
from s1kit.progress import say
from s1kit.questions import read_rows_of
from s1kit.recipe import Recipe
from s1kit.records import Generation, Question, Segment, Setting, Verdict, from_arrow, question_id
from s1kit.stage import Run, open_run

FIELDS: dict[str, tuple[str, ...]] = {
    "question": ("question", "problem", "prompt", "text", "input", "qid", "question_id", "problem_id", "doc_id"),
    "solution": ("gold", "target", "reference", "ground_truth", "answer", "solution"),
    "output": TEXT_COLUMNS,
    "thinking": ("thinking", "reasoning", "reasoning_content"),
    "final_answer": ("final_answer", "extracted", "extracted_answer", "prediction", "pred"),
    "correct": ("correct", "is_correct", "verdict"),
    "thinking_tokens": ("thinking_tokens", "reasoning_tokens", "tokens", "num_tokens", "completion_tokens"),
    "cut_off": ("cut_off", "was_cut_off", "truncated", "hit_max"),
    "error": ("error",),
    "model": ("model",),
    "benchmark": ("benchmark", "dataset", "task"),
    "max_tokens": ("max_tokens_thinking", "thinking_token_budget", "thinking_budget", "budget", "max_thinking_tokens"),
    "min_tokens": ("min_thinking_tokens",),
    "num_waits": ("num_waits", "waits", "num_ignore", "thinking_n_ignore"),
    "wait": ("wait", "thinking_n_ignore_str"),
    "temperature": ("temperature",),
}
"""What a row may say, and the columns in which it is looked for."""

SETTING_FIELDS = ("max_tokens", "min_tokens", "num_waits", "wait", "temperature")
VOTES = (1, 3, 4, 8, 16, 32, 64)
VERDICTS: dict[str, Verdict] = {
    **dict.fromkeys(("true", "1", "1.0", "correct", "right", "c", "yes"), "correct"),
    **dict.fromkeys(("false", "0", "0.0", "wrong", "incorrect", "i", "no"), "wrong"),
    "abstain": "abstain",
}


class Recorded(NamedTuple):
    """One generation with its question and the model that made it."""

    model: str
    question: Question
    generation: Generation


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
    for row in _read(paths, columns, pattern):
        by_model[row.model].append(row)
    if not by_model:
        raise InputError("the files hold no generation", where="--from", fix="Give files with rows.")
    return [_write(model, rows, paths, out, regrade) for model, rows in sorted(by_model.items())]


def _write(model: str, rows: Sequence[Recorded], paths: Sequence[Path], out: Path, regrade: bool) -> tuple[Recipe, Run]:
    questions = {row.question.id: row.question for row in rows}
    counts = Counter((row.generation.setting, row.question.id) for row in rows)
    fewest = min(counts.values())
    if num := sum(counts.values()) - sum(
        min(n for (s, _), n in counts.items() if s == setting) * sum(s == setting for s, _ in counts)
        for setting in {s for s, _ in counts}
    ):
        say(f"{model}: {num:,} of {len(rows):,} draws are left out: a setting has as many a question as its fewest")
    has_answers = any(r.generation.final_answer or r.generation.answer for r in rows)
    recipe = Recipe.model_validate(
        {
            "name": re.sub(r"[^\w.-]+", "-", model).strip("-.") or "recorded",
            "description": f"Recorded generations of {model or 'one model'}; nothing was decoded here.",
            "out": str(out),
            "evaluate": {
                "model": f"recorded:{model}",
                "votes": [k for k in VOTES if k <= max(counts.values())] if has_answers and fewest > 1 else [],
            },
        }
    )
    run = open_run(recipe.folder, recipe.name, recipe.model_dump(mode="json"))
    stage = run.open("evaluate", config={"recorded": model, "regrade": regrade}, seed=0, inputs=list(paths))
    if not stage.is_done:
        stage.write("questions", Question, list(questions.values()), shard=0)
        stage.write("generations", Generation, _graded(rows, questions, regrade), shard=0)
        stage.counts |= {"questions": len(questions), "out": len(rows), "settings": len({s for s, _ in counts})}
        stage.figures["model"] = model
        stage.finish()
    return recipe, run


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
    return [g if g.verdict else g.model_copy(update={"verdict": "abstain", "evidence": "no verdict"}) for g in found]


def _read(paths: Sequence[Path], columns: Mapping[str, str], pattern: str) -> Iterator[Recorded]:
    known: dict[str, Question] = {}  # rows of questions beside our own generations
    repeats: Counter[tuple[str, Setting, str]] = Counter()
    for path in paths:
        of_file = _fields_of_name(path, pattern)
        for row, where in _rows(path):
            if _is_question(row):
                question = from_arrow(Question, row)
                known[question.id] = question
                continue
            for one in _recorded(row, where, of_file, columns, known):
                setting = one.generation.setting or Setting()
                key = one.model, setting, one.question.id
                yield one._replace(generation=one.generation.model_copy(update={"repeat": repeats[key]}))
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
            f"the pattern {pattern!r} does not fit", where=str(path), fix="Mend --pattern, or leave it out."
        )
    return dict(zip(names, match.groups(), strict=True))


def _rows(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """The rows of a file with their places; an inspect log is one a sample."""
    if path.suffix == ".eval" or (path.suffix == ".json" and _is_inspect(path)):
        yield from _inspect_rows(path)
        return
    for raw in read_rows_of(path):
        if raw.row is None:
            raise InputError(raw.complaint, where=raw.where, fix="Mend or delete that line.")
        yield raw.row, raw.where


def _recorded(
    row: Mapping[str, Any],
    where: str,
    of_file: Mapping[str, str],
    columns: Mapping[str, str],
    known: dict[str, Question],
) -> Iterator[Recorded]:
    """The generations of one row: several where a row holds several draws."""
    if "segments" in row and "ending" in row:
        generation = from_arrow(Generation, dict(row))
        question = known.get(generation.question_id) or Question(text=generation.question_id)
        yield Recorded("", question, generation.model_copy(update={"question_id": question.id}))
        return
    if is_lm_eval(row):
        row, texts = _of_lm_eval(row)
    else:
        texts = [None]
    said = {field: _value(row, field, columns) for field in FIELDS} | dict(of_file)
    question = _question(said, row, where)
    setting = _setting(said, where)
    for text in texts:
        yield Recorded(str(said["model"] or ""), question, _generation(said, row, text, question.id, setting, where))


def _value(row: Mapping[str, Any], field: str, columns: Mapping[str, str]) -> Any:
    """A field's value from the column named for it, or from the first usual one that has any; None without."""
    if field in columns:
        parts = [row.get(column.strip()) for column in columns[field].split(",")]
        return parts[0] if len(parts) == 1 else " ".join(str(part) for part in parts)
    has_output = any(row.get(column) is not None for column in FIELDS["output"])
    for column in FIELDS[field]:
        # Beside `thinking` and without an output, `answer` is the model's own.
        is_own = field == "solution" and column == "answer" and not has_output and row.get("thinking") is not None
        if not is_own and row.get(column) not in (None, ""):
            return row[column]
    return None


def _question(said: Mapping[str, Any], row: Mapping[str, Any], where: str) -> Question:
    if said["question"] is None:
        fix = f"Name its column: --column question=NAME. The columns are {', '.join(row)}."
        raise InputError("the row has no question", where=where, fix=fix)
    name = str(said["benchmark"] or "")
    solution = said["solution"]
    metadata = {"benchmark": name} if name else {}
    return Question(
        text=str(said["question"]), solution=None if solution is None else str(solution), source=name, metadata=metadata
    )


def _setting(said: Mapping[str, Any], where: str) -> Setting:
    values: dict[str, Any] = {name: said[name] for name in SETTING_FIELDS if said[name] not in (None, "")}
    for name in ("max_tokens", "min_tokens", "num_waits", "temperature"):
        if name in values:
            try:
                number = float(values[name])
            except (TypeError, ValueError):
                fix = f"Give a number, or name another column: --column {name}=NAME."
                raise InputError(f"{name} is {values[name]!r}", where=where, fix=fix) from None
            values[name] = number if name == "temperature" else int(number)
    if values.get("max_tokens", 0) < 0:
        del values["max_tokens"]  # -1 is no limit
    if not values.get("num_waits"):
        values.pop("wait", None)
    return Setting(**values)


def _generation(
    said: Mapping[str, Any], row: Mapping[str, Any], text: str | None, question: str, setting: Setting, where: str
) -> Generation:
    counted = said["thinking_tokens"]
    tokens = int(float(counted)) if counted is not None else None
    if text is None:
        output, thinking = said["output"], said["thinking"]
        if thinking is not None:
            answer = output if output is not None else row.get("answer", "")
            text = f"{STARTS[0]}{thinking}{ENDS[0]}{answer}"
        else:
            text = "" if output is None else str(output)
    made = generation_of(text, question, setting, 0, {"thinking_tokens": tokens} if tokens is not None else {})
    if tokens is not None and not any(s.kind == "thinking" for s in made.segments):
        part = Segment(origin="sampled", kind="thinking", text="", num_tokens=tokens)
        made = made.model_copy(update={"segments": (part, *made.segments)})
    verdict = _verdict(said["correct"], where)
    final = said["final_answer"]
    is_cut = str(said["cut_off"]).lower() in ("true", "1")
    return made.model_copy(
        update={
            "verdict": verdict,
            "evidence": "as recorded" if verdict else "",
            "final_answer": "" if final is None else str(final),
            "ending": "failed" if said["error"] else "cut_off" if is_cut else made.ending,
            "note": str(said["error"]).splitlines()[0][:200] if said["error"] else made.note,
        }
    )


def _verdict(value: Any, where: str) -> Verdict | None:
    if value is None:
        return None
    if (found := VERDICTS.get(str(value).strip().lower())) is None:
        fix = "Give true or false, or correct, wrong or abstain."
        raise InputError(f"the verdict is {value!r}", where=where, fix=fix)
    return found


def _of_lm_eval(row: Mapping[str, Any]) -> tuple[dict[str, Any], list[str | None]]:
    """A sample of lm-evaluation-harness as a flat row, and the texts of its draws."""
    doc, asked = dict(row["doc"]), _generation_arguments(row.get("arguments"))
    options = [(key[-1].upper(), doc[key]) for key in sorted(doc) if re.fullmatch(r"option_[a-z]", key)]
    text = next((str(doc[c]) for c in FIELDS["question"] if doc.get(c) not in (None, "")), None)
    if text is not None and options:
        text += "\n" + "\n".join(f"{letter}. {option}" for letter, option in options)
    temperature = asked.get("temperature", 0.0) if asked.get("do_sample", True) else 0.0
    flat = {**asked, "question": text, "gold": row.get("target") or doc.get("answer"), "temperature": temperature}
    texts = [str(text) for draws in row["resps"] for text in (draws if isinstance(draws, list) else [draws])]
    return flat, list(texts)


def _generation_arguments(arguments: Any) -> dict[str, Any]:
    """The harness's arguments of generation, wherever its version keeps them."""
    parts = arguments.values() if isinstance(arguments, dict) else arguments if isinstance(arguments, list) else []
    for part in parts:
        for value in part.values() if isinstance(part, dict) else part if isinstance(part, list | tuple) else []:
            if isinstance(value, dict):
                return value
    return {}


def _is_inspect(path: Path) -> bool:
    with path.open(encoding="utf-8-sig") as file:
        return file.read(400).lstrip().startswith("{") and '"eval"' in path.read_text(encoding="utf-8-sig")[:20000]


def _inspect_rows(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """The samples of an inspect log as flat rows."""
    try:
        if path.suffix == ".eval":
            with zipfile.ZipFile(path) as log:
                names = log.namelist()
                header = json.loads(_member(log, "header.json" if "header.json" in names else "_journal/start.json"))
                samples = [json.loads(_member(log, n)) for n in sorted(names) if n.startswith("samples/")]
        else:
            header = json.loads(path.read_text(encoding="utf-8-sig"))
            samples = header.get("samples") or []
    except (zipfile.BadZipFile, KeyError, json.JSONDecodeError) as error:
        raise InputError(
            f"it is no inspect log: {error}", where=str(path), fix="Give the log as inspect wrote it."
        ) from None
    spec = header.get("eval", {})
    asked = {**(spec.get("model_generate_config") or {}), **((header.get("plan") or {}).get("config") or {})}
    for number, sample in enumerate(samples):
        yield _of_inspect(sample, spec, asked), f"{path}, sample {number}"


ZSTD = 93
"""The zip method of inspect's newer logs, which Python's `zipfile` does not know before 3.14."""


def _member(log: zipfile.ZipFile, name: str) -> bytes:
    """One file of a zip archive, also where it is compressed with zstandard."""
    info = log.getinfo(name)
    if info.compress_type != ZSTD or log.fp is None:
        return log.read(name)
    import pyarrow as pa

    log.fp.seek(info.header_offset)
    header = log.fp.read(30)  # the local header: two lengths at its end say where the data begin
    log.fp.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), 1)
    found: bytes = pa.decompress(
        log.fp.read(info.compress_size), decompressed_size=info.file_size, codec="zstd", asbytes=True
    )
    return found


def _of_inspect(sample: Mapping[str, Any], spec: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    asked_text = sample["input"]
    if isinstance(asked_text, list):
        asked_text = next((_text(m["content"], "text") for m in asked_text if m.get("role") == "user"), "")
    if sample.get("choices"):
        asked_text += "\n" + "\n".join(f"{chr(65 + i)}. {choice}" for i, choice in enumerate(sample["choices"]))
    output = sample.get("output") or {}
    choice = (output.get("choices") or [{}])[0]
    content = (choice.get("message") or {}).get("content", "")
    target = sample.get("target")
    row = {
        "question": asked_text,
        "gold": target[0] if isinstance(target, list) and target else target,
        "output": _text(content, "text"),
        "model": spec.get("model"),
        "benchmark": spec.get("task"),
        "max_tokens_thinking": asked.get("reasoning_tokens"),
        "temperature": asked.get("temperature") or 0.0,
        "thinking_tokens": (output.get("usage") or {}).get("reasoning_tokens"),
        "cut_off": choice.get("stop_reason") in ("max_tokens", "model_length"),
    }
    if error := sample.get("error"):
        row["error"] = str(error.get("message") if isinstance(error, dict) else error)
    if thinking := _text(content, "reasoning"):
        row["thinking"] = thinking
    for score in (sample.get("scores") or {}).values():
        if str(score.get("value")).lower() in VERDICTS:
            row |= {"correct": score["value"], "extracted": score.get("answer")}
            break
    return row


def _text(content: Any, kind: str) -> str:
    """The parts of one kind of a message's content."""
    if isinstance(content, str):
        return content if kind == "text" else ""
    return "\n".join(str(part.get(kind) or "") for part in content if part.get("type") == kind)


def files_of(given: Iterable[str]) -> list[Path]:
    """The files that paths, folders and globs name. InputError where there is none."""
    from s1kit.questions import find_files

    found: list[Path] = []
    for name in given:
        folder = Path(name)
        found += sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else find_files(name)
    if not found:
        raise InputError("there is no file in it", where="--from", fix="Give files, or folders that hold some.")
    return found
