"""Floating-point operations and peaks: what MFU is a ratio of."""

from __future__ import annotations

from collections.abc import Iterable

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


def peak_tflops(card: str) -> float:
    """The peak of a card by the name its driver gives, 0 where it is not known.

    >>> peak_tflops("NVIDIA H100 80GB HBM3"), peak_tflops("NVIDIA H100 PCIe")
    (989.0, 756.0)
    """
    words = card.replace("-", " ").split()
    best = max((name for name in PEAK_TFLOPS if set(name.split()) <= set(words)), key=len, default="")
    return PEAK_TFLOPS.get(best, 0.0)
