"""The tiers of decontamination side by side on real questions: counts, and examples with their evidence.

    python bench/tiers.py DATA MODEL OUT [--similarity 0.9]

DATA holds pool_*.jsonl.gz and bench_{math500,aime24,aime25}.jsonl.gz, MODEL a folder of a sentence model. OUT gets a
run of `collect` for each tier with its own page, and tiers.html. Its examples are MATH beside MATH500, both MIT; the
contests' texts are not ours to publish.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from s1kit.html import environment, write_page
from s1kit.pool.collect import collect
from s1kit.questions import read_questions
from s1kit.recipe import Recipe
from s1kit.records import Dropped, question_id
from s1kit.stage import open_run

SETS = ("math500", "aime24", "aime25")
EXAMPLES = 10
SHOWN = 160
"""Characters of an evaluation question that the page repeats: enough to compare, not enough to learn a test from."""


PAGE = """{% extends "layout.jinja" %}{% import "macros.jinja" as m %}
{% block title %}Three tiers of decontamination{% endblock %}
{% block main %}{{ m.head("s1kit", "Three tiers of decontamination", lead) }}
<section><h2>Counts</h2>{{ m.table(columns, counts) }}</section>
<p>Tier semantic: cosine of at least {{ similarity }}; nobody judged the pairs.</p>
{% for name, examples in sections %}
<section><h2>{{ name }}</h2>{% for example in examples %}{{ m.details(*example) }}{% endfor %}</section>
{% endfor %}{% endblock %}"""


class Found(NamedTuple):
    """A question of the pool that a tier names, and the evaluation question it is named for."""

    id: str
    source: str
    text: str
    set_name: str
    evidence: str
    question: str


def run_tier(tier: str, data: Path, model: str, out: Path, similarity: float) -> tuple[list[Found], dict[str, Any]]:
    questions = {question_id(q.text): q.text for s in SETS for q in read_questions(str(data / f"bench_{s}.jsonl.gz"))}
    config: dict[str, Any] = {
        "sources": [{"path": str(data / "pool_*.jsonl.gz")}],
        "duplicates": "none",
        "decontaminate": tier,
        "against": [str(data / f"bench_{s}.jsonl.gz") for s in SETS],
    }
    if tier == "semantic":
        config["semantic"] = {"model": model, "similarity": similarity, "unjudged_similarity": 1.0}
    recipe = Recipe.model_validate({"name": tier, "out": str(out), "collect": config})
    run = open_run(recipe.folder, recipe.name, recipe.model_dump(mode="json"))
    start = time.process_time()
    stage = collect(recipe, run)
    seconds = time.process_time() - start
    found = []
    for drop in run.rows("collect", "dropped", Dropped):
        row = json.loads(drop.row)
        there = next(word.rstrip(",") for word in drop.evidence.split() if word.rstrip(",") in questions)
        set_name = drop.reason.partition(":")[2].removeprefix("bench_")
        found.append(Found(drop.id, row["source"], row["text"], set_name, drop.evidence, questions[there]))
    if tier == "semantic":
        found = candidates(stage.folder / "candidates.jsonl", data)
    figures = {"seconds": seconds, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    return found, figures


def candidates(path: Path, data: Path) -> list[Found]:
    """What tier `semantic` adds to `strict`: for each question its nearest evaluation question."""
    sources = {q.text: q.source for q in read_questions(str(data / "pool_*.jsonl.gz"))}
    nearest: dict[str, Found] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        pair = json.loads(line)
        text, name = pair["text"], pair["set_name"].removeprefix("bench_")
        evidence = f"similarity {pair['similarity']:.3f}"
        one = Found(question_id(text), sources[text], text, name, evidence, pair["question"])
        nearest.setdefault(one.id, one)
    return list(nearest.values())


def publishable(found: list[Found]) -> list[Found]:
    return [f for f in found if f.set_name == "math500" and f.source.startswith("MATH") and "[asy]" not in f.text]


def cut(text: str) -> str:
    text = " ".join(text.split()).replace("`", "'")
    return text if len(text) <= SHOWN else text[:SHOWN] + " ..."


def why(found: Found) -> str:
    """The evidence without the ids: the share of n-grams and the words shared, or the similarity."""
    return found.evidence.partition(", ")[2] or found.evidence


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--similarity", type=float, default=0.9)
    given = parser.parse_args()
    results = {}
    for tier in ("s1", "strict", "template", "semantic"):
        results[tier], figures = run_tier(tier, given.data, given.model, given.out, given.similarity)
        print(f"{tier}: {len(results[tier]):,} questions, {figures['seconds']:.0f} CPU s, {figures['mib']:.0f} MiB")
    ids = {tier: {f.id for f in found} for tier, found in results.items()}
    counts = [
        (
            tier,
            len(found),
            *(Counter(f.set_name for f in found)[s] for s in SETS),
            *(len(ids[tier] & ids[t]) for t in ids),
        )
        for tier, found in results.items()
    ]
    columns = ["tier", "questions", *SETS, *(f"also in {tier}" for tier in ids)]
    sections = []
    for row in [columns, *counts]:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    chosen = {
        "s1, not strict": [f for f in results["s1"] if f.id not in ids["strict"]],
        "strict": results["strict"],
        "template, not strict": [f for f in results["template"] if f.id not in ids["strict"]],
        "semantic, not strict": results["semantic"],
    }
    lines = []
    for name, found in chosen.items():
        shown = Random(0).sample(publishable(found), min(EXAMPLES, len(publishable(found))))
        body = [(f"{f.source}: {f.evidence}", f"{f.text}\n\n--- {f.set_name}:\n\n{cut(f.question)}") for f in shown]
        sections.append((f"{name}: {len(shown)} of {len(found):,}", body))
        lines += [f"\n*{name}*: {len(shown)} of {len(found):,}\n"]
        lines += [f"- `{cut(f.text)}`  \n  `{cut(f.question)}` ({why(f)})" for f in shown]
    (given.out / "examples.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    lead = (
        "Real questions against MATH500, AIME 2024 and AIME 2025. Examples are MATH beside MATH500, drawn with seed 0."
    )
    html = (
        environment("s1kit.pool")
        .from_string(PAGE)
        .render(lead=lead, columns=columns, counts=counts, similarity=given.similarity, sections=sections)
    )
    write_page(given.out / "tiers.html", html)


if __name__ == "__main__":
    main()
