"""Every preset's draw of 1,000 from 59,029 candidates: seconds, and a hash of the ids to compare between machines."""

from __future__ import annotations

import hashlib
import platform
import time
from random import Random

from s1kit.curate.selection import SELECTORS, Candidate
from s1kit.records import question_id

NUM = 59_029


def main() -> None:
    sources = ("NuminaMath", "MATH", "AIME", "GPQA", "OmniMath")
    candidates = [
        Candidate(
            n, question_id(str(n)), sources[n % 5], f"domain {n * 7 % 50}", n * 7919 % 30000, 0, n % 97 == 0, n % 100
        )
        for n in range(NUM)
    ]
    print(f"1,000 of {NUM:,}, Python {platform.python_version()}, {platform.machine()}")
    for name, select in SELECTORS.items():
        start = time.perf_counter()
        picks = select(candidates, 1000, Random("0:selection"))
        seconds = time.perf_counter() - start
        ids = ",".join(candidates[pick.candidate].question_id for pick in picks)
        print(f"{name:18} {len(picks):>6,} in {seconds:5.2f} s  sha256 {hashlib.sha256(ids.encode()).hexdigest()[:12]}")


if __name__ == "__main__":
    main()
