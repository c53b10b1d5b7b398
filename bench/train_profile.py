"""Where a training step's time goes, by kind of kernel; for train_throughput.py --profile."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import torch

KINDS = (
    ("attention", r"flash|fmha|attention|varlen"),
    ("matrix products", r"gemm|nvjet|cutlass|cublas|xmma|aten::mm$|aten::addmm$|aten::bmm$|scaled_mm"),
    ("optimiser", r"adam|multi_tensor"),
    ("communication", r"nccl|c10d|gloo|all_gather|reduce_scatter"),
    ("copies", r"memcpy|memset|copy|aten::cat$|split_with_sizes"),
)
"""A name belongs to the first kind that it matches; whatever is left is elementwise work."""


def start() -> Any:
    cuda = torch.cuda.is_available()
    kind = torch.profiler.ProfilerActivity.CUDA if cuda else torch.profiler.ProfilerActivity.CPU
    profiler = torch.profiler.profile(activities=[kind])
    profiler.start()
    return profiler


def shares(profiler: Any) -> dict[str, float]:
    """The share of each kind in the time of all kernels (on a CPU, of all operations), largest first."""
    profiler.stop()
    cuda = torch.cuda.is_available()
    spent: Counter[str] = Counter()
    for event in profiler.key_averages():
        micros = event.self_device_time_total if cuda else event.self_cpu_time_total
        spent[_kind(event.key)] += micros
    total = sum(spent.values()) or 1
    return {kind: micros / total for kind, micros in spent.most_common()}


def _kind(name: str) -> str:
    for kind, pattern in KINDS:
        if re.search(pattern, name, re.IGNORECASE):
            return kind
    return "elementwise and the rest"
