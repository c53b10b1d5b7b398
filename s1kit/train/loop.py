"""The training loop. `fit` has its steps in order: batches, rows, loss, gradients, optimiser, log, checkpoint."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from s1kit.engines.machine import sent_to
from s1kit.errors import InputError, WorkFailed, first_line
from s1kit.progress import meter as progress
from s1kit.progress import say
from s1kit.recipe import Train
from s1kit.train import packing
from s1kit.train.architecture import kept_states
from s1kit.train.attention import Kernel, Packing, choose_kernel
from s1kit.train.encoded import Encoded
from s1kit.train.meter import TrainingMeter
from s1kit.train.objective import Objective
from s1kit.train.prepare import FP8_MULTIPLE, autocast, prepare
from s1kit.train.processes import World, multiplies_bfloat16
from s1kit.train.resume import Checkpoints
from s1kit.train.row import Row, make_row, token_weights
from s1kit.train.shapes import Shape


@dataclass(frozen=True)
class Fitted:
    """A trained model, and what training it took."""

    objective: Objective
    steps: int
    first_step: int
    """Steps that an earlier, interrupted call had done."""
    figures: dict[str, Any]


def fit(samples: Sequence[Encoded], model_config: Any, train: Train, seed: int, folder: Path, world: World) -> Fitted:
    """Train from the base, or on from the newest whole checkpoint in `folder`, which also gets log.jsonl.

    The same seed, samples and settings give the same weights bit for bit on one kind of machine, interrupted or not.
    Raises WorkFailed when the loss stops being a number, or a card has no memory left; the weights before that step are
    kept as a checkpoint (of one process, in the second case).
    """
    steps = packing.batches(len(samples), train.batch_size, train.epochs, train.max_steps, seed)
    if len(samples) < world.num_rows:
        raise InputError(
            f"{len(samples)} samples for {world.num_rows} processes",
            where="samples",
            fix="Start fewer processes with torchrun, or raise train.layout.context_parallel.",
        )
    # What can be refused is refused before the weights are read: a missing kernel, tracker, or another's checkpoint.
    dtype = getattr(torch, train.dtype) if multiplies_bfloat16(world.device) else torch.float32
    shape = Shape.of_config(model_config)
    kernel = choose_kernel(train.layout.attention, world.device, dtype, shape.head_size)
    meter = TrainingMeter(folder / "log.jsonl", train, shape, world)
    checkpoints = Checkpoints(folder / "resume", fingerprint(samples, train, seed), world)
    torch.manual_seed(seed)
    objective = prepare(train, model_config, seed, world)
    optimizer = make_optimizer(objective, train)
    first = checkpoints.load(objective, optimizer)
    meter.resume(first)
    if world.is_main and not objective.is_packed:
        kinds = ", ".join(kept_states(model_config))
        say(f"train: samples are computed one by one, since layers of kind {kinds} carry a state along a row")
    if first and world.is_main:
        say(f"train: goes on after step {first} of {len(steps)}")
    per_epoch = -(-len(samples) // train.batch_size)
    with closing(meter), progress("train", total=len(steps), unit="steps") as bar:
        bar.advance(first)
        for step, members in enumerate(steps[first:], start=first):
            batch = [samples[i] for i in members]
            rate = learning_rate(step, len(steps), train.learning_rate, train.warmup)
            set_learning_rate(optimizer, rate)
            try:
                loss = backward(objective, batch, train, kernel, world)
                norm = clip(objective, train.max_grad_norm)
            except torch.OutOfMemoryError as error:
                told = _no_memory(step, batch, error)
                if world.size == 1:  # others would wait for this process in vain
                    optimizer.zero_grad(set_to_none=True)
                    checkpoints.save(step, objective, optimizer)
                    checkpoints.wait()
                raise told from None
            if not (math.isfinite(loss) and math.isfinite(norm)):
                checkpoints.save(step, objective, optimizer)
                checkpoints.wait()
                raise _not_a_number(step, loss, norm, batch, folder)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            row = meter.step(
                [len(s) for s in batch],
                step=step + 1,
                epoch=step // per_epoch + 1,
                loss=loss,
                learning_rate=rate,
                grad_norm=norm,
            )
            if (step + 1) % train.save_every == 0 and step + 1 < len(steps):
                checkpoints.save(step + 1, objective, optimizer)
            checkpoints.poll()
            if world.is_main:
                bar.advance(1, note=_note(row))
    checkpoints.wait()
    return Fitted(objective, len(steps), first, meter.summary())


def backward(objective: Objective, batch: Sequence[Encoded], train: Train, kernel: Kernel, world: World) -> float:
    """Add the batch's gradients, row by row; the batch's loss, the same on every process."""
    weights = token_weights(batch, train.loss_normalization)
    most = train.micro_batch_tokens * world.row_size if objective.is_packed else 1
    layout = packing.pack([len(s) for s in batch], world.num_rows, most)
    total = torch.zeros((), device=world.device)
    # FSDP averages gradients over processes; the loss is a sum over them.
    share = world.size if world.mesh is not None else 1
    multiple = world.row_size * (FP8_MULTIPLE if train.layout.fp8 else 1)
    for rows in layout:
        mine = rows[world.row_rank]
        whole = make_row([batch[i] for i in mine], [weights[i] for i in mine], multiple)
        row = whole.part(world.part, world.row_size).to(world.device)
        told = _packing(whole, kernel, world)
        with autocast(train, world, objective):
            loss = objective(row, told)
        (loss * share).backward()
        total += loss.detach()
    return world.total(total)


def clip(objective: torch.nn.Module, max_norm: float | None) -> float:
    """Scale the gradients down to a norm of `max_norm`, if any; the norm before that."""
    trained = [p for p in objective.parameters() if p.grad is not None]
    norm: Any = torch.nn.utils.clip_grad_norm_(trained, math.inf if max_norm is None else max_norm)
    if hasattr(norm, "full_tensor"):
        norm = norm.full_tensor()
    return float(norm)


def fingerprint(samples: Sequence[Encoded], train: Train, seed: int) -> str:
    """What a checkpoint belongs to: the samples' ids and every setting that bears on the weights."""
    settings = train.model_dump(mode="json", exclude={"layout", "save_every", "acknowledge_terms"})
    digest = hashlib.sha256(json.dumps([settings, seed], sort_keys=True).encode())
    for sample in samples:
        digest.update(repr((sample.ids, sample.num_prompt)).encode())
    return digest.hexdigest()


