"""Write s1kit/pool/hashes/ from the evaluation sets' questions: python runs/hash_evaluation_sets.py FOLDER

FOLDER holds bench_<name>.jsonl.gz. Only hashes of n-grams are written, so no question is republished.
"""

from __future__ import annotations

import sys
from pathlib import Path

from s1kit.pool.evaluation_sets import write_hashes
from s1kit.questions import read_questions

NAMES = {
    "aime24": "aime24",
    "aime25": "aime25",
    "amc23": "amc23",
    "gsm8k": "gsm8k_test",
    "hmmt24-25": "hmmt_etc_24_25",
    "math500": "math500",
    "minerva": "minerva",
    "olympiadbench": "olympiadbench_math_en",
}


def main(folder: Path) -> None:
    out = Path(__file__).parents[1] / "s1kit" / "pool" / "hashes"
    out.mkdir(exist_ok=True)
    for name, stem in NAMES.items():
        texts = [q.text for q in read_questions(str(folder / f"bench_{stem}.jsonl.gz"))]
        write_hashes(out / f"{name}.parquet", name, texts)
        print(f"{name}: {len(texts)} questions, {(out / f'{name}.parquet').stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
