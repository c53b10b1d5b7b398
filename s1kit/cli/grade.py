"""`s1kit grade`."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from s1kit.cli.show import read_any
from s1kit.errors import InputError


def main(given: argparse.Namespace) -> int:
    from s1kit.grade import grade_rows

    path = Path(given.file)
    if not path.exists():
        raise InputError(f"there is no {path}", where="FILE", fix="Give a JSONL or Parquet file.")
    counts: Counter[str] = Counter()
    for row in grade_rows(read_any(path), where=str(path)):
        counts[row["verdict"]] += 1
        print(json.dumps(row, ensure_ascii=False))
    total = sum(counts.values())
    shares = ", ".join(f"{counts[v]:,} {v} ({counts[v] / max(total, 1):.1%})" for v in ("correct", "wrong", "abstain"))
    print(f"{total:,} graded: {shares}", file=sys.stderr)
    return 0
