"""Drawing the next token among a top-k's few candidates, against sorting the vocabulary: python bench/drawing.py

Logits as coarse as bfloat16's over Qwen's vocabulary, and Qwen's own settings (temperature 0.7, top-k 20, top-p 0.8).
Both ways draw the same tokens; the time is the process's on one thread, the least of several turns.
"""

from __future__ import annotations

import time

import torch

from s1kit.engines.hf.sampling import Cut, Knobs, draw

VOCABULARY, TURNS = 151_936, 5


def cost(logits: torch.Tensor, knobs: Knobs, cut: Cut) -> float:
    """CPU milliseconds of a draw for all rows."""
    found = []
    for _ in range(TURNS):
        began = time.process_time()
        draw(logits, knobs, cut)
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
        few, sorted_ = cost(logits, knobs, Cut.FEW), cost(logits, knobs, Cut.ANY)
        print(f"{rows:3} rows: {few:7.1f} ms, sorting {sorted_:7.1f} ms: {sorted_ / few:.1f} times faster")


if __name__ == "__main__":
    main()
