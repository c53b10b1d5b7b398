"""AdamW and the learning rate, as in the reference run: the Hugging Face Trainer's, App. C of the paper."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from s1kit.recipe import Train


def make_optimizer(model: nn.Module, config: Train) -> torch.optim.Optimizer:
    """Weight decay on matrices only, as the Trainer does: not on biases, not on norms."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for _, p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for _, p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=config.learning_rate, betas=config.betas, eps=1e-8, fused=True
    )


def learning_rate(step: int, num_steps: int, peak: float, warmup: float) -> float:
    """The rate of optimiser step `step`, from 0: linear over the first share of steps, then cosine to zero.

    As in the reference run the very first step of a warm-up has rate 0.

    >>> [f"{learning_rate(s, 315, 1e-5, 0.05):.3g}" for s in (0, 16, 314)]
    ['0', '1e-05', '2.76e-10']
    """
    warm = math.ceil(num_steps * warmup)
    if step < warm:
        return peak * step / warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, num_steps - warm)))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
