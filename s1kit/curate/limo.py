"""LIMO's rubric for a trace (2502.03387, section on data): how much it elaborates, verifies, explores and explains."""

from __future__ import annotations

import re

_VERIFYING = re.compile(r"\b(?:check|verify|verif|confirm|double-check)\w*", re.IGNORECASE)
_EXPLORING = re.compile(r"\b(?:perhaps|might|maybe|alternatively|wait|suppose|what if)\b", re.IGNORECASE)
_EXPLAINING = re.compile(r"\b(?:therefore|since|because|thus|hence|so that)\b", re.IGNORECASE)

WEIGHTS = {"elaborated": 0.30, "verifying": 0.20, "exploring": 0.25, "explaining": 0.25}
"""The paper's weights: 30 % length, 20 % self-verification, 25 % exploration, 25 % granularity."""


def limo_score(thinking: str, thinking_tokens: int, longest_tokens: int) -> float:
    """A number from 0 to 1; keyword counts are per 100 words, saturating at 2, as the paper normalises by length.

    `longest_tokens` is the longest thinking among the candidates.
    """
    words = max(1, len(thinking.split()))
    parts = {"elaborated": min(1.0, thinking_tokens / max(1, longest_tokens))}
    for name, pattern in (("verifying", _VERIFYING), ("exploring", _EXPLORING), ("explaining", _EXPLAINING)):
        parts[name] = min(1.0, 100 * len(pattern.findall(thinking)) / words / 2)
    return sum(WEIGHTS[name] * value for name, value in parts.items())
