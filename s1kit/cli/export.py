"""`s1kit export`: rows as JSONL, samples for other trainers, a checkpoint as GGUF, a journal into another."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from s1kit.cli.show import read_any
from s1kit.errors import InputError
from s1kit.files import write_atomically
from s1kit.progress import say


def main(given: argparse.Namespace) -> int:
    path, to = Path(given.path), Path(given.to)
    if not path.exists():
        raise InputError(f"there is no {path}", where="PATH", fix="Give a stage file, a stage folder or a checkpoint.")
    if given.format == "rows" or to.suffix in (".gguf", ".sqlite"):
        for flag, value in (("--thinking-format", given.thinking_format), ("--thinking-field", given.thinking_field)):
            if value:
                fix = "Leave it out, or add --format trl, axolotl or llama-factory."
                raise InputError(f"{flag} has no effect on {to.suffix or 'rows'}", where=flag, fix=fix)
    if path.suffix == ".sqlite" and to.suffix == ".sqlite":
        from s1kit.journal import Journal

        with Journal(to) as journal:
            say(f"{journal.merge(path):,} replies of {path} merged into {to}")
    elif to.suffix == ".gguf":
        from s1kit.engines.gguf.exporting import export_gguf

        export_gguf(path, to)
    elif given.format == "rows":
        _export_rows(path, to)
    else:
        _export_samples(path, to, given)
    return 0


def _export_rows(path: Path, to: Path) -> None:
    num = 0

    def write(file: Path) -> None:
        nonlocal num
        with file.open("w", encoding="utf-8") as lines:
            for row in read_any(path):
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
                num += 1

    write_atomically(to, write)
    say(f"{num:,} rows written to {to}")


def _export_samples(path: Path, to: Path, given: argparse.Namespace) -> None:
    from s1kit.train.export import export_samples

    exported = export_samples(path, to, given.format, given.thinking_format, given.thinking_field)
    say(f"{exported.written:,} samples written to {to} for {given.format}, thinking format {exported.format}")
    if exported.left_out:
        say(
            f"{exported.left_out:,} samples left out that quote a delimiter: {given.format} would read the "
            "quotation as the delimiter, s1kit's own training does not"
        )
