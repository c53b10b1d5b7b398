"""A greedy step of `hf:` beside one of transformers' continuous batching: python bench/continuous_batching.py

The same tiny model with random weights, on one thread of a CPU: CPU milliseconds and Python calls of a step, the pass
through the model included. Taken between runs of two lengths, so that starting costs nothing.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable

import torch
from forced_decoding import random_side
from transformers import ContinuousBatchingConfig, GenerationConfig

from s1kit import Request, ThinkingBudget

STEPS = 16


def cpu_ms(work: Callable[[int], object]) -> float:
    spent = []
    for steps in (STEPS, 2 * STEPS):
        began = time.process_time()
        work(steps)
        spent.append(time.process_time() - began)
    return 1e3 * (spent[1] - spent[0]) / STEPS


def calls(work: Callable[[int], object]) -> float:
    counts = []
    for steps in (STEPS, 2 * STEPS):
        seen = 0

        def see(_frame: object, event: str, _: object) -> None:
            nonlocal seen
            seen += event == "call"

        threading.setprofile(see)
        sys.setprofile(see)
        try:
            work(steps)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
        counts.append(seen)
    return (counts[1] - counts[0]) / STEPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1,16,64")
    given = parser.parse_args()
    torch.set_num_threads(1)
    side = random_side(argparse.Namespace(shape="tiny", stop_every=1e6))
    model = side.forcing.model
    request = Request(question="x", budget=ThinkingBudget(24), answer_tokens=8)
    prompt = side.forcing.plan(request).prompt_ids
    # Left to itself it takes memory for millions of tokens on a CPU, which alone takes minutes.
    few = ContinuousBatchingConfig(num_blocks=80, max_batch_tokens=256)
    for rows in map(int, given.rows.split(",")):
        prompts = [[*prompt, 5 + i] for i in range(rows)]

        def ours(steps: int) -> None:
            side.plain(prompts, [steps] * len(prompts), request)  # noqa: B023

        def theirs(steps: int) -> None:
            until = GenerationConfig(max_new_tokens=steps, do_sample=False, eos_token_id=-1, pad_token_id=0)
            options = {"generation_config": until, "continuous_batching_config": few, "warmup": False}
            found = model.generate_batch(prompts, **options).values()  # noqa: B023
            assert sum(len(o.generated_tokens) for o in found) == steps * len(prompts)  # noqa: B023

        for name, work, attends in (("hf:", ours, "sdpa"), ("continuous batching", theirs, "paged|sdpa")):
            model.set_attn_implementation(attends)
            work(4)
            print(f"{rows:3} rows, {name:20} {cpu_ms(work):7.2f} CPU ms, {calls(work):6.0f} calls a step", flush=True)


if __name__ == "__main__":
    main()
