"""Drawing the next token: among a top-k's few candidates, under a top-p alone, and from all: python bench/drawing.py

Logits as coarse as bfloat16's over Qwen's vocabulary, falling with the logarithm of the rank as those of words do, at
temperature 0.7 with Qwen's own cut (top-k 20, top-p 0.8) or R1's (top-p 0.95); and the same by sorting the vocabulary.
Both draw the same tokens; the time is the process's on one thread, the least of several turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch

from s1kit.engines.hf import sampling
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


def sorting(logits: torch.Tensor, knobs: Knobs) -> torch.Tensor:
    """`draw` by sorting the vocabulary, one row after another."""
    drawn = []
    for row in range(len(logits)):
        scaled = logits[[row]].float()
        scaled = (scaled - scaled.amax()) / knobs.temperature[row]
        kept = sampling._leave_out(scaled, torch.zeros(1, 1), knobs.of(torch.tensor([row])))
        drawn.append(sampling._pick(kept, knobs.of(torch.tensor([row])))[:, 0])
    return torch.cat(drawn)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for rows in (1, 36, 64):
        ranks = torch.stack([torch.randperm(VOCABULARY) for _ in range(rows)]) + 1
        logits = (-1.5 * ranks.log()).bfloat16()

        def knobs(top_k: int, top_p: float, rows: int = rows) -> Knobs:
            uniform = torch.rand(rows, dtype=torch.double)
            return Knobs(torch.full((rows,), 0.7), torch.full((rows,), top_k), torch.full((rows,), top_p), uniform)

        of_all = cost(partial(draw, logits, knobs(0, 1.0), Cut.NONE))
        measured = cost(partial(logprobs, logits, draw(logits, knobs(0, 1.0), Cut.NONE)))
        print(f"{rows:3} rows, CPU ms: no cut {of_all:.1f}, log-probabilities {measured:.1f}")
        for name, given, cut in (
            ("top-k 20, top-p 0.8", knobs(20, 0.8), Cut.FEW),
            ("top-p 0.95", knobs(0, 0.95), Cut.ANY),
        ):
            assert torch.equal(draw(logits, given, cut), sorting(logits, given))
            ours, by_sorting = cost(partial(draw, logits, given, cut)), cost(partial(sorting, logits, given))
            print(f"          {name}: {ours:.1f}, by sorting {by_sorting:.1f}: {by_sorting / ours:.1f} times faster")


if __name__ == "__main__":
    main()
