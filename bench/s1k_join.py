"""The published s1K questions found in a pool of real ones: by id, and by text after normalisation.

python bench/s1k_join.py DATA     # holds pool_*.jsonl.gz and s1k_questions_no_gpqa.jsonl.gz
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from s1kit.pool.duplicates import text_keys
from s1kit.questions import read_questions
from s1kit.records import Question


def normalised(questions: list[Question]) -> list[int]:
    return [
        key
        for n in range(0, len(questions), 512)
        for key in text_keys([q.text for q in questions[n : n + 512]]).tolist()
    ]


def family(source: str) -> str:
    """The data set of a row's source."""
    return "/".join(source.removeprefix("s1K/").split("/")[:2])


def main() -> None:
    data = Path(sys.argv[1])
    pool = list(read_questions(str(data / "pool_*.jsonl.gz")))
    s1k = list(read_questions(str(data / "s1k_questions_no_gpqa.jsonl.gz")))
    ids, keys = {q.id for q in pool}, set(normalised(pool))
    by_id, by_text, all_of = Counter[str](), Counter[str](), Counter[str]()
    for question, key in zip(s1k, normalised(s1k), strict=True):
        source = family(question.source)
        all_of[source] += 1
        by_id[source] += question.id in ids
        by_text[source] += key in keys
    print(f"pool {len(pool):,}, s1K {len(s1k)}: by id {by_id.total()}, by text {by_text.total()}")
    print("| source in s1K | questions | by id | by text |\n|---|---:|---:|---:|")
    for source, num in all_of.most_common():
        print(f"| {source} | {num} | {by_id[source]} | {by_text[source]} |")


if __name__ == "__main__":
    main()
