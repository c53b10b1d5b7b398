"""Numbers that a step of training only copies, on one card with and without FSDP: python bench/train_copies.py

Counted on a CPU, operation by operation, for a small random model with weights held in bfloat16.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

_NAMES = {"copy", "to_copy", "cat", "chunk_cat", "clone", "split_with_sizes_copy"}
_BEGINNINGS = ("foreach_copy", "all_gather_copy_in")


class Copied(TorchDispatchMode):
    """Counts the numbers of operations that copy."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__.strip("_")
        if name in _NAMES or name.startswith(_BEGINNINGS):
            given = tree_flatten((args, kwargs))[0]
            self.total += max((x.numel() for x in given if isinstance(x, Tensor)), default=0)
        return out


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from fixtures_models import write_random_checkpoint
    from fixtures_train import encode, make_samples

    from s1kit.forcing.formats import find_format
    from s1kit.recipe import Layout, Train
    from s1kit.train import loop
    from s1kit.train import prepare as preparing
    from s1kit.train.loading import load_config, load_tokenizer
    from s1kit.train.processes import open_world

    preparing.multiplies_bfloat16 = lambda _: True  # as on a card
    decide = preparing._is_sharded
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    with tempfile.TemporaryDirectory() as name, open_world(Layout()) as world:
        base = write_random_checkpoint(Path(name), context=1024, scale=0.1, head_width=16)
        layout = {"master_dtype": "bfloat16"}
        train = Train.model_validate({"base": f"hf:{base}", "layout": layout, "micro_batch_tokens": 120})
        config = load_config(train.base, load_tokenizer(train.base, "", find_format("s1")))
        batch = encode(base, make_samples(14))[:4]
        totals = []
        for is_sharded in (decide, lambda *_: True):
            preparing._is_sharded = is_sharded
            objective = preparing.prepare(train, config, 0, world)
            with Copied() as copied:
                loss = loop.backward(objective, batch, train, "sdpa", world)
            totals.append(copied.total)
            print(f"loss {loss:.6f}, {copied.total:,} numbers copied")
        print(f"without FSDP {totals[0] / totals[1]:.2f} of what it copies")
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
