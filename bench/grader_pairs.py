"""The grader beside math-verify alone on pairs of answer and solution that are labelled equal or not.

python bench/grader_pairs.py                     # bench/grader/kinds.jsonl, what was held out apart
python bench/grader_pairs.py FILE.jsonl          # rows with solution, answer, equal, perhaps kind and question
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from grader_matrix import by_s1kit, print_side_by_side

KINDS = Path(__file__).with_name("grader") / "kinds.jsonl"


def read(path: Path) -> list[dict[str, Any]]:
    """The rows with the names that `grader_matrix` uses: `gold` and `label`."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row | {"gold": row["solution"], "label": "correct" if row["equal"] else "wrong"} for row in rows]


def main() -> None:
    rows = read(Path(sys.argv[1]) if len(sys.argv) > 1 else KINDS)
    held_out = [bool(row.get("held_out")) for row in rows]
    groups = {"pairs": [True] * len(rows)}
    if any(held_out):
        groups = {"pairs seen while developing": [not held for held in held_out], "pairs held out": held_out}
    print_side_by_side(rows, [verdict for verdict, _ in by_s1kit(rows)], groups)


if __name__ == "__main__":
    main()
