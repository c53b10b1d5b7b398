"""Your own questions, from a spreadsheet to a report on the tiny model: python examples/own_questions.py [FOLDER]

Writes a CSV as Excel does (`;` between cells, a byte order mark) and a recipe beside it, and runs that. With a real
base, a real teacher and your own file, the recipe is the same.
"""

import csv
import subprocess
import sys
from pathlib import Path

from s1kit.tiny.questions import tiny_questions

RECIPE = """
name = "spreadsheet"
description = "Questions from a spreadsheet; tiny base and teacher stand in for real ones."

[collect]
sources = [{ path = "questions.csv" }]
decontaminate = "strict"
against = ["tiny"]

[distill]
teacher = "tiny"

[curate]
num = 60

[train]
base = "tiny-base"
dtype = "float32"
learning_rate = 5e-4
batch_size = 8
epochs = 1
max_length = 512
micro_batch_tokens = 8192

[evaluate]
benchmarks = ["tiny"]
num_questions = 20
max_tokens = [0, 64, 192]
num_waits = [0, 1]
answer_tokens = 16
"""


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "own-questions")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "questions.csv").open("w", encoding="utf-8-sig", newline="") as file:
        rows = csv.writer(file, delimiter=";")
        rows.writerow(["Question", "Answer"])
        rows.writerows([q.text, q.solution] for q in tiny_questions(150, seed=7))
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    for command in (["check"], ["estimate"], ["run"]):
        done = subprocess.run([sys.executable, "-m", "s1kit", *command, "recipe.toml"], cwd=folder, check=False)
        if done.returncode:
            return done.returncode
    print(f"the report: {folder / 'runs' / 'spreadsheet' / 'report' / 'report.html'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
