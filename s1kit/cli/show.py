"""`s1kit show`: what a file or folder holds, for people."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from s1kit.cli.arguments import STAGES
from s1kit.distill.unusable import UNUSABLE_FILE
from s1kit.errors import InputError
from s1kit.stage import is_begun

_MAIN = {"collect": "questions", "distill": "traces", "curate": "samples", "evaluate": "generations"}
"""The rows a stage is for, among all that its folder holds."""


def main(given: argparse.Namespace) -> int:
    path = Path(given.path)
    if not path.exists():
        raise InputError(f"there is no {path}", where="PATH", fix="Give a stage file, a stage folder or a run folder.")
    if path.is_file() and path.suffix not in (".parquet", ".jsonl", ".gz"):
        _show_journal(path, given.num)
        return 0
    if path.is_dir() and not list(path.glob("*.parquet")):
        _show_run(path)
        for listed in sorted(path.glob(f"*/{UNUSABLE_FILE}")):
            _show_unusable(listed, given.num)
        return 0
    if (path / "receipt.json").exists():
        _show_receipt(path / "receipt.json")
    if (path / UNUSABLE_FILE).exists():
        _show_unusable(path / UNUSABLE_FILE, given.num)
    rows = (row for row in read_any(path) if given.id is None or given.id in _ids(row))
    for row in islice(rows, given.num):
        _show_row(row)
    return 0


def read_any(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet or JSONL file, or of the main shards of a stage folder, as plain dictionaries."""
    import pyarrow.parquet as pq

    if path.is_dir():
        shards = sorted(path.glob(f"{_MAIN.get(_stage_of(path), '*')}-?????.parquet"))
        if not shards:
            raise InputError(
                "the folder holds no rows", where=str(path), fix="Give a stage folder, or one of its files."
            )
        for shard in shards:
            yield from read_any(shard)
    elif path.suffix == ".parquet":
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=256):
                yield from batch.to_pylist()
    elif path.suffix == ".sqlite":
        from s1kit.journal import Journal

        with Journal(path, read_only=True) as journal:
            yield from (asdict(entry) for entry in journal.entries())
    elif path.name.endswith((".jsonl", ".jsonl.gz")):
        yield from _read_lines(path)
    else:
        raise InputError(
            f"cannot read {path.suffix or 'this'} files", where=str(path), fix="Give .parquet, .jsonl or .jsonl.gz."
        )


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    import gzip

    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                fix = "Correct that line."
                raise InputError(f"not JSON: {error.msg}", where=f"{path}:{number}", fix=fix) from error


def _show_journal(path: Path, num: int) -> None:
    from s1kit.journal import Journal, is_journal

    if not is_journal(path):
        raise InputError("cannot read this kind of file", where=str(path), fix="Give .parquet, .jsonl or a journal.")
    with Journal(path, read_only=True) as journal:
        for total in journal.summary():
            print("  ".join(f"{name}: {value}" for name, value in total.items()))
        for entry in islice(journal.entries(), num):
            _show_row(asdict(entry))


def _show_unusable(path: Path, num: int) -> None:
    """The replies of a teacher that cannot be used: how many of each kind, and the first of them."""
    rows = list(read_any(path))
    kinds = Counter(row["finish_reason"] for row in rows)
    print(f"{len(rows)} replies cannot be used ({', '.join(f'{n} {kind}' for kind, n in kinds.most_common())}): {path}")
    for row in rows[:num]:
        print(f"  {row['question_id']}  draw {row['draw']}  {row['finish_reason']}  {row['note']}")
    print(f"  ask them again: s1kit distill RECIPE --retry {','.join(kinds)}")


def _stage_of(folder: Path) -> str:
    receipt = folder / "receipt.json"
    return json.loads(receipt.read_text(encoding="utf-8"))["stage"] if receipt.exists() else ""


def _show_run(folder: Path) -> None:
    order = {stage: number for number, stage in enumerate(STAGES)}
    receipts = sorted(folder.glob("*/receipt.json"), key=lambda path: order.get(path.parent.name, len(order)))
    if not receipts and (folder / "receipt.json").exists():
        receipts = [folder / "receipt.json"]
    begun = [stage for stage in STAGES if is_begun(folder, stage)]
    if not receipts and not begun:
        raise InputError(
            "nothing here was made by s1kit", where=str(folder), fix="Give a run folder such as runs/tiny."
        )
    for receipt in receipts:
        _show_receipt(receipt)
    for stage in begun:
        print(f"{stage}: begun, not finished")


def _show_receipt(path: Path) -> None:
    receipt = json.loads(path.read_text(encoding="utf-8"))
    print(f"{receipt['stage']}: finished {receipt['finished']} in {receipt['seconds']} s, seed {receipt['seed']}")
    for what, count in receipt["counts"].items():
        print(f"  {count:>9,}  {what}")


def _ids(row: dict[str, Any]) -> set[str]:
    """Every question id a row carries, nested ones included."""
    ids = {str(row[key]) for key in ("id", "question_id") if key in row}
    for value in row.values():
        if isinstance(value, dict):
            ids |= _ids(value)
    return ids


def _show_row(row: dict[str, Any], indent: str = "") -> None:
    """A row with a line a field; fields that hold nothing are left out."""
    for name, value in row.items():
        if value is None or value in ("", [], {}):
            continue
        if name == "segments":
            print(f"{indent}{name}:")
            for segment in value:
                mark = "forced " if segment["origin"] == "forced" else "sampled"
                print(f"{indent}  {mark} {segment['kind']:>14}  {segment['num_tokens']:>5}  {segment['text']!r}")
        elif isinstance(value, dict):
            print(f"{indent}{name}:")
            _show_row(value, indent + "  ")
        elif isinstance(value, str) and "\n" in value:
            print(f"{indent}{name}:")
            print("\n".join(f"{indent}  | {line}" for line in value.splitlines()))
        else:
            print(f"{indent}{name}: {value}")
    if not indent:
        print("-" * 40)
