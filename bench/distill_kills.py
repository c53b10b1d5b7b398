"""What `kill -9` loses of a distillation: how old the oldest reply was that had to be bought again.

    python bench/distill_kills.py                      # 60 kills over 1,500 questions, 8 to 64 in flight

The server is a process of its own and notes when each reply was handed to the network, and when its connection was
opened. A life of the client is a fork of this process, killed at a random moment; a last one finishes. A reply belongs
to the life that opened its connection: one that the server sent to a client that was dead already was not lost by it.
The tables are compared with an undisturbed run's.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from distill_throughput import TestServer, make_run, recipe_json

from s1kit.distill.distill import distill
from s1kit.progress import quieted
from s1kit.recipe import Recipe
from s1kit.stage import open_run


def live(recipe: Recipe) -> int:
    """Start a life of the client; its process id."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        with quieted(True):
            distill(recipe, open_run(recipe.folder, "r", {}))
        status = 0
    finally:
        os._exit(status)


def answered(ledger: Path) -> list[tuple[float, float, str]]:
    """When the connection of each answered question was opened, when its reply was sent, and the question."""
    lines = (line.split(" ", 2) for line in ledger.read_text().splitlines() if line)
    return [(float(opened), float(sent), question) for opened, sent, question in lines]


def ages_of_lost(ledger: Path, kills: list[float]) -> list[float]:
    """Seconds between a reply's sending and the kill of the life that asked, of replies asked for again later."""
    seen: dict[str, tuple[float, float]] = {}
    ages = []
    for opened, sent, question in answered(ledger):
        if question in seen:
            life, moment = seen[question]
            killed = next(kill for kill in kills if kill > life)
            if killed > moment:
                ages.append(killed - moment)
        seen[question] = opened, sent
    return sorted(ages)


def tables(recipe: Recipe) -> list[bytes]:
    return [path.read_bytes() for path in sorted((recipe.folder / "distill").glob("traces*.parquet"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=1500)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--ms", type=float, default=50.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    dice = random.Random(given.seed)
    print(f"{given.kills} kills, {given.num} questions, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="s1kit-bench-") as scratch:
        ledger = Path(scratch) / "ledger"
        server = TestServer("--ms", str(given.ms), "--ledger", str(ledger))
        kills: list[float] = []
        try:
            # In this process, so that its forks have everything imported: a life is short.
            make_run(Path(scratch) / "whole", given.num)
            whole = Recipe.model_validate_json(recipe_json(Path(scratch) / "whole", server.url))
            with quieted(True):
                distill(whole, open_run(whole.folder, "r", {}))
            ledger.write_text("")
            make_run(Path(scratch) / "killed", given.num)
            while len(kills) < given.kills:
                text = recipe_json(Path(scratch) / "killed", server.url, concurrency=dice.choice([8, 16, 32, 64]))
                recipe, before = Recipe.model_validate_json(text), len(answered(ledger)) if ledger.exists() else 0
                pid, share = live(recipe), dice.uniform(0, given.num / (given.kills + 1))
                while (len(answered(ledger)) if ledger.exists() else 0) - before < share:
                    if os.waitpid(pid, os.WNOHANG)[0]:
                        sys.exit("a life ended before it was killed: give more questions a kill")
                    time.sleep(0.005)
                time.sleep(dice.uniform(0, 0.05))
                os.kill(pid, signal.SIGKILL)
                kills.append(time.monotonic())
                os.waitpid(pid, 0)
            os.waitpid(live(recipe), 0)
            ages = ages_of_lost(ledger, kills)
            late = sum(age > 0.1 for age in ages)
            print(f"answered and sent again: {len(ages)} of {given.num}, {len(ages) / given.kills:.1f} a kill")
            print(
                f"  age at the kill: median {middle(ages) * 1000:.0f} ms, largest {max(ages, default=0) * 1000:.0f} ms"
            )
            print(f"  older than 100 ms: {late}")
            print(f"tables equal to an undisturbed run's: {tables(recipe) == tables(whole)}")
        finally:
            server.stop()


def middle(ages: list[float]) -> float:
    return ages[len(ages) // 2] if ages else 0.0


if __name__ == "__main__":
    main()
