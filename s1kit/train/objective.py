"""The loss: a weighted sum of next-token negative log-likelihoods, without ever holding all logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from s1kit.train.architecture import kept_states, logits_scale
from s1kit.train.attention import Packing
from s1kit.train.row import Row


class Objective(nn.Module):
    """A causal language model together with its loss: a row in, this row's share of the batch's loss out.

    The loss is inside the module so that FSDP holds the output matrix while its chunks are multiplied.
    """

    def __init__(self, model: Any, loss_chunk_tokens: int) -> None:
        super().__init__()
        self.model = model
        self.logits_scale = logits_scale(model)
        self.is_packed = not kept_states(model.config)
        """Whether samples may share a row."""
        self.loss_chunk_tokens = loss_chunk_tokens

    def forward(self, row: Row, packing: Packing) -> Tensor:
        """The row's share of the batch's loss, a scalar in float32."""
        hidden = self.model.base_model(
            input_ids=row.ids[None], position_ids=row.positions[None], use_cache=False, packing=packing
        ).last_hidden_state[0]
        head = self.model.get_output_embeddings()
        learned = hidden.index_select(0, row.learned)
        loss: Tensor = _ChunkedLoss.apply(  # type: ignore[no-untyped-call]
            learned if self.logits_scale == 1 else learned * self.logits_scale,
            head.weight,
            row.targets.index_select(0, row.learned),
            row.weights.index_select(0, row.learned),
            self.loss_chunk_tokens,
        )
        return loss


class _ChunkedLoss(torch.autograd.Function):
    """sum_t weights[t] * -log softmax(head @ hidden[t])[targets[t]], and its gradients, chunk by chunk.

    The gradients are made in the forward pass, when a chunk's logits are there: 32K x 152K logits in float32 and their
    gradient would take 40 GB; 2,048 tokens of them take 2.5.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor, chunk: int) -> Tensor:
        total = hidden.new_zeros((), dtype=torch.float32)
        grad_hidden = torch.empty_like(hidden)
        # Accumulated in float32 over chunks; where one chunk is all, the product can stay in its own type.
        several = len(hidden) > chunk
        grad_head = torch.zeros_like(head, dtype=torch.float32) if head.requires_grad and several else None
        for start in range(0, len(hidden), chunk):
            cut = slice(start, start + chunk)
            log_p = torch.log_softmax(hidden[cut] @ head.T, 1, dtype=torch.float32)
            picked = log_p.gather(1, targets[cut, None])
            total -= (picked[:, 0] * weights[cut]).sum()
            # The gradient of -log p is p - 1 at the target and p elsewhere; weights go to the small factors.
            p = log_p.exp_().scatter_add_(1, targets[cut, None], torch.full_like(picked, -1.0)).to(hidden.dtype)
            scale = weights[cut, None].to(hidden.dtype)
            grad_hidden[cut] = (p @ head) * scale
            if grad_head is not None:
                grad_head += p.T @ (hidden[cut] * scale)
            elif head.requires_grad:
                grad_head = p.T @ (hidden[cut] * scale)
        if head.requires_grad and grad_head is None:  # a row without a learned token
            grad_head = torch.zeros_like(head)
        ctx.save_for_backward(grad_hidden, grad_head.to(head.dtype) if grad_head is not None else None)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        grad_hidden, grad_head = ctx.saved_tensors
        scaled = grads[0]
        return (
            grad_hidden * scaled.to(grad_hidden.dtype),
            None if grad_head is None else grad_head * scaled.to(grad_head.dtype),
            None,
            None,
            None,
        )
