"""Grading thousands of answers of real length beside math-verify called in one process; and expressions that never end.

    python bench/grading.py DATA [--num 5000]     # DATA holds the files of POOLS
    python bench/grading.py --endless             # expressions that never end, each against three references

An answer is a published worked solution. Every second one is set against another question's reference, of about the
same length, so that most of those are wrong. math-verify is called as its README says, the reference between dollars.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import Counter
from pathlib import Path
from random import Random

from s1kit.grade import Case
from s1kit.grade.cascade import Cascade

POOLS = ("pool_math_test_minus500", "pool_aime_1983_2023", "bench_olympiadbench_math_en")

PATHOLOGICAL = {
    "9^{9^{9^9}}": r"9^{9^{9^9}}",
    "100000!": r"100000!",
    "10,000 nested parentheses": "(" * 10000 + "x" + ")" * 10000,
    "10,000 unclosed boxes": r"\boxed{" * 10000,
    "1 MB of digits": "7" * 1_000_000,
    "a tower of roots": r"\sqrt{" * 200 + "2" + "}" * 200,
    "a huge integral": r"\int_0^{\infty} x^{x^{x^{x}}} e^{-x^{x^2}} \sin^{100000}(x) dx",
    "a polynomial of degree 100,000": r"(x+1)^{100000} - (x-1)^{100000}",
}
"""Set against 7 and against x/7, and as the reference of 7."""


def pairs(data: Path, num: int) -> list[tuple[str, str]]:
    """Answer and reference."""
    rows = []
    for name in POOLS:
        with gzip.open(data / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            rows += [row for row in map(json.loads, file) if len(row.get("solution", "")) > 80]
    rows.sort(key=lambda row: (len(row["answer"]), row["id"]))
    found = [(row["solution"], rows[n - n % 2]["answer"]) for n, row in enumerate(rows)]
    return Random(0).sample(found, min(num, len(found)))


def by_math_verify(given: list[tuple[str, str]]) -> list[str]:
    from math_verify import parse, verify

    verdicts = []
    for answer, reference in given:
        gold = parse(reference if "$" in reference else f"${reference}$")
        verdicts.append("correct" if verify(gold, parse(answer)) else "wrong")
    return verdicts


def compare(cases: list[tuple[str, str]]) -> None:
    mean = sum(len(answer) for answer, _ in cases) / len(cases)
    print(f"{len(cases):,} answers, {mean:.0f} characters on average")
    start = time.perf_counter()
    grader = Cascade(processes=2)
    mine = [judged.verdict for judged in grader.grade([Case(*pair) for pair in cases])]
    ours = time.perf_counter() - start
    print(f"s1kit, two processes, their start included: {ours:.1f} s, {dict(Counter(mine))}", flush=True)
    start = time.perf_counter()
    peers = by_math_verify(cases)
    theirs = time.perf_counter() - start
    print(
        f"math-verify, one process: {theirs:.1f} s, {dict(Counter(peers))}: s1kit is {theirs / ours:.1f} times faster"
    )
    print("s1kit and math-verify:", dict(Counter(zip(mine, peers, strict=True))))


def endless() -> None:
    grader = Cascade(processes=2)
    grader(r"\boxed{\frac{x}{2}}", r"\frac{y}{2}")  # the workers' start is not what is measured
    slowest = 0.0
    for name, text in PATHOLOGICAL.items():
        for pair in ((f"\\boxed{{{text}}}", "7"), (f"\\boxed{{{text}}}", r"\frac{x}{7}"), ("7", text)):
            start = time.perf_counter()
            judged = grader(*pair)
            seconds = time.perf_counter() - start
            slowest = max(slowest, seconds)
            print(f"{name:32} {seconds:5.2f} s  {judged.verdict:8} {judged.evidence[:60]}", flush=True)
    print(f"slowest: {slowest:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--num", type=int, default=5000)
    parser.add_argument("--endless", action="store_true")
    given = parser.parse_args()
    if given.endless:
        endless()
    elif given.data is None:
        parser.error("give DATA, or --endless")
    else:
        compare(pairs(given.data, given.num))


if __name__ == "__main__":
    main()