def _packing(row: Row, kernel: Kernel, world: World) -> Packing:
    ends = sent_to(torch.tensor([0, *row.lengths]).cumsum(0).to(torch.int32), world.device)
    return Packing(row.lengths, max(row.lengths), ends, kernel, world.row_group)


def _note(row: dict[str, float]) -> str:
    parts = [f"loss {row['loss']:.4f}", f"{row['tokens_per_second']:,.0f} tokens/s"]
    if "mfu" in row:
        parts.append(f"MFU {row['mfu']:.0%}")
    if "dollars" in row:
        parts.append(f"${row['dollars']:.2f}")
    return ", ".join(parts)


def _not_a_number(step: int, loss: float, norm: float, batch: Sequence[Encoded], folder: Path) -> WorkFailed:
    questions = ", ".join(s.id for s in batch)
    return WorkFailed(
        f"step {step + 1}: the loss is {loss}, the gradient's norm {norm}, on questions {questions}",
        where=str(folder / "resume"),
        fix="The weights before this step are kept there. Look at these samples, or lower train.learning_rate.",
    )


def _no_memory(step: int, batch: Sequence[Encoded], error: Exception) -> WorkFailed:
    longest = max(map(len, batch))
    return WorkFailed(
        f"step {step + 1}: the card has no memory left for samples of up to {longest:,} tokens: {first_line(error)}",
        where="train.layout",
        fix="Set train.layout.activation_checkpointing=full or train.layout.master_dtype=bfloat16, or take more cards. "
        "With activation_checkpointing the same command goes on from the last checkpoint.",
    )


def make_optimizer(model: torch.nn.Module, config: Train) -> torch.optim.Optimizer:
    """AdamW as in the reference run (paper, App. C): weight decay on matrices only, not on biases and norms."""
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
    """Set one rate for all groups of parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate
