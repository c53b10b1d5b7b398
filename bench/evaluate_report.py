"""How long the report of a large run takes: 500 questions x 10 settings x 16 repeats, 80,000 generations.

    python bench/evaluate_report.py [--questions 500] [--settings 10] [--repeats 16] [--tokens 800]

Prints seconds for reading and reporting, and the peak memory of the process. The rows are made first, a shard for each
chunk of questions as an evaluation writes them, with thinking of `--tokens` tokens on average.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from pathlib import Path

from s1kit.recipe import Recipe
from s1kit.records import Generation, Question, Segment, Setting
from s1kit.report.report import report
from s1kit.stage import open_run

MANY_IDS = tuple(random.Random(0).choices(range(150_000), k=1 << 17))


def generation(question: Question, setting: Setting, repeat: int, tokens: int, dice: random.Random) -> Generation:
    num = max(1, min(int(dice.expovariate(1 / tokens)), setting.max_tokens or 10**9))
    start = dice.randrange(len(MANY_IDS) - num)
    ids = MANY_IDS[start : start + num]
    right = dice.random() < min(0.9, 0.1 * len(f"{num:b}"))
    answer = "7" if right else str(dice.randrange(100))
    return Generation(
        question_id=question.id,
        setting=setting,
        repeat=repeat,
        segments=(
            Segment.of_ids("sampled", "thinking", " word" * num, ids),
            Segment.of_ids("forced", "close", "<|im_start|>answer\n", (1, 2)),
            Segment.of_ids("sampled", "answer", f" {answer}", (3,)),
        ),
        ending="closed",
        verdict="correct" if right else "wrong",
        final_answer=answer,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--settings", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=800)
    given = parser.parse_args()
    budgets = [64 * 2**i for i in range(given.settings - 5)]
    settings = [Setting(max_tokens=b, temperature=0.6) for b in budgets]
    settings += [Setting(max_tokens=budgets[-1], num_waits=w, temperature=0.6) for w in (1, 2, 4, 6)]
    settings += [Setting(max_tokens=budgets[-1], temperature=1.0)]
    dice = random.Random(0)
    questions = [Question(text=f"Question {i}?", solution="7", source=f"set {i % 3}") for i in range(given.questions)]
    with tempfile.TemporaryDirectory() as folder:
        recipe = Recipe.model_validate({"name": "large", "out": folder, "evaluate": {"votes": [1, 2, 4, 8, 16]}})
        run = open_run(recipe.folder, recipe.name, recipe.model_dump(mode="json"))
        stage = run.open("evaluate", config={}, seed=0)
        stage.write("questions", Question, questions)
        for start in range(0, len(questions), 10):
            rows = [
                generation(q, s, r, given.tokens, dice)
                for q in questions[start : start + 10]
                for s in settings
                for r in range(given.repeats)
            ]
            stage.write("generations", Generation, rows)
        stage.finish()
        size = sum(p.stat().st_size for p in stage.shards("generations")) / 2**20
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        wall, cpu = time.monotonic(), time.process_time()
        report(recipe, run)
        seconds, busy = time.monotonic() - wall, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        page = (Path(recipe.folder) / "report" / "report.html").stat().st_size / 2**20
    total = given.questions * len(settings) * given.repeats
    print(f"{total:,} generations, {size:,.0f} MiB on disk: report in {seconds:.1f} s ({busy:.1f} s of CPU),")
    print(f"peak memory {peak:,.0f} MiB ({before:,.0f} MiB after making the rows), page {page:.1f} MiB")


if __name__ == "__main__":
    main()
