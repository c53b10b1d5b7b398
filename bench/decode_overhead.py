"""What the loop of `hf:` costs beside the model's passes, without a card: python bench/decode_overhead.py

The model is a stub whose pass is one look-up, so that everything counted is the loop's own. For 1, 64 and 256 rows, a
quiet step (one token for every row, none of which stops or fills anything) is counted in

    reads      values that the host waits for: on a card each one drains it
    uploads    values that the host sends to the device
    operations of torch: on a card a launch or more each
    calls      of Python functions within s1kit
    CPU ms     of the process

The suite holds the first, second and fourth to what they are now (tests/test_decode_overhead.py).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from types import FrameType, SimpleNamespace
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedConfig

from s1kit.engines.hf.batch import HfBatch
from s1kit.engines.scripted import WordTokenizer
from s1kit.forcing import ThinkingBudget
from s1kit.forcing.formats import FORMATS
from s1kit.forcing.plan import make_plan
from s1kit.forcing.request import Request
from s1kit.forcing.token_format import TokenFormat

READS = {"item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__", "nonzero", "unique"}
UPLOADS = {"tensor", "as_tensor", "from_numpy"}


class Stub(torch.nn.Module):
    """A causal model whose pass is a look-up; it keeps a cache of one layer as attention would."""

    def __init__(self, vocabulary: int, never: list[int]) -> None:
        super().__init__()
        self.config = PreTrainedConfig(attn_implementation="sdpa")
        self.head = torch.nn.Embedding(vocabulary, vocabulary)
        with torch.no_grad():
            self.head.weight[:, never] = -1e4
        self.device, self.dtype = torch.device("cpu"), torch.float32

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.head

    def forward(self, input_ids: torch.Tensor, past_key_values: Any, logits_to_keep: int = 0, **_: Any) -> Any:
        rows, tokens = input_ids.shape
        states = torch.zeros(rows, 1, tokens, 4)
        past_key_values.update(states, states, 0)
        return SimpleNamespace(logits=self.head(input_ids[:, -1:] if logits_to_keep else input_ids))


class CountReads(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.reads = self.uploads = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        self.reads += name in READS
        self.uploads += name in UPLOADS
        return func(*args, **(kwargs or {}))


class CountOperations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.total += 1
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Overhead:
    """Of one quiet step, on average."""

    reads: float
    uploads: float
    operations: float
    calls: float
    cpu_ms: float = 0.0


def running_batch(num_rows: int, temperature: float, **options: Any) -> HfBatch:
    """So many rows in the middle of their thinking, which nothing ends soon."""
    tokenizer: Any = WordTokenizer()
    tokens = TokenFormat(FORMATS["s1"], tokenizer)
    ids = tokenizer.encode(" ".join(f"word{i}" for i in range(64)), add_special_tokens=False)
    plans = []
    for i in range(num_rows):
        budget = ThinkingBudget(3000)
        asked = Request(question="one", budget=budget, temperature=temperature, seed=i, loop_guard=False)
        plans.append(make_plan(asked, tokens, 8192))
    never = sorted(tokens.thinking_stop_ids | tokens.answer_stop_ids)
    size = max(*ids, *never, *plans[0].prompt_ids) + 1
    torch.manual_seed(0)
    batch = HfBatch(Stub(size, never), size, num_rows, expected=(num_rows, 4096), tokens=tokens, **options)
    for plan in plans:
        batch.admit(plan)
    for _ in range(8):
        assert not batch.step()
    return batch


def measure(
    num_rows: int, temperature: float = 0.0, steps: int = 100, is_timed: bool = True, **options: Any
) -> Overhead:
    batch = running_batch(num_rows, temperature, **options)
    calls = 0

    def see(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        calls += event == "call" and "s1kit" in frame.f_code.co_filename

    def run() -> None:
        for _ in range(steps):
            assert not batch.step()

    reads, operations = CountReads(), CountOperations()
    with ExitStack() as modes:
        modes.enter_context(reads)
        modes.enter_context(operations)
        run()
    sys.setprofile(see)
    try:
        run()
    finally:
        sys.setprofile(None)
    spent = min(cpu_seconds(run) for _ in range(5)) if is_timed else 0.0
    counted = (reads.reads, reads.uploads, operations.total, calls)
    return Overhead(*(n / steps for n in counted), 1e3 * spent / steps)


def cpu_seconds(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1,64,256")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("rows  sampling     reads  uploads  operations   calls  CPU ms")
    for temperature in (0.0, 1.0):
        for rows in map(int, given.rows.split(",")):
            o = measure(rows, temperature)
            how = f"at {temperature:g}" if temperature else "greedy"
            counts = f"{o.reads:8.2f} {o.uploads:8.2f} {o.operations:11.1f} {o.calls:7.1f} {o.cpu_ms:7.3f}"
            print(f"{rows:4}  {how:8}  {counts}")


if __name__ == "__main__":
    main()
