"""Rows and logs of other harnesses as flat rows, recognised by their columns.

lm-evaluation-harness (`--log_samples`), inspect (logs), lighteval (details, old and new), OpenCompass (predictions),
evalscope (reviews), verl (validation generations), evalplus (results), and chats in `messages`. The columns are those
that these programs write; the rest of a row is kept.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from s1kit.errors import InputError
from s1kit.evaluate.published_outputs import draws_of_lm_eval, is_lm_eval
from s1kit.records import Verdict

QUESTION_COLUMNS = ("question", "problem", "prompt", "text", "input", "qid", "question_id", "problem_id", "doc_id")

VERDICTS: dict[str, Verdict] = {
    **dict.fromkeys(("true", "1", "1.0", "correct", "right", "c", "yes"), "correct"),
    **dict.fromkeys(("false", "0", "0.0", "wrong", "incorrect", "i", "no"), "wrong"),
    "abstain": "abstain",
}
Row = dict[str, Any]


def _of_lm_eval(row: Mapping[str, Any]) -> tuple[Row, list[str | None]]:
    """A sample of lm-evaluation-harness as a flat row, and the texts of its draws."""
    doc, asked = dict(row["doc"]), _generation_arguments(row.get("arguments"))
    options = [(key[-1].upper(), doc[key]) for key in sorted(doc) if re.fullmatch(r"option_[a-z]", key)]
    text = next((str(doc[c]) for c in QUESTION_COLUMNS if doc.get(c) not in (None, "")), None)
    if text is not None and options:
        text += "\n" + "\n".join(f"{letter}. {option}" for letter, option in options)
    temperature = asked.get("temperature", 0.0) if asked.get("do_sample", True) else 0.0
    flat = {**asked, "question": text, "gold": row.get("target") or doc.get("answer"), "temperature": temperature}
    return flat, list(draws_of_lm_eval(row))


def _generation_arguments(arguments: Any) -> Row:
    """The harness's arguments of generation, wherever its version keeps them."""
    parts = arguments.values() if isinstance(arguments, dict) else arguments if isinstance(arguments, list) else []
    for part in parts:
        for value in part.values() if isinstance(part, dict) else part if isinstance(part, list | tuple) else []:
            if isinstance(value, dict):
                return value
    return {}


def is_inspect(path: Path) -> bool:
    """Whether a JSON file is a log of inspect."""
    with path.open(encoding="utf-8-sig") as file:
        return file.read(400).lstrip().startswith("{") and '"eval"' in path.read_text(encoding="utf-8-sig")[:20000]


def inspect_rows(path: Path) -> Iterator[tuple[Row, str]]:
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


def _of_inspect(sample: Mapping[str, Any], spec: Mapping[str, Any], asked: Mapping[str, Any]) -> Row:
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


def flat_row(row: Mapping[str, Any]) -> tuple[Row, list[str | None]]:
    """A row with the columns of `recorded_rows.FIELDS`, and the texts of its draws; [None] where a column has them.

    >>> flat_row({"origin_prompt": "1 + 1?", "prediction": "2", "gold": "2"})
    ({'origin_prompt': '1 + 1?', 'gold': '2', 'question': '1 + 1?', 'output': '2'}, [None])
    """
    if is_lm_eval(row):
        return _of_lm_eval(row)
    if isinstance(row.get("doc"), Mapping) and isinstance(row.get("model_response"), Mapping):
        doc, response = row["doc"], row["model_response"]
        texts = response.get("text_post_processed") or response.get("text")
        metric = row.get("metric") if isinstance(row.get("metric"), Mapping) else row.get("metrics")
        return _of_lighteval(doc, doc.get("query"), texts, metric, doc.get("task_name"))
    if "full_prompt" in row and "predictions" in row:
        return _of_lighteval(row, row.get("example") or row["full_prompt"], row["predictions"], row.get("metrics"))
    flat = dict(row)
    if "origin_prompt" in row and "prediction" in row:
        flat |= {"question": _asked(row["origin_prompt"]), "output": flat.pop("prediction")}
    elif isinstance(row.get("sample_score"), Mapping):
        score = row["sample_score"].get("score") or {}
        flat |= {"output": score.get("prediction"), "extracted": score.get("extracted_prediction")}
        flat["correct"] = _verdict_of(score.get("value"))
    elif {"input", "output", "score"} <= row.keys() and "correct" not in row:
        flat["correct"] = _verdict_of({"score": row["score"]})
    elif isinstance(row.get("messages"), Sequence) and "question" not in row and not isinstance(row["messages"], str):
        said = [message for message in row["messages"] if isinstance(message, Mapping)]
        answers = [message.get("content") for message in said if message.get("role") == "assistant"]
        flat |= {"question": _asked(said), "output": answers[-1] if answers else None}
    return flat, [None]


def _of_lighteval(
    doc: Mapping[str, Any], question: Any, texts: Any, metric: Any, task: Any = None
) -> tuple[Row, list[str | None]]:
    """A row of details. A verdict counts for one draw only: of several, the metric is one number for all."""
    gold, choices = doc.get("gold_index"), doc.get("choices")
    if isinstance(gold, Sequence) and not isinstance(gold, str):
        gold = gold[0] if len(gold) else None
    solution = (
        choices[gold] if isinstance(gold, int) and choices is not None and gold < len(choices) else doc.get("gold")
    )
    if isinstance(solution, Sequence) and not isinstance(solution, str):
        solution = solution[0] if len(solution) else None
    draws: list[str | None] = [str(text) for text in (texts if isinstance(texts, Sequence) else [])]
    flat = {"question": question, "gold": solution, "benchmark": task, "temperature": 0.0}
    if len(draws) == 1:
        flat["correct"] = _verdict_of(metric)
    return flat, draws or [None]


def _verdict_of(metric: Any) -> Any:
    """The one right or wrong among named scores; None where there is none, or where they contradict each other."""
    scores = metric.values() if isinstance(metric, Mapping) else [metric]
    found = {VERDICTS[str(score).lower()] for score in scores if str(score).lower() in VERDICTS}
    return found.pop() if len(found) == 1 else None


def _asked(prompt: Any) -> Any:
    """The last thing that the user said in a prompt of several messages."""
    if not isinstance(prompt, Sequence) or isinstance(prompt, str):
        return prompt
    said = [m for m in prompt if isinstance(m, Mapping) and str(m.get("role")).lower() in ("user", "human")]
    return (said[-1].get("prompt") or said[-1].get("content")) if said else None


def is_evalplus(path: Path) -> bool:
    """Whether a JSON file is evalplus's results."""
    with path.open(encoding="utf-8-sig") as file:
        start = file.read(20000)
    return start.lstrip().startswith("{") and '"base_status"' in start and '"eval"' in start


def evalplus_rows(path: Path) -> Iterator[tuple[Row, str]]:
    """The tries of a results file of evalplus: right where they pass its tests, or the original ones without those."""
    for task, tries in json.loads(path.read_text(encoding="utf-8-sig"))["eval"].items():
        for number, one in enumerate(tries):
            status = one.get("plus_status") or one.get("base_status")
            yield (
                {"question": task, "output": one.get("solution"), "correct": status == "pass"},
                f"{path}, {task} {number}",
            )
