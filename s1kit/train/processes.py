"""The processes that train together: one on a laptop, sixteen under torchrun. Ranks and groups are set up here only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from s1kit.engines.machine import can_compute
from s1kit.errors import InputError
from s1kit.recipe import Layout
from s1kit.train.flops import cpu_flags
from s1kit.train.reference import check_processes


@dataclass(frozen=True)
class World:
    """This process's place. Ranks that share a row (context parallelism) are neighbours."""

    device: torch.device
    rank: int = 0
    size: int = 1
    row_size: int = 1
    """Processes that share a row."""
    mesh: DeviceMesh | None = None
    """For FSDP: one dimension, or (nodes, cards of a node). None: one process without NCCL, which does without
    FSDP."""
    row_group: dist.ProcessGroup | None = None
    checkpoint_group: dist.ProcessGroup | None = None
    """A group of its own: checkpoints are written from another thread, whose messages must not meet training's."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    @property
    def num_rows(self) -> int:
        """Rows that are worked on at a time."""
        return self.size // self.row_size

    @property
    def row_rank(self) -> int:
        """Which row this process works on."""
        return self.rank // self.row_size

    @property
    def part(self) -> int:
        """Which part of its row."""
        return self.rank % self.row_size

    def total(self, value: torch.Tensor) -> float:
        """The sum of a scalar over all processes."""
        if self.size > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value.item()

    def barrier(self) -> None:
        """Wait until every process has come here."""
        if self.size > 1:
            dist.barrier()

    def same(self, value: Any) -> Any:
        """The main process's value, on every process."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]


@contextmanager
def open_world(layout: Layout) -> Iterator[World]:
    """Join the processes that torchrun started, or be alone. Raises InputError when the layout does not fit them."""
    size, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    local = int(os.environ.get("LOCAL_RANK", 0))
    check_processes(layout, size)
    if (num_cards := torch.cuda.device_count()) and local >= num_cards:
        raise InputError(
            f"there is no card for process {local + 1} of this machine: torch sees {num_cards}",
            where="torchrun --nproc-per-node",
            fix="Start as many processes as there are cards, and let each see all of them (CUDA_VISIBLE_DEVICES).",
        )
    cuda = can_compute(torch.device("cuda", local))
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    # A torch without NCCL, as on Windows, still trains on one card.
    if size == 1 and not (cuda and dist.is_nccl_available()) and not dist.is_initialized():
        yield World(device)
        return
    joined_here = not dist.is_initialized()
    if joined_here:
        # gloo beside nccl: asynchronous checkpoints are written from copies in main memory.
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        store = torch._C._distributed_c10d.HashStore() if size == 1 else None
        dist.init_process_group(backend, rank=rank, world_size=size, store=store, timeout=timedelta(minutes=30))
    try:
        yield _place(layout, device, rank, size)
    finally:
        if joined_here:
            dist.destroy_process_group()


def _place(layout: Layout, device: torch.device, rank: int, size: int) -> World:
    node = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    if layout.shard == "node" and size > node:
        mesh = init_device_mesh(device.type, (size // node, node), mesh_dim_names=("nodes", "cards"))
    else:
        mesh = init_device_mesh(device.type, (size,))
    group = None
    if layout.context_parallel > 1:
        rows = init_device_mesh(device.type, (size // layout.context_parallel, layout.context_parallel))
        group = rows.get_group(1)
    return World(device, rank, size, layout.context_parallel, mesh, group, dist.new_group(backend="gloo"))


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 products are worth computing on this device.

    Without instructions for them a CPU takes some layouts of matrices 50 times as long as in float32: 512 tokens of a
    135M model's loss took more than 100 seconds on one AVX2 core.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return True
    flags = cpu_flags()
    return "amx_bf16" in flags or "avx512_bf16" in flags
