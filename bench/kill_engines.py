"""Kills engines and the command itself, again and again, and counts what is lost and what is decoded twice.

    python bench/kill_engines.py [ROUNDS]

An evaluation of scripted answers over a local Ray of four actors. In each round one actor is killed (SIGKILL) after
some shards are written, then the command. At the end it runs undisturbed. The grader notes each answer, so what
was decoded twice is counted; it may be what was under way at a kill, a shard an engine. The rows are compared with
those of one process.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

QUESTIONS, SHARD, ENGINES = 400, 5, 4
GRADER = """
import os, time
def slow(answer, solution, kind, question):
    with open(os.environ["S1KIT_NOTES"], "a") as file:
        file.write(question + "\\n")
    time.sleep(0.04)
    return answer.strip().endswith(solution)
"""


def command(folder: Path, name: str, *overrides: str) -> list[str]:
    given = [f"name={name}", *overrides]
    return [sys.executable, "-m", "s1kit", "evaluate", "--quiet", str(folder / "recipe.toml"), *given]


def shards(folder: Path, name: str) -> dict[str, bytes]:
    found = sorted((folder / name / "evaluate").glob("generations-*.parquet"))
    return {path.name: path.read_bytes() for path in found}


def actors(folder: Path) -> list[int]:
    """The processes of Ray whose current folder is ours."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray::" in (path / "cmdline").read_bytes() and (path / "cwd").resolve() == folder:
                found.append(int(path.name))
        except OSError:
            continue
    return found


def wait_for(folder: Path, num: int, process: subprocess.Popen[bytes]) -> bool:
    while process.poll() is None:
        if len(shards(folder, "killed")) >= num:
            return True
        time.sleep(0.02)
    return False


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    folder = Path(tempfile.mkdtemp(prefix="kill")).resolve()
    os.chdir(folder)
    (folder / "notes_grader.py").write_text(GRADER)
    script = {f"What is {n} and one?": [["let me see .", str(n + 1)]] for n in range(QUESTIONS)}
    (folder / "script.json").write_text(json.dumps(script))
    rows = [{"question": q, "answer": str(n + 1)} for n, q in enumerate(script)]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.toml").write_text(
        f'name = "x"\nout = "{folder}"\nstages = ["evaluate"]\n[evaluate]\nmodel = "scripted:script.json"\n'
        f'benchmarks = ["questions.jsonl"]\nmax_tokens = [8]\nanswer_tokens = 8\nbatch_size = {SHARD}\n'
        'grader = "notes_grader:slow"\n'
    )
    environ = os.environ | {
        "S1KIT_NOTES": str(folder / "one.txt"),
        "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{folder}",
    }
    subprocess.run(command(folder, "one"), check=True, env=environ)
    environ["S1KIT_NOTES"] = str(folder / "notes.txt")
    ray = ("evaluate.executor=ray", f"evaluate.num_engines={ENGINES}")
    draw, killed, changed = random.Random(0), [0, 0], 0
    for number in range(rounds):
        there = len(shards(folder, "killed"))
        process = subprocess.Popen(command(folder, "killed", *ray), env=environ, stderr=subprocess.DEVNULL)
        if wait_for(folder, there + 1, process):
            time.sleep(draw.random() * 0.2)
            if pids := actors(folder):
                os.kill(draw.choice(pids), signal.SIGKILL)
                killed[0] += 1
        before = shards(folder, "killed")
        if wait_for(folder, len(before) + 1, process):
            process.kill()
            killed[1] += 1
        process.wait()
        after = shards(folder, "killed")
        changed += any(after[name] != data for name, data in before.items())
        print(f"round {number + 1}: {len(after)} of {QUESTIONS // SHARD} shards", flush=True)
    subprocess.run(command(folder, "killed", *ray), check=True, env=environ)
    one, many = shards(folder, "one"), shards(folder, "killed")
    graded = Counter((folder / "notes.txt").read_text().splitlines())
    twice = sum(graded.values()) - QUESTIONS
    bound = (killed[0] + killed[1] * ENGINES) * SHARD
    print(f"{killed[0]} actors and {killed[1]} commands killed; shards changed afterwards in {changed} rounds")
    print(
        f"questions lost: {QUESTIONS - len(graded)}; decoded again: {twice} (under way at the kills: at most {bound})"
    )
    print(f"same rows as one process: {normal(one) == normal(many)}")
    time.sleep(5)
    print(f"actors left: {len(actors(folder))}")


def normal(found: dict[str, bytes]) -> list[dict[str, object]]:
    """The rows without token ids, which a scripted engine numbers as it meets words."""
    import io

    import pyarrow.parquet as pq

    rows = [row for data in found.values() for row in pq.read_table(io.BytesIO(data)).to_pylist()]
    for row in rows:
        for segment in row["segments"]:
            segment["token_ids"] = None
    return rows


if __name__ == "__main__":
    main()
