"""Budget forcing for plain `model.generate`, for use where another library calls it.

    forcing = BudgetForcing([engine.plan(request) for request in requests])
    output = model.generate(**forcing.inputs(model.device), logits_processor=[forcing], do_sample=True, temperature=0.7,
                            max_new_tokens=forcing.max_new_tokens)
    forcing.generations()

The temperature must be the requests' own: processors run before it. Greedy decoding is exact; sampling is exact before
top-k and top-p. Beam search and assisted decoding reorder or skip rows and are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessor

from s1kit.engines.batch_processor import BatchLogitsProcessor
from s1kit.engines.steering import Steered
from s1kit.forcing.plan import Plan
from s1kit.records import Generation


class BudgetForcing(LogitsProcessor):  # type: ignore[misc]
    """A logits processor for one call of `generate` over a batch of plans."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        self._batch = BatchLogitsProcessor()
        self._rows = [Steered(plan) for plan in plans]
        self._members = [self._batch.put(i, row, []) for i, row in enumerate(self._rows)]
        self._plans = list(plans)
        self._prompt_length = max(len(p.prompt_ids) for p in plans)
        self._seen = self._prompt_length

    @property
    def max_new_tokens(self) -> int:
        """Enough for every request, its end of sequence included."""
        return max(p.total_tokens - len(p.prompt_ids) for p in self._plans) + 1

    def inputs(self, device: Any = "cpu") -> dict[str, torch.Tensor]:
        """Left-padded `input_ids` and `attention_mask`."""
        pads = [self._prompt_length - len(p.prompt_ids) for p in self._plans]
        ids = [[0] * pad + list(p.prompt_ids) for pad, p in zip(pads, self._plans, strict=True)]
        mask = [[0] * pad + [1] * len(p.prompt_ids) for pad, p in zip(pads, self._plans, strict=True)]
        return {
            "input_ids": torch.tensor(ids, device=device),
            "attention_mask": torch.tensor(mask, device=device),
        }

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.Tensor:
        if input_ids.shape[0] != len(self._rows) or input_ids.shape[1] not in (self._seen, self._seen + 1):
            raise ValueError(
                f"expected {len(self._rows)} rows that grow by one token, got {tuple(input_ids.shape)}. "
                "Use greedy decoding or sampling, one call of generate a processor."
            )
        if input_ids.shape[1] > self._seen:
            self._seen += 1
            for row, member, token in zip(self._rows, self._members, input_ids[:, -1].tolist(), strict=True):
                # A row that ended is padded by generate.
                if not row.is_done:
                    member.output.append(token)
        return self._batch.steer(scores)

    def generations(self) -> list[Generation]:
        """What was decoded, forced tokens marked, in the order of the plans."""
        for member in self._members:
            member.catch_up()
        return [row.generation() for row in self._rows]
