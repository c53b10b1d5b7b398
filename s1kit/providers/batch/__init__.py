"""Requests through a provider's batch API: `driver` submits, polls and collects; `wires` holds the formats."""

from __future__ import annotations

from s1kit.providers.batch.driver import BatchOutcome, ask_batch, batch_wire

__all__ = ["BatchOutcome", "ask_batch", "batch_wire"]
