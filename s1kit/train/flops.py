"""Floating-point operations, the peaks of cards, and what share of a peak trainings have reached.

MFU, the usual share, does not count what is computed twice; HFU does: HFU = MFU * (3 + recomputed share of the
forward pass) / 3.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from s1kit.train.shapes import Shape

PEAK_TFLOPS = {
    "H200": 989.0,
    "H100": 989.0,
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "B200": 2250.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L4": 121.0,
    "A10G": 70.0,
    "RTX 4090": 165.0,
}
"""Dense bf16 tensor peaks from NVIDIA's data sheets, without sparsity, float32 accumulation, TFLOP/s."""

CARD_GIB = {
    "H200": 141e9 / 2**30,
    "H100": 80.0,
    "B200": 180e9 / 2**30,
    "A100": 80.0,
    "L40S": 48.0,
    "L4": 24.0,
    "RTX 4090": 24.0,
}
"""Memory of a card, GiB."""


def training_flops(shape: Shape, lengths: Iterable[int], lora: bool = False) -> float:
    """Operations of one forward and backward pass over samples of these lengths; recomputation is not counted.

    6 * P * n for the matrices, P the parameters that a token is multiplied with, and 6 * L * d * n^2 for attention, d
    the heads' summed size: scores and values take 4 * d * n^2 forward, half of it is masked, backward takes twice that.
    LoRA needs no gradient of the frozen matrices: 4 * P * n.
    """
    per_token = (4 if lora else 6) * shape.matmul_parameters
    per_square = 6 * shape.num_hidden_layers * shape.attention_size
    return float(sum(per_token * n + per_square * n * n for n in lengths))


CPU_GFLOPS = 40.0
"""GFLOP/s of one core in float32, measured on the tiny model and an AVX2 server core."""

AMX_GFLOPS = 150.0
"""GFLOP/s of one core in bfloat16 with Intel's AMX: a 0.5B model was trained at 109 tokens/s on two cores with other
work (2026-11-29), which is 160 for each."""


def cpu_flags() -> str:
    """The instruction sets of this CPU as Linux names them; empty elsewhere."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""


def cpu_gflops(dtype: str) -> float:
    """Roughly what one core of this machine does, GFLOP/s. Instructions that were not measured count as float32."""
    return AMX_GFLOPS if dtype == "bfloat16" and "amx_bf16" in cpu_flags() else CPU_GFLOPS


_PARTS = {"MIG", "Laptop"}
"""In a driver's name: a slice of a card, or a smaller card of the same name."""


def known_card(name: str) -> str:
    """The card of `PEAK_TFLOPS` that a driver's name means; empty where it is none of them, or a part of one (MIG).

    >>> known_card("NVIDIA H100 80GB HBM3"), known_card("NVIDIA H100 PCIe"), known_card("NVIDIA H100 MIG 1g.10gb")
    ('H100', 'H100 PCIe', '')
    """
    words = name.replace("-", " ").split()
    if _PARTS & set(words):
        return ""
    return max((known for known in PEAK_TFLOPS if set(known.split()) <= set(words)), key=len, default="")


def peak_tflops(name: str) -> float:
    """The peak of a card by the name its driver gives, 0 where it is not known."""
    return PEAK_TFLOPS.get(known_card(name), 0.0)


@dataclass(frozen=True)
class Measured:
    """One published or own measurement of dense training on H100-class cards, bf16."""

    source: str
    billions: float
    """Parameters."""
    cards: int
    tokens: int
    """Tokens of a sequence."""
    hfu: float


MEASURED = (
    Measured("llm-foundry, MPT-30B, FSDP, all recomputed", 30, 16, 2048, 0.574),
    Measured("llm-foundry, MPT-13B, FSDP, all recomputed (MFU 31.7 %)", 13, 8, 32768, 0.423),
    Measured("llm-foundry, MPT-7B, FSDP, all recomputed (MFU 30.9 %)", 7, 8, 32768, 0.412),
    Measured("torchtitan, Llama3-8B, FSDP2, selective, compiled (MFU 36.8 %)", 8, 8, 8192, 0.43),
    Measured("TRL #6845, Qwen3-32B, one sequence of 1M tokens, all recomputed (MFU 33-36 %)", 32, 8, 1_000_000, 0.46),
)
"""Published; none was measured by us yet. `bench/gpu.sh` measures what a row says."""


def efficiency(billions: float, tokens: float) -> Measured:
    """The measurement nearest in size and length, both by ratio.

    >>> efficiency(32.8, 5000).billions
    30
    """

    def distance(m: Measured) -> float:
        ratios = (m.billions / billions, (m.tokens / tokens) ** 0.5)
        return sum(max(r, 1 / r) for r in ratios)

    return min(MEASURED, key=distance)
