"""Mode `s1` beside the functions that the s1 release published: the same drops, time and memory.

    python bench/decontaminate.py POOL SETS PEER     # POOL, SETS: globs of files of questions
    python bench/decontaminate.py --rows 10000000    # synthetic questions, ours alone: time by rows, peak memory

PEER is the release's data/decontaminate_util.py. Each side runs in a process of its own, so that peaks are its own.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import random
import resource
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

BATCH = 128


def texts_of(pattern: str) -> list[str]:
    from s1kit.questions import read_questions

    return [q.text for q in read_questions(pattern)]


def ours(pool: list[str], sets: list[str]) -> set[int]:
    from s1kit.pool.decontaminate import OverlapIndex
    from s1kit.pool.evaluation_sets import hash_texts

    index = OverlapIndex([hash_texts("set", sets, "s1")], "s1")
    return {n + at for n in range(0, len(pool), BATCH) for at in index.find(pool[n : n + BATCH])}


def theirs(pool: list[str], sets: list[str], peer: str) -> set[int]:
    sys.modules["datasets"] = types.ModuleType("datasets")  # imported there, not used by these functions
    spec = importlib.util.spec_from_file_location("peer", peer)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    with contextlib.redirect_stdout(io.StringIO()):
        spec.loader.exec_module(module)
        train = module.build_ngram_lookup(pool, 8)
        held_out = module.build_ngram_lookup(sets, 8)
        return set(module.find_contaminated_questions(train, held_out))


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def side(name: str, pool_pattern: str, sets_pattern: str, peer: str) -> None:
    pool, sets = texts_of(pool_pattern), texts_of(sets_pattern)
    if name == "ours":
        ours(pool[:1], sets[:1])  # numpy's import and first use
    before = peak_mib()
    start = time.process_time()
    drops = ours(pool, sets) if name == "ours" else theirs(pool, sets, peer)
    seconds = time.process_time() - start
    print(json.dumps({"drops": sorted(drops), "seconds": seconds, "mib": peak_mib() - before, "rows": len(pool)}))


def compare(pool: str, sets: str, peer: str) -> None:
    results = {}
    for name in ("ours", "theirs"):
        command = [sys.executable, __file__, pool, sets, peer, "--side", name]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        results[name] = json.loads(output.strip().splitlines()[-1])
    mine, peers = results["ours"], results["theirs"]
    print(f"{mine['rows']:,} questions; dropped {len(mine['drops']):,} and {len(peers['drops']):,}; "
          f"the same rows: {mine['drops'] == peers['drops']}")  # fmt: skip
    print(f"processor seconds: s1kit {mine['seconds']:.2f}, s1's functions {peers['seconds']:.2f}: "
          f"{peers['seconds'] / mine['seconds']:.1f} times faster")  # fmt: skip
    print(f"memory beyond the texts: s1kit {mine['mib']:.0f} MiB, s1's functions {peers['mib']:.0f} MiB")


def synthetic(num_rows: int) -> None:
    from s1kit.pool.decontaminate import OverlapIndex
    from s1kit.pool.evaluation_sets import load_set

    index = OverlapIndex([load_set(name, "s1") for name in ("math500", "aime24", "aime25")], "s1")
    draw = random.Random(0)
    words = [f"word{n}" for n in range(20000)]
    # Distinct rows out of shuffled sentences: making text is not what is measured.
    stock = [" ".join(draw.choices(words, k=30)) for _ in range(5000)]
    start, done, found, looking = time.monotonic(), 0, 0, 0.0
    while done < num_rows:
        batch = [f"{stock[(done + n) % 5000]} {done + n} {stock[(done + 7 * n) % 5000]}" for n in range(BATCH)]
        before = time.process_time()
        found += len(index.find(batch))
        looking += time.process_time() - before
        done += BATCH
        if done % (BATCH * 8000) == 0:
            each = 1e6 * looking / done
            print(f"{done:>12,} rows {looking:7.1f} s {each:5.2f} us a row, {peak_mib():.0f} MiB", flush=True)
    whole = time.monotonic() - start
    print(f"{done:,} rows, {found} overlaps: {looking:.0f} s of {whole:.0f} s; peak {peak_mib():.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", help="POOL SETS PEER")
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--side", choices=("ours", "theirs"))
    given = parser.parse_args()
    if given.rows:
        synthetic(given.rows)
    elif given.side:
        side(given.side, *given.paths)
    elif len(given.paths) == 3 and Path(given.paths[2]).is_file():
        compare(*given.paths)
    else:
        parser.error("give POOL, SETS and PEER, or --rows")


if __name__ == "__main__":
    main()
