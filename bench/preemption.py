"""Requests without a budget, and too little memory for all of them: python bench/preemption.py MODEL [options]

Decodes the same requests with `--memory` MB for keys and values and with memory for all, and says how many ran at once,
how often one was preempted, what it took, and how many transcripts are equal. Preempted requests are computed again
in another batch, which moves the last bits of the logits: at a tie transcripts may part. `--once`: no second run.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from s1kit import Generation, Request, ThinkingBudget, load_engine

QUESTIONS = (
    "What is {} + 30?",
    "Tom has {} bags with 4 apples each and eats 2. How many are left?",
    "Is {} a prime number? Explain.",
    "Write {} in words, then in Roman numerals.",
)


def decode(engine: Any, asked: Sequence[Request]) -> tuple[dict[int, Generation], str]:
    batch = engine.batch_for([engine.plan(request) for request in asked])
    tickets = {batch.admit(engine.plan(request)): request.repeat for request in asked}
    found: dict[int, Generation] = {}
    most_rows = num_steps = most_cache = 0
    started = time.process_time()
    while not batch.is_idle:
        events = batch.step()
        num_steps += 1
        most_rows = max(most_rows, batch.num_running)
        rows, positions = batch._passes.slots.capacity
        most_cache = max(most_cache, rows * positions)
        found.update({tickets[e.ticket]: e.generation for e in events if e.generation is not None})
    cache = most_cache * engine.token_bytes / 1e6
    tokens = sum(s.num_tokens for g in found.values() for s in g.segments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return found, (
        f"{most_rows} of {len(asked)} at once, {batch.num_preemptions} preemptions, cache at most {cache:,.0f} MB, "
        f"{tokens:,} tokens in {num_steps:,} steps, {time.process_time() - started:,.0f} CPU s, "
        f"peak of the process so far {peak:.2f} GiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a reference such as hf:model.gguf")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--context", type=int, default=256, help="tokens of the context")
    parser.add_argument("--memory", type=float, default=100, help="MB for keys and values in the second run")
    parser.add_argument("--answer", type=int, default=32)
    parser.add_argument("--waits", type=int, default=0, help="stops to replace, so that thinking fills the context")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--once", action="store_true")
    given = parser.parse_args()
    engine: Any = load_engine(given.model, context_tokens=given.context)
    asked = [
        Request(
            QUESTIONS[i % 4].format(7 * i),
            budget=ThinkingBudget(given.context, 0, given.waits) if given.waits else None,
            answer_tokens=given.answer,
            temperature=given.temperature,
            seed=i,
            repeat=i,
        )
        for i in range(given.requests)
    ]
    little, said = decode(replace(engine, memory_bytes=int(given.memory * 1e6)), asked)
    print(f"{given.memory:g} MB: {said}; {sum(g.ending == 'failed' for g in little.values())} failed", flush=True)
    if given.once:
        return
    plenty, said = decode(engine, asked)
    print(f"memory for all: {said}")
    same = sum(little[i].segments == plenty[i].segments for i in plenty)
    print(f"{same} of {len(asked)} transcripts are equal")


if __name__ == "__main__":
    main()
