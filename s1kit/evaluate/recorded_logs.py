"""Logs of other harnesses as flat rows: samples of lm-evaluation-harness, logs of inspect."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from s1kit.errors import InputError
from s1kit.evaluate.published import draws_of_lm_eval
from s1kit.records import Verdict

QUESTION_COLUMNS = ("question", "problem", "prompt", "text", "input", "qid", "question_id", "problem_id", "doc_id")

VERDICTS: dict[str, Verdict] = {
    **dict.fromkeys(("true", "1", "1.0", "correct", "right", "c", "yes"), "correct"),
    **dict.fromkeys(("false", "0", "0.0", "wrong", "incorrect", "i", "no"), "wrong"),
    "abstain": "abstain",
}


def of_lm_eval(row: Mapping[str, Any]) -> tuple[dict[str, Any], list[str | None]]:
    """A sample of lm-evaluation-harness as a flat row, and the texts of its draws."""
    doc, asked = dict(row["doc"]), _generation_arguments(row.get("arguments"))
    options = [(key[-1].upper(), doc[key]) for key in sorted(doc) if re.fullmatch(r"option_[a-z]", key)]
    text = next((str(doc[c]) for c in QUESTION_COLUMNS if doc.get(c) not in (None, "")), None)
    if text is not None and options:
        text += "\n" + "\n".join(f"{letter}. {option}" for letter, option in options)
    temperature = asked.get("temperature", 0.0) if asked.get("do_sample", True) else 0.0
    flat = {**asked, "question": text, "gold": row.get("target") or doc.get("answer"), "temperature": temperature}
    return flat, list(draws_of_lm_eval(row))


def _generation_arguments(arguments: Any) -> dict[str, Any]:
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


def inspect_rows(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
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
