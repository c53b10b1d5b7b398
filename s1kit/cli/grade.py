"""`s1kit grade`: a verdict on each row of a file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from s1kit.errors import InputError

if TYPE_CHECKING:
    from s1kit.grade.files import JudgeAll


def main(given: argparse.Namespace) -> int:
    path = Path(given.file)
    if not path.exists():
        raise InputError(f"there is no {path}", where="FILE", fix="Give a JSONL or Parquet file.")

    from s1kit.grade.files import grade_file

    counts = grade_file(path, out=sys.stdout, judge_all=_judge_all(given, path.parent / "journal.sqlite"))
    total = sum(counts.values())
    shares = ", ".join(f"{counts[v]:,} {v} ({counts[v] / max(total, 1):.1%})" for v in ("correct", "wrong", "abstain"))
    print(f"{total:,} graded: {shares}", file=sys.stderr)
    if counts["abstain"]:
        low, high = (100 * (counts["correct"] + extra) / total for extra in (0, counts["abstain"]))
        print(f"accuracy: {low:.1f} % if all abstentions are wrong, {high:.1f} % if all are right", file=sys.stderr)
    return 0


def _judge_all(given: argparse.Namespace, journal: Path) -> JudgeAll:
    from s1kit.executors import in_order, load_executor
    from s1kit.executors.grading import Grading
    from s1kit.grade import load_grader

    executor = load_executor(given.executor, given.processes, address=given.address)
    if given.judge:
        if executor.num_workers > 1 or given.executor != "local":
            raise InputError(
                "a judge keeps its answers in one journal, and is asked from one process",
                where="--judge",
                fix="Leave out --executor and --processes.",
            )
        grader = load_grader(judge=given.judge, journal_path=str(journal), own=given.grader)
        return lambda batches: map(grader.grade, batches)
    return lambda batches: in_order(executor.run(Grading(own=given.grader), batches))
