"""Samples and the reference loop that the trainer is held against: no packing, one sequence at a time, float32."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch

from s1kit.recipe import Train
from s1kit.records import Question, Sample, Terms, Trace
from s1kit.train import packing
from s1kit.train.encoded import Encoded, encode_samples
from s1kit.train.loading import load_config, load_tokenizer


def make_samples(num: int, seed: int = 0, terms: Terms = "permits") -> list[Sample]:
    """Sums, thought about at different lengths."""
    draw = random.Random(seed)
    samples = []
    for i in range(num):
        a, b = draw.randint(1, 99), draw.randint(1, 99)
        steps = "\n".join(f"{a} + {b} is {a + b + draw.choice([-1, 0, 1])}?" for _ in range(draw.randint(1, 8)))
        samples.append(
            Sample(
                trace=Trace(
                    question=Question(text=f"({i}) What is {a} + {b}?", source="sums", licence="CC0"),
                    teacher="tests",
                    thinking=f"{steps}\nWait, {a + b}.",
                    answer=f"Final Answer: {a + b}",
                    thinking_tokens=0,
                    terms=terms,
                ),
                picked_by="tests",
            )
        )
    return samples


def encode(base: Path, samples: list[Sample]) -> list[Encoded]:
    from s1kit.forcing.formats import find_format

    fmt = find_format("s1")
    tokenizer = load_tokenizer(f"hf:{base}", "", fmt)
    return encode_samples(samples, fmt, tokenizer, 4096, False)[0]


def reference_steps(
    train: Train, samples: list[Encoded], num_steps: int, lora_from: Any = None
) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses, and gradients of the first and last step, by the textbook: transformers' own attention and logits."""
    from transformers import AutoModelForCausalLM

    from s1kit.forcing.formats import find_format
    from s1kit.train import adapters

    config = load_config(train.base, load_tokenizer(train.base, "", find_format("s1")))
    model = AutoModelForCausalLM.from_pretrained(
        train.base.removeprefix("hf:"), config=config, dtype=torch.float32, attn_implementation="eager"
    )
    model = adapters.add(model, train.lora, 0)
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": train.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=train.learning_rate, betas=train.betas, foreach=False, fused=False
    )
    losses, gradients = [], {}
    for step, members in enumerate(packing.batches(len(samples), train.batch_size, 1, num_steps, seed=0)):
        batch = [samples[i] for i in members]
        total = torch.zeros(())
        for sample in batch:
            ids = torch.tensor([sample.ids])
            logits = model(input_ids=ids).logits[0, :-1]
            each = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
            learned = each[sample.num_prompt - 1 :]
            if train.loss_normalization == "per_sequence":
                total = total + learned.mean() / len(batch)
            else:
                total = total + learned.sum() / sum(s.num_learned for s in batch)
        total.backward()
        losses.append(float(total.detach()))
        if step in (0, num_steps - 1):
            for name, p in model.named_parameters():
                if p.grad is not None:
                    gradients[f"{step}:{name}"] = p.grad.clone()
        if train.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(trained, train.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
    return losses, gradients
