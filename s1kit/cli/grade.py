"""`s1kit grade`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from s1kit.errors import InputError


def main(given: argparse.Namespace) -> int:
    path = Path(given.file)
    if not path.exists():
        raise InputError(f"there is no {path}", where="FILE", fix="Give a JSONL or Parquet file.")

    from s1kit.grade import load_grader
    from s1kit.grade.files import grade_file

    grader = load_grader(judge=given.judge, journal_path=str(path.parent / "journal.sqlite"), own=given.grader)
    counts = grade_file(path, out=sys.stdout, grader=grader)
    total = sum(counts.values())
    shares = ", ".join(f"{counts[v]:,} {v} ({counts[v] / max(total, 1):.1%})" for v in ("correct", "wrong", "abstain"))
    print(f"{total:,} graded: {shares}", file=sys.stderr)
    if counts["abstain"]:
        low, high = (100 * (counts["correct"] + extra) / total for extra in (0, counts["abstain"]))
        print(f"accuracy: {low:.1f} % if all abstentions are wrong, {high:.1f} % if all are right", file=sys.stderr)
    return 0
