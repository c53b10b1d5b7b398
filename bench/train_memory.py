"""Memory of a card in training: what `s1kit estimate` reckons against what PyTorch's tensors add up to.

    python bench/train_memory.py            a table; a few CPU minutes, no card and no weights
    python bench/train_memory.py --case 7b-1

Each case is a micro-batch (not a step's first) of the real model, loss, sharding and optimiser on fake tensors,
under torch.distributed._tools' FSDPMemTracker: it sees every allocation and release, of one process of so many. What it
cannot see: fragments of the allocator and the CUDA context, for which the estimate adds 2 GiB; workspaces of libraries.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed.device_mesh import init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import Qwen2Config

from s1kit.recipe import Train
from s1kit.train.attention import Packing
from s1kit.train.cost import CONTEXT_GIB, memory_gib
from s1kit.train.encoded import Encoded
from s1kit.train.loop import make_optimizer
from s1kit.train.prepare import prepare
from s1kit.train.processes import World
from s1kit.train.row import make_row
from s1kit.train.shapes import SHAPES


@dataclass(frozen=True)
class Case:
    model: str
    cards: int
    tokens: int
    """Of a row, on each card."""
    layout: dict[str, Any]
    lora: dict[str, Any] | None = None
    layers: int | None = None


SELECTIVE, FULL = {"activation_checkpointing": "selective"}, {"activation_checkpointing": "full"}
HALF = {"master_dtype": "bfloat16"}

CASES = {
    "32b-16 (recipe s1k)": Case("qwen2.5-32b", 16, 4096, SELECTIVE | {"context_parallel": 8}),
    "32b-16 full": Case("qwen2.5-32b", 16, 8192, FULL | {"context_parallel": 4}),
    "7b-8": Case("qwen2.5-7b", 8, 16384, SELECTIVE),
    "7b-1": Case("qwen2.5-7b", 1, 16384, FULL | HALF),
    "7b-1 selective": Case("qwen2.5-7b", 1, 16384, SELECTIVE | HALF),
    "7b-1 none": Case("qwen2.5-7b", 1, 8192, HALF),
    "12 layers of 32b-1": Case("qwen2.5-32b", 1, 16384, SELECTIVE | HALF, layers=12),
    "1.5b-1": Case("qwen2.5-1.5b", 1, 32768, FULL | HALF),
    "0.5b-1 float32": Case("qwen2.5-0.5b", 1, 8192, SELECTIVE),
}


def settings(case: Case) -> Train:
    return Train.model_validate({"base": f"random:{case.model}", "layout": case.layout, "lora": case.lora})


def tracked_gib(case: Case) -> tuple[float, dict[str, float]]:
    """The peak of a forward and backward pass between two steps, and its largest parts, GiB."""
    train, shape = settings(case), SHAPES[case.model]
    shape = replace(shape, num_hidden_layers=case.layers or shape.num_hidden_layers)
    parts = train.layout.context_parallel
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=case.cards)
    try:
        mesh = init_device_mesh("cpu", (case.cards,))
        group = init_device_mesh("cpu", (case.cards // parts, parts)).get_group(1) if parts > 1 else None
        world = World(torch.device("cpu"), 0, case.cards, parts, mesh, group)
        length = case.tokens * parts
        sample = Encoded("sample", tuple(range(length)), length // 20)
        whole = make_row([sample], [1 / sample.num_learned], parts)
        row, ends = whole.part(0, parts), torch.tensor([0, length], dtype=torch.int32)
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            objective = prepare(train, Qwen2Config(**shape.qwen2_config()), 0, world)
            optimizer = make_optimizer(objective, train)
            fake = replace(row, **{name: mode.from_tensor(value) for name, value in tensors(row).items()})
            told = Packing(whole.lengths, length, mode.from_tensor(ends), "varlen", group)
            for parameter in objective.parameters():
                parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
            optimizer.step()  # makes the optimiser's states; it works in place, which a tracker of fakes does not see
            # The gradients stay, as in every micro-batch but a step's first.
            with (tracker := FSDPMemTracker(objective, optimizer)):
                objective(fake, told).backward()
            peak = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]
    finally:
        dist.destroy_process_group()
    gib = {str(getattr(name, "value", name)): nbytes / 2**30 for name, nbytes in peak.items()}
    return gib.pop("Total"), gib


def tensors(row: Any) -> dict[str, torch.Tensor]:
    return {name: value for name, value in vars(row).items() if isinstance(value, torch.Tensor)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--case", action="append", choices=CASES)
    given = parser.parse_args()
    worst = 0.0
    print(f"{'case':22} {'tracked':>8} {'formula':>8} {'error':>6}   largest parts, GiB")
    for name in given.case or CASES:
        case = CASES[name]
        shape = SHAPES[case.model]
        shape = replace(shape, num_hidden_layers=case.layers or shape.num_hidden_layers)
        reckoned = memory_gib(shape, settings(case), case.cards, case.tokens) - CONTEXT_GIB
        found, parts = tracked_gib(case)
        error = reckoned / found - 1
        worst = max(worst, abs(error))
        largest = sorted(parts.items(), key=lambda item: -item[1])[:5]
        print(
            f"{name:22} {found:8.1f} {reckoned:8.1f} {error:+6.0%}   "
            + ", ".join(f"{part} {gib:.1f}" for part, gib in largest),
            flush=True,
        )
    print(f"furthest off: {worst:.0%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
