"""Drawing the next token: among a top-k's few candidates, by sorting, and from all: python bench/drawing.py

Logits as coarse as bfloat16's over Qwen's vocabulary, and Qwen's own settings (temperature 0.7, top-k 20, top-p 0.8).
Both ways draw the same tokens; the time is the process's on one thread, the least of several turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch

from s1kit.engines.hf.sampling import Cut, Knobs, draw, logprobs

VOCABULARY, TURNS = 151_936, 5


def cost(work: Callable[[], object]) -> float:
    """CPU milliseconds."""
    found = []
    for _ in range(TURNS):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found) * 1000


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for rows in (1, 36, 64):
        logits = (torch.randn(rows, VOCABULARY) * 3).bfloat16()
        knobs = Knobs(
            torch.full((rows,), 0.7),
            torch.full((rows,), 20),
            torch.full((rows,), 0.8),
            torch.rand(rows, dtype=torch.double),
        )
        assert torch.equal(draw(logits, knobs, Cut.FEW), draw(logits, knobs, Cut.ANY))
        few, by_sorting, of_all = (cost(partial(draw, logits, knobs, cut)) for cut in (Cut.FEW, Cut.ANY, Cut.NONE))
        measured = cost(partial(logprobs, logits, draw(logits, knobs, Cut.NONE)))
        print(f"{rows:3} rows: {few:7.1f} ms, sorting {by_sorting:7.1f} ms: {by_sorting / few:.1f} times faster")
        print(f"          no top-k {of_all:.1f} ms, log-probabilities {measured:.1f} ms")


if __name__ == "__main__":
    main()
