"""Which recorded texts the loop guard would have ended, and what it costs a token.

    python bench/loop_guard.py --tokenizer FOLDER FILE...

Every text of at least 2,000 characters in the JSONL files (also .gz), wherever it stands in a row, is looked at as the
drivers look: every 32 tokens. Prints where each one is ended, so that a person can say whether it loops there.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from s1kit.forcing.repetition import CHECK_EVERY, first_loop
from s1kit.forcing.token_format import IdKinds

MIN_CHARACTERS = 2000


def texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str) and len(value) >= MIN_CHARACTERS:
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from texts_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts_in(each)


def texts_of(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        for line in lines:
            yield from texts_in(json.loads(line))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True, help="a folder with a tokenizer, e.g. of the model of the traces")
    parser.add_argument("files", nargs="+", type=Path)
    given = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(given.tokenizer, local_files_only=True)
    kinds = IdKinds(tokenizer)
    num_texts = num_tokens = 0
    num_ended = {"repeats": 0, "and counters": 0}
    seconds = {"repeats": 0.0, "and counters": 0.0}
    for path in given.files:
        for text in texts_of(path):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            num_texts, num_tokens = num_texts + 1, num_tokens + len(ids)
            began = time.process_time()
            repeats_at = first_loop(ids, 0, 0)
            seconds["repeats"] += time.process_time() - began
            began = time.process_time()
            at = first_loop(ids, 0, 0, kinds)
            seconds["and counters"] += time.process_time() - began
            if at is None:
                continue
            kind = "repeats" if at == repeats_at else "and counters"
            num_ended[kind] += 1
            end = tokenizer.decode(ids[:at])
            print(f"{path.name}: {kind}: ended at token {at} of {len(ids)}: ...{end[-160:]!r}")
    print(f"{num_texts} texts, {num_tokens} tokens; ended: {num_ended}")
    for name, spent in seconds.items():
        each = spent / max(num_tokens, 1) * CHECK_EVERY * 1e6
        print(f"{name}: {each:.0f} CPU microseconds a look, one each {CHECK_EVERY} tokens")


if __name__ == "__main__":
    main()
