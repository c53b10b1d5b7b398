"""The grader on answers that models wrote, with labels that others gave: the example solutions published with GSM8K.

    python bench/grader_gsm8k.py example_model_solutions.jsonl

The file is grade_school_math/data/example_model_solutions.jsonl of openai/grade-school-math (MIT): four models' answers
to 1,319 questions, each with `is_correct`. It is not shipped here.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

from s1kit.grade import Case
from s1kit.grade.cascade import Cascade


def main() -> None:
    cases, labels = [], []
    for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        reference = row["ground_truth"].rpartition("\nA: ")[2]
        for answer in (value for key, value in row.items() if key[0].isdigit()):
            cases.append(Case(answer["solution"], reference, "", row["question"]))
            labels.append("correct" if answer["is_correct"] else "wrong")
    grader = Cascade(processes=2)
    judged = grader.grade(cases)
    grader.close()
    print(f"{len(cases):,} answers, {sum(len(c.answer) for c in cases) / len(cases):.0f} characters on average")
    counts = Counter(zip(labels, (j.verdict for j in judged), strict=True))
    for (label, verdict), num in sorted(counts.items()):
        print(f"labelled {label}, said {verdict}: {num:,}")
    misses = [(c, j) for c, label, j in zip(cases, labels, judged, strict=True) if j.verdict != label]
    for case, judgement in misses[:20]:
        print(f"- {judgement.verdict}: {judgement.evidence} | ...{case.answer[-60:]!r}")


if __name__ == "__main__":
    main()
