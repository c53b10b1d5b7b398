"""The tiers of decontamination on 200 labelled pairs of a MATH question and a MATH500 question.

    python bench/tier_pairs.py DATA [--model FOLDER]     # DATA: pool_math_*.jsonl.gz and bench_math500.jsonl.gz

`tier_pairs.jsonl` was drawn at random from the 829 pairs whose templates share 40 % of their 3-grams by weight or that
tier `strict` finds, and labelled by reading: `same` is the evaluation question with other numbers, letters, names or
with its last sentence changed; `exercise` a one-line exercise of the same form ("Compute C(8, 2)"), which may be
dropped without harm; `different` the rest. Every second pair was held out while thresholds were chosen. Recall is of
`same`; what shares no wording with MATH500 is not among these pairs. FOLDER: a sentence model, for tier `semantic`.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from s1kit.pool.decontaminate import OverlapIndex, TemplateIndex
from s1kit.pool.evaluation_sets import hash_texts
from s1kit.questions import read_questions
from s1kit.records import question_id

BATCH = 512


def batches(texts: list[str]) -> list[tuple[int, list[str]]]:
    return [(n, texts[n : n + BATCH]) for n in range(0, len(texts), BATCH)]


def found_s1(pool: list[str], held_out: list[str]) -> set[int]:
    index = OverlapIndex([hash_texts("math500", held_out, "s1")], "s1")
    return {first + at for first, texts in batches(pool) for at in index.find(texts)}


def found_strict(pool: list[str], held_out: list[str]) -> set[int]:
    index = OverlapIndex([hash_texts("math500", held_out, "strict")], "strict")
    matches = index.match(pool)
    return set(index.decide(dict(enumerate(pool)), matches, index.boilerplate([matches], len(pool))))


def found_template(pool: list[str], held_out: list[str]) -> set[int]:
    index = TemplateIndex([hash_texts("math500", held_out, "template")])
    return {first + at for first, texts in batches(pool) for at in index.find(texts)}


def nearest_cosine(pool: list[str], held_out: list[str], folder: str) -> list[float]:
    import numpy as np

    from s1kit.pool.sentences import load_sentence_model

    model = load_sentence_model(folder)
    there = model.embed(held_out).astype(np.float32)
    values: list[float] = (model.embed(pool).astype(np.float32) @ there.T).max(axis=1).tolist()
    return values


def line(name: str, num_found: str, ids: Collection[str], pairs: list[dict[str, Any]]) -> str:
    cells = []
    for held_out in (False, True):
        half = [p for p in pairs if p["held_out"] == held_out]
        total = Counter(p["label"] for p in half)
        found = Counter(p["label"] for p in half if p["pool"] in ids)
        cells += [f"{found[label]} of {total[label]}" for label in ("same", "exercise", "different")]
    found = Counter(p["label"] for p in pairs if p["pool"] in ids)
    recall = found["same"] / sum(p["label"] == "same" for p in pairs)
    precision = (found["same"] + found["exercise"]) / max(found.total(), 1)
    return f"| {name} | {num_found} | {' | '.join(cells)} | {precision:.0%} | {recall:.0%} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="")
    given = parser.parse_args()
    lines = (Path(__file__).parent / "tier_pairs.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = [json.loads(line) for line in lines]
    pool = [
        q.text
        for name in ("math_train", "math_test_minus500")
        for q in read_questions(str(given.data / f"pool_{name}.jsonl.gz"))
    ]
    held_out = [q.text for q in read_questions(str(given.data / "bench_math500.jsonl.gz"))]
    ids = [question_id(text) for text in pool]
    header = ["tier", f"of {len(pool):,} found", *["same", "exercise", "different"] * 2, "precision", "recall"]
    print("| " + " | ".join(header) + " |")
    strict = found_strict(pool, held_out)
    tiers = {"s1": found_s1(pool, held_out), "strict": strict, "template": strict | found_template(pool, held_out)}
    for name, found in tiers.items():
        print(line(f"`{name}`", f"{len(found):,}", {ids[at] for at in found}, pairs))
    if given.model:
        labelled = {p["pool"] for p in pairs}
        texts = [text for text, id in zip(pool, ids, strict=True) if id in labelled]
        cosines = nearest_cosine(texts, held_out, given.model)
        dropped = {ids[at] for at in strict}
        for threshold in (0.8, 0.85, 0.9, 0.93, 0.95):
            near = {question_id(text) for text, cosine in zip(texts, cosines, strict=True) if cosine >= threshold}
            print(line(f"`semantic`, cosine {threshold}", "", near | dropped, pairs))


if __name__ == "__main__":
    main()
