"""Generations that somebody else made, as a report: python examples/logs_to_report.py [FOLDER]

Writes a JSONL file a budget, as an evaluation script might, and has `s1kit report --from` draw them, without an engine.
The budget is in the files' names; question, answer and tokens are in columns of other names than ours.
"""

import json
import subprocess
import sys
from pathlib import Path
from random import Random

BUDGETS = (128, 512, 2048)


def write(folder: Path) -> list[Path]:
    """40 made-up sums: the more room to think, the more are right."""
    draw, files = Random(0), []
    for budget in BUDGETS:
        rows = []
        for number in range(40):
            right = draw.random() < {128: 0.3, 512: 0.6, 2048: 0.8}[budget]
            rows.append(
                {
                    "prompt_text": f"What is {number} + {number + 1}?",
                    "gold": str(2 * number + 1),
                    "completion": f"The answer is {2 * number + 1 if right else 2 * number}.",
                    "reasoning_len": min(budget, draw.randint(60, 1500)),
                }
            )
        files.append(folder / f"sums_{budget}.jsonl")
        files[-1].write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return files


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "logs")
    folder.mkdir(parents=True, exist_ok=True)
    files = write(folder)
    command = [sys.executable, "-m", "s1kit", "report", "--from", *map(str, files)]
    columns = ["question=prompt_text", "solution=gold", "output=completion", "thinking_tokens=reasoning_len"]
    command += [part for column in columns for part in ("--column", column)]
    command += ["--pattern", "sums_{max_tokens}", "--out", str(folder / "report")]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
