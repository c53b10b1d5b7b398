"""Samples in the data formats of other trainers, so that nobody is locked in.

    trl              {"prompt": [user], "completion": [assistant]}         SFTTrainer, loss on the completion
    axolotl          {"messages": [user, assistant]}                       type: chat_template
    llama-factory    {"conversations": [human, gpt]}, and dataset_info.json beside it

The assistant's text holds the delimiters of the thinking format, or thinking has a field of its own, where the chat
template writes the delimiters (`reasoning_content` for Qwen3's, `thinking` for gpt-oss's). The template adds the rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from s1kit.errors import InputError, nearest
from s1kit.files import read_rows, write_atomically, write_json
from s1kit.forcing.formats import ThinkingFormat, find_format
from s1kit.records import Sample, arrow_schema


@dataclass(frozen=True, slots=True)
class Exported:
    """How many samples were written and left out, and in which thinking format."""

    written: int
    left_out: int
    """Samples whose texts quote a delimiter, which the other trainer would read as one."""
    format: str


def export_samples(
    path: Path, to: Path, tool: str, thinking_format: str | None = None, thinking_field: str | None = None
) -> Exported:
    """Write the samples of a file, a stage folder or a run folder as JSONL for `tool`.

    `thinking_format`: whose delimiters to write; None: those of the run's `train.format`, else s1's.
    `thinking_field`: put thinking there, without delimiters. Raises InputError for an unknown tool or format, or a path
    without samples.
    """
    if tool not in TOOLS:
        raise InputError(f"no trainer {tool!r} is known", where="--format", fix=nearest(tool, TOOLS))
    if thinking_field and tool == "llama-factory":
        fix = "Leave --thinking-field out: LLaMA-Factory's conversations hold one text a turn."
        raise InputError(f"LLaMA-Factory's form has no field {thinking_field!r}", where="--thinking-field", fix=fix)
    fmt = find_format(thinking_format or _trained_format(path) or "s1")
    quoted = re.compile("|".join(re.escape(text) for text in _quotable(fmt)))
    num = num_left_out = 0

    def write(file: Path) -> None:
        nonlocal num, num_left_out
        with file.open("w", encoding="utf-8") as lines:
            for sample in read_samples(path):
                trace = sample.trace
                if any(quoted.search(text) for text in (trace.question.text, trace.thinking, trace.answer)):
                    num_left_out += 1
                    continue
                lines.write(json.dumps(TOOLS[tool](sample, fmt, thinking_field), ensure_ascii=False) + "\n")
                num += 1

    write_atomically(to, write)
    if tool == "llama-factory":
        _add_dataset_info(to)
    return Exported(num, num_left_out, fmt.name)


def _trained_format(path: Path) -> str | None:
    """The thinking format of the recipe of the run that a path lies in, or None."""
    for folder in (path, *path.absolute().parents[:2]):
        if (folder / "run.json").is_file():
            settings = json.loads((folder / "run.json").read_text(encoding="utf-8")).get("resolved", {})
            return settings.get("train", {}).get("format") or None
    return None


def _quotable(fmt: ThinkingFormat) -> set[str]:
    """The delimiters as texts, without whitespace, and the special tokens that they consist of."""
    whole = {text.strip() for text in (fmt.open, fmt.end, fmt.answer_end, *fmt.answer_stops) if text.strip()}
    return whole | set(re.findall(r"<\|[^|\s]+\|>", " ".join(whole)))


def read_samples(path: Path) -> Iterator[Sample]:
    """The samples of a Parquet file, of a stage folder, or of the `curate` stage of a run folder."""
    files = [path] if path.is_file() else sorted(path.glob("samples-*.parquet"))
    files = files or sorted((path / "curate").glob("samples-*.parquet"))
    if not files:
        raise InputError("there are no samples", where=str(path), fix="Give a run folder whose curate stage is done.")
    for file in files:
        if file.suffix != ".parquet" or set(pq.read_schema(file).names) != set(arrow_schema(Sample).names):
            raise InputError("this file holds no samples", where=str(file), fix="Give curate/samples-*.parquet.")
    return read_rows(files, Sample)


def assistant_text(sample: Sample, fmt: ThinkingFormat) -> str:
    """What the model is to write: from the opening delimiter to the answer's last character."""
    trace = sample.trace
    return f"{fmt.open}{trace.thinking.strip()}{fmt.lead}{fmt.end}{trace.answer.strip()}"


def _trl(sample: Sample, fmt: ThinkingFormat, field: str | None) -> dict[str, Any]:
    row = _axolotl(sample, fmt, field)
    *asked, said = row.pop("messages")
    return {"prompt": asked, "completion": [said], **row}


def _axolotl(sample: Sample, fmt: ThinkingFormat, field: str | None) -> dict[str, Any]:
    question, calls = sample.trace.question, sample.trace.tool_calls
    asked = [dict(m) for m in question.messages] or [{"role": "user", "content": question.text}]
    said = {"role": "assistant", "content": assistant_text(sample, fmt)}
    if field:
        said |= {field: sample.trace.thinking.strip(), "content": sample.trace.answer.strip()}
    row: dict[str, Any] = {"messages": [*asked, said | ({"tool_calls": list(calls)} if calls else {})]}
    return row | ({"tools": list(question.tools)} if question.tools else {})


def _llama_factory(sample: Sample, fmt: ThinkingFormat, field: str | None) -> dict[str, Any]:
    row = _axolotl(sample, fmt, field)
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    said = []
    for message in row["messages"]:
        name, content = names.get(str(message.get("role"))), message.get("content")
        if "tools" in row or name is None or message.get("tool_calls") or not isinstance(content, str):
            raise InputError(
                "the conversation has tools, or contents other than text, for which LLaMA-Factory's form has no place",
                where=f"question {sample.trace.question.id}",
                fix="Export for axolotl or trl, or leave such questions out.",
            )
        said.append({"from": name, "value": content})
    return {"conversations": said}


TOOLS: dict[str, Callable[[Sample, ThinkingFormat, str | None], dict[str, Any]]] = {
    "trl": _trl,
    "axolotl": _axolotl,
    "llama-factory": _llama_factory,
}


def _add_dataset_info(to: Path) -> None:
    """LLaMA-Factory finds data sets through this file; entries of others stay."""
    path = to.with_name("dataset_info.json")
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known[to.stem] = {"file_name": to.name, "formatting": "sharegpt", "columns": {"messages": "conversations"}}
    write_json(path, known)
