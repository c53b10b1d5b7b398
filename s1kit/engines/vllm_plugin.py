"""The path under which vLLM's users name the plugin: `--logits-processors s1kit.engines.vllm_plugin:BudgetForcing`."""

from __future__ import annotations

from s1kit.engines.vllm.plugin import BudgetForcing

__all__ = ["BudgetForcing"]
