"""The grader's confusion matrix on answers labelled by hand, beside math-verify alone.

    python bench/grader_matrix.py               # the tables of docs/evidence.md
    python bench/grader_matrix.py --misses      # the rows on which the grader and the label differ

The rows are bench/grader/answers.jsonl; bench/grader/README.md says how they were labelled.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ANSWERS = Path(__file__).with_name("grader") / "answers.jsonl"
VERDICTS = ("correct", "wrong", "abstain")

Matrix = Counter[tuple[str, str]]
"""Label and verdict to number of rows."""


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in ANSWERS.read_text(encoding="utf-8").splitlines()]


def by_s1kit(answers: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    """Verdict and evidence of each row."""
    from s1kit.grade import Case
    from s1kit.grade.cascade import Cascade

    grader = Cascade(processes=2)
    cases = [Case(r["answer"], r["gold"], r.get("kind", ""), r.get("question", "")) for r in answers]
    judged = [(j.verdict, j.evidence) for j in grader.grade(cases)]
    grader.close()
    return judged


def by_math_verify(answers: Iterable[dict[str, Any]]) -> list[str]:
    """math-verify as its README calls it, the solution between dollars; for a choice with its letters."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, StringExtractionConfig, parse, verify

    verdicts = []
    for row in answers:
        kinds = [LatexExtractionConfig(), ExprExtractionConfig()]
        if row.get("kind") == "choice":
            gold, kinds = row["gold"], [StringExtractionConfig(), *kinds]
        else:
            gold = row["gold"] if "$" in row["gold"].replace("\\$", "") else f"${row['gold']}$"
        found = parse(row["answer"], extraction_config=kinds)
        verdicts.append("correct" if verify(parse(gold, extraction_config=kinds), found) else "wrong")
    return verdicts


def matrix(labels: Iterable[str], verdicts: Iterable[str]) -> Matrix:
    return Counter(zip(labels, verdicts, strict=True))


def table(name: str, counts: Matrix) -> str:
    """One grader's matrix as Markdown."""
    lines = [f"| {name}: label | said correct | said wrong | abstained |", "|---|---:|---:|---:|"]
    lines += [
        f"| {label} | " + " | ".join(str(counts[label, verdict]) for verdict in VERDICTS) + " |"
        for label in VERDICTS[:2]
    ]
    return "\n".join(lines)


def print_side_by_side(answers: list[dict[str, Any]], judged: list[str], groups: dict[str, list[bool]]) -> None:
    """Our table and math-verify's for each group of answers, which names the answers that are in it."""
    theirs = by_math_verify(answers)
    for name, is_in in groups.items():
        chosen = [n for n, belongs in enumerate(is_in) if belongs]
        labels = [answers[n]["label"] for n in chosen]
        print(f"{len(chosen)} {name}\n")
        print(table("s1kit", matrix(labels, [judged[n] for n in chosen])) + "\n")
        print(table("math-verify alone", matrix(labels, [theirs[n] for n in chosen])) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--misses", action="store_true")
    given = parser.parse_args()
    answers = rows()
    judged = by_s1kit(answers)
    if given.misses:
        for row, (verdict, evidence) in zip(answers, judged, strict=True):
            if verdict != row["label"]:
                print(f"{row['label']} -> {verdict} | {row['gold']} | {row['answer']!r} | {row['note']} | {evidence}")
        return
    kinds = {
        f"{kind or 'mathematical'} answers": [r.get("kind", "") == kind for r in answers] for kind in ("", "choice")
    }
    print_side_by_side(answers, [verdict for verdict, _ in judged], kinds)


if __name__ == "__main__":
    main()
