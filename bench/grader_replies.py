"""The grader's confusion matrix on whole replies of models, labelled by hand.

    python bench/grader_replies.py outputs.zip math_cot_100.jsonl             # the tables of docs/evidence.md
    python bench/grader_replies.py outputs.zip math_cot_100.jsonl --misses    # the replies on which they differ

The files are `rho-1/outputs.zip` of microsoft/rho and `evaluation/data/eval_rm_maj_example/math_cot_100.jsonl` of
QwenLM/Qwen2.5-Math. bench/grader/replies.jsonl holds the labels and where each reply lies; the replies are not shipped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

from grader_matrix import by_s1kit, print_side_by_side

from s1kit.errors import InputError

LABELS = Path(__file__).with_name("grader") / "replies.jsonl"


def labels() -> list[dict[str, Any]]:
    return [json.loads(line) for line in LABELS.read_text(encoding="utf-8").splitlines()]


def read(paths: list[Path]) -> dict[str, list[str]]:
    """The lines of each published file, by the name that the labels give it."""
    found: dict[str, list[str]] = {}
    for path in paths:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith(".jsonl")]
                found.update({name: archive.read(name).decode("utf-8").splitlines() for name in names})
        else:
            found[path.name] = path.read_text(encoding="utf-8").splitlines()
    return found


def joined(labelled: list[dict[str, Any]], files: dict[str, list[str]]) -> list[dict[str, Any]]:
    """The labelled rows with `gold` and `answer`; InputError where a file is not the one that was labelled."""
    rows = []
    for row in labelled:
        lines = files.get(row["file"], [])
        where = f"{row['file']}:{row['line']}"
        if len(lines) < row["line"]:
            raise InputError("the labelled reply is not there", where=where, fix=f"give the file of {row['source']}")
        published = json.loads(lines[row["line"] - 1])
        gold, answer = published["answer"], published["code"][row["reply"]]
        if hashlib.sha256(f"{gold}\n{answer}".encode()).hexdigest() != row["sha256"]:
            raise InputError("the reply is not the labelled one", where=where, fix=f"give the file of {row['source']}")
        rows.append({**row, "gold": gold, "answer": answer})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs=2, type=Path)
    parser.add_argument("--misses", action="store_true")
    given = parser.parse_args()
    rows = joined(labels(), read(given.files))
    judged = by_s1kit(rows)
    if given.misses:
        for row, (verdict, evidence) in zip(rows, judged, strict=True):
            if verdict != row["label"]:
                where = f"{row['file']}:{row['line']}"
                print(f"{row['label']} -> {verdict} | {row['gold']} | {row['answer'][-160:]!r} | {evidence} | {where}")
        return
    references = {f"replies, reference {r}": [row["reference"] == r for row in rows] for r in ("integer", "other")}
    print_side_by_side(rows, [verdict for verdict, _ in judged], references)


if __name__ == "__main__":
    main()
