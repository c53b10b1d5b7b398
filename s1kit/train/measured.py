"""How busy cards are kept: measured shares of the peak, recomputed operations counted (HFU), for `estimate`.

MFU, the usual figure, does not count what is computed twice: HFU = MFU * (3 + recomputed share of the forward) / 3.
"""

from __future__ import annotations

from dataclasses import dataclass


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


TABLE = (
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

    return min(TABLE, key=distance)
