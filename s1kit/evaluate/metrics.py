"""The paper's three metrics, under the path that users import: see `s1kit.analysis.metrics`."""

from __future__ import annotations

from s1kit.analysis.metrics import control, performance, scaling

__all__ = ["control", "performance", "scaling"]
