"""Stage `train`: a checkpoint from samples. The base learns to think in the teacher's way, with s1's objective."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s1kit.engines.machine import why_unused
from s1kit.engines.weights import fingerprints
from s1kit.errors import InputError
from s1kit.files import make_folder, write_atomically
from s1kit.progress import quieted, say
from s1kit.recipe import Recipe, Train
from s1kit.records import Dropped, Sample
from s1kit.stage import Run, Stage
from s1kit.train.encoded import TOO_LONG, check_terms, encode_samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s1kit.train.processes import World

CHECKPOINT = "checkpoint"

ROUNDING = frozenset({"master_dtype", "fp8"})
"""Settings of the layout that change the weights by more than the order of sums does."""


@dataclass(frozen=True)
class Trained:
    """Result of `train_samples`."""

    checkpoint: Path
    figures: dict[str, Any]
    """Steps, last loss, tokens, seconds, dollars."""
    too_long: list[tuple[Sample, str]]
    """Samples that were left out under `drop_too_long`, and their lengths."""


def identity_of(config: Train) -> dict[str, Any]:
    """The settings that the checkpoint depends on: not how often it is saved; of the layout the types that round."""
    same = config.model_copy(update={"save_every": Train.model_fields["save_every"].default})
    settings = same.model_dump(mode="json", exclude={"layout"})
    if types := {name: getattr(config.layout, name) for name in config.layout.stated & ROUNDING}:
        settings["layout"] = types
    return settings


def train(recipe: Recipe, run: Run) -> Stage:
    """Fine-tune `recipe.train.base` on the run's samples; a killed call goes on from its last checkpoint.

    Under torchrun every process calls this; the main one writes. The layout is no part of the stage's settings but for
    the types that round: a training may go on with another one, or on another number of processes.
    """
    base = recipe.train.base
    models = fingerprints([base if ":" in base else f"hf:{base}"])
    stage = run.open("train", identity_of(recipe.train), recipe.seed, run.shards("curate", "samples"), models)
    if stage.is_done:
        return stage
    samples = list(run.rows("curate", "samples", Sample))
    check_terms([s.trace for s in samples], recipe.train.acknowledge_terms)
    from s1kit.train.loading import require_torch

    require_torch()
    from s1kit.train.processes import open_world

    with open_world(recipe.train.layout) as world, quieted(not world.is_main):
        trained = train_samples(samples, stage.folder, recipe.train, recipe.seed)
        if world.is_main:
            _finish(stage, samples, trained)
        world.barrier()
    return stage


def _finish(stage: Stage, samples: Sequence[Sample], trained: Trained) -> None:
    dropped = [stage.drop(s, s.trace.question.id, TOO_LONG, why) for s, why in trained.too_long]
    if dropped:
        stage.write("dropped", Dropped, dropped, shard=0)
    stage.counts.update({"in": len(samples), "out": len(samples) - len(dropped), "steps": trained.figures["steps"]})
    stage.figures |= trained.figures
    stage.finish()
    shutil.rmtree(stage.folder / "resume", ignore_errors=True)


def train_samples(samples: Sequence[Sample], folder: Path, train: Train, seed: int = 0) -> Trained:
    """Fine-tune without a run: writes `folder`/checkpoint, log.jsonl, and resumable state in `folder`/resume.

    Raises InputError for whatever can be known beforehand, and WorkFailed when the loss stops being a number.

        train_samples(samples, Path("mine"), Train(base="hf:Qwen/Qwen2.5-1.5B-Instruct", layout=Layout(...)))
    """
    check_terms([s.trace for s in samples], train.acknowledge_terms)
    say(f"train: loading {train.base}")
    from s1kit.train.loading import load_config, load_format_and_tokenizer, require_torch

    require_torch()
    from s1kit.train import packing
    from s1kit.train.advice import check_card
    from s1kit.train.checkpoint import model_card, write_checkpoint
    from s1kit.train.disk import check_disk
    from s1kit.train.loop import fit
    from s1kit.train.meter import read_log
    from s1kit.train.processes import multiplies_bfloat16, open_world
    from s1kit.train.shapes import Shape

    fmt, tokenizer = load_format_and_tokenizer(train)
    model_config = load_config(train.base, tokenizer)
    encoded, too_long = encode_samples(samples, fmt, tokenizer, train.max_length, train.drop_too_long)
    if model_config.max_position_embeddings < max(map(len, encoded)):
        raise InputError(
            f"a sample has {max(map(len, encoded))} tokens, the model {model_config.max_position_embeddings} positions",
            where="train.base",
            fix="Set train.max_length and train.drop_too_long, or take a model with a longer context.",
        )
    with open_world(train.layout) as world, _threads(world, model_config):
        if world.is_main:
            make_folder(folder)
            num_steps = len(packing.batches(len(encoded), train.batch_size, train.epochs, train.max_steps, seed))
            check_disk(folder, Shape.of_config(model_config), train, num_steps)
            if world.device.type == "cpu" and (why := why_unused()):
                say(f"train: torch cannot use this machine's card, so it trains on the CPU: {why}")
            if train.dtype == "bfloat16" and not multiplies_bfloat16(world.device):
                place = "CPU has no instructions" if world.device.type == "cpu" else "card has no units"
                say(f"train: this {place} for bfloat16 products; they are computed in float32")
            num = sum(map(len, encoded))
            say(f"train: {len(encoded)} samples of {num:,} tokens, {num // len(encoded)} on average, {train.base}")
        if world.device.type == "cuda":
            check_card(Shape.of_config(model_config), list(map(len, encoded)), train, world.size)
        fitted = fit(encoded, model_config, train, seed, folder, world)
        written = write_checkpoint(folder / CHECKPOINT, fitted, model_config, tokenizer, fmt, train, seed, world)
        log = read_log(folder / "log.jsonl")
        figures = {"steps": fitted.steps, "loss": log[-1]["loss"] if log else None, **fitted.figures, **written}
        if world.is_main:
            dropped = {id(sample) for sample, _ in too_long}
            kept = [s for s in samples if id(s) not in dropped]
            card = model_card(kept, fmt, train, seed, figures, folder / "log.jsonl")
            write_atomically(folder / CHECKPOINT / "README.md", lambda p: p.write_text(card, encoding="utf-8"))
        world.barrier()
    return Trained(folder / CHECKPOINT, figures, too_long)


@contextmanager
def _threads(world: World, model_config: Any) -> Iterator[None]:
    """One thread for a tiny model on a CPU, where two spend their time waiting for each other."""
    import torch

    from s1kit.train.shapes import Shape

    before = torch.get_num_threads()
    tiny = world.device.type == "cpu" and Shape.of_config(model_config).layer_parameters < 1_000_000
    if tiny:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
