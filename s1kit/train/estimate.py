"""`s1kit estimate` for fine-tuning: minutes, dollars and memory of a recipe, before anything is spent."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist

from s1kit.engines.gguf.architectures import config_of
from s1kit.engines.gguf.reading import read_gguf
from s1kit.engines.gguf.unpacking import is_gguf
from s1kit.engines.machine import has_gpu
from s1kit.errors import InputError
from s1kit.recipe import Cluster, Layout, Recipe, Train
from s1kit.stage import is_finished
from s1kit.train.advice import advice, fastest, fits
from s1kit.train.cost import card_gib, estimate
from s1kit.train.flops import CPU_GFLOPS, PEAK_TFLOPS, cpu_gflops, known_card, training_flops
from s1kit.train.packing import batches
from s1kit.train.reference import base_folder
from s1kit.train.shapes import SHAPES, Shape

PAPER = Train(
    base="hf:Qwen/Qwen2.5-32B-Instruct",
    micro_batch_tokens=8,
    layout=Layout(activation_checkpointing="full", reshard_after_forward=True),
)
"""The reference run as launched (train/sft.sh): a sequence a card, everything recomputed; it took 26 minutes."""


def estimate_train(recipe: Recipe, most: int | None = None, characters: Sequence[int] | None = None) -> list[str]:
    """The estimate as lines of text. Raises InputError for a card or a base that is not known.

    `most`: samples that there can be; None: as many as are selected. `characters`: of each question with its trace,
    where these are known already; the samples are drawn from them.
    """
    train = recipe.train
    shape = shape_of(train.base)
    lengths, told = sample_lengths(recipe, most, characters)
    steps = batches(len(lengths), train.batch_size, train.epochs, train.max_steps, recipe.seed)
    num_tokens = sum(lengths[i] for members in steps for i in members)
    how_long = f"{train.epochs} epochs" if train.max_steps is None else f"{len(steps):,} step{'s' * (len(steps) > 1)}"
    head = f"{len(lengths):,} samples, {num_tokens / 1e6:,.2f}M tokens in {how_long} ({told})"
    cluster = machine_of(train)
    if cluster is None or shape.parameters < 5e7:
        return [head, *_on_processor(shape, training_flops(shape, lengths) * num_tokens / sum(lengths), train.dtype)]
    return [head, *_on_cards(shape, lengths, train, cluster)]


def _on_processor(shape: Shape, operations: float, dtype: str) -> list[str]:
    """Lines about a training without cards."""
    if shape.parameters < 5e7:
        seconds = operations / (CPU_GFLOPS * 1e9)
        return [f"{shape.parameters / 1e6:.1f}M parameters: about {seconds:,.0f} s on one CPU core"]
    cores = os.cpu_count() or 1
    hours = operations / (cpu_gflops(dtype) * 1e9 * cores) / 3600
    took = f"{hours:,.1f} hours" if hours >= 2 else f"{max(1.0, hours * 60):,.0f} minutes"
    return [
        f"{shape.parameters / 1e9:.2f}B parameters on these {cores} cores (no GPU): about {took},"
        f" {shape.parameters * 16 / 1e9:,.0f} GB of memory and more",
        "on cards instead: add train.layout.cluster.card=H100 train.layout.cluster.num_cards=8",
    ]


def _on_cards(shape: Shape, lengths: Sequence[int], train: Train, cluster: Cluster) -> list[str]:
    """Lines about a training on cards."""
    found = estimate(shape, lengths, train, cluster)
    price = train.layout.dollars_per_gpu_hour
    lines = [
        f"{shape.parameters / 1e9:.1f}B parameters on {cluster.num_cards} {cluster.card}: "
        f"{found.seconds / 60:.1f} minutes, ${found.dollars(price):.2f} "
        f"at ${price:.2f} a card and hour; MFU {found.mfu:.0%}",
        f"balance {found.balance:.0%}, operations done over needed {found.recompute:.2f}, "
        f"traffic not hidden {found.exposed_seconds / 60:.1f} minutes; efficiency from: {found.source}",
        f"memory {found.memory_gib:.0f} of {card_gib(cluster.card):.0f} GiB a card",
    ]
    if not fits(found, cluster):
        lines.append("it will NOT fit: " + advice(shape, lengths, train, cluster))
    best = fastest(shape, lengths, train, cluster)
    if best is not None:
        lines.append(f"the fastest layout that fits: {best[0]}: {best[1].seconds / 60:.1f} minutes")
    if "32b" in train.base.lower():
        paper = estimate(shape, lengths, PAPER, Cluster())
        lines.append(
            f"the paper's own settings on 16 H100, estimated the same way: {paper.seconds / 60:.0f} minutes; it took 26"
        )
    return lines


def machine_of(train: Train) -> Cluster | None:
    """The cards that a recipe names, else those of this machine; None where it has none."""
    if "cluster" in train.layout.model_fields_set:
        return train.layout.cluster
    if not has_gpu():
        return None
    import torch

    num = torch.cuda.device_count()
    # Of several kinds all wait for the slowest.
    card = min((known_card(torch.cuda.get_device_name(i)) for i in range(num)), key=lambda c: PEAK_TFLOPS.get(c, 0.0))
    return Cluster(card=card, num_cards=num, cards_per_node=num) if card else None


def shape_of(base: str) -> Shape:
    """The shape of `train.base`, without loading it; InputError when it cannot be known."""
    name = base.partition(":")[2].rpartition("/")[2].lower().removesuffix("-instruct")
    name = name.replace("-coder-", "-").replace("-math-", "-")  # of the same shapes, by their config.json
    if name in SHAPES:
        return SHAPES[name]
    reference = base.partition(":")[2]
    if is_gguf(reference):
        gguf = read_gguf(Path(reference).expanduser())  # its header says: nothing is unpacked
        return Shape.of_config(config_of(gguf))
    _, folder = base_folder(base)
    path = Path(folder) / "config.json"
    if not path.is_file():
        fix = f"Download it first, or give one of: {', '.join(SHAPES)}."
        raise InputError(f"the shape of {base!r} is not known", where="train.base", fix=fix)
    return Shape.of_config(json.loads(path.read_text(encoding="utf-8")))


def sample_lengths(
    recipe: Recipe, most: int | None = None, characters: Sequence[int] | None = None
) -> tuple[list[int], str]:
    """Tokens of each sample: of the run's own where curation is done, of known traces, else as s1K's are spread.

    s1K: 4.7K tokens of thinking on average (Table 5), 74 % of the samples above 4,096 tokens in all (Table 7): a
    log-normal with a deviation of 0.35, 5.45M tokens. `most`, `characters`: as in `estimate_train`.
    """
    files = sorted((recipe.folder / "curate").glob("samples-*.parquet"))
    if is_finished(recipe.folder, "curate") and files:
        from s1kit.train.export import read_samples

        traces = [s.trace for s in read_samples(recipe.folder)]
        lengths = [t.thinking_tokens + _tokens(len(t.question.text) + len(t.answer)) for t in traces]
        return lengths, "from the run's samples"
    num = recipe.curate.num if most is None else max(1, most)
    if characters:
        ordered, num = sorted(characters), min(num, len(characters))
        places = (int((i + 0.5) * len(ordered) / num) for i in range(num))
        return [min(_tokens(ordered[place]), recipe.train.max_length) for place in places], "as long as their solutions"
    if recipe.train.base == "tiny-base":
        return [215] * num, "some 215 each, as the built-in teacher writes"
    spread, above = 0.35, 0.74
    normal = NormalDist(math.log(4096) - spread * NormalDist().inv_cdf(1 - above), spread)
    lengths = [int(math.exp(normal.inv_cdf((i + 0.5) / num))) for i in range(num)]
    return [min(n, recipe.train.max_length) for n in lengths], "spread like s1K's; curate first for your own"


def _tokens(characters: int) -> int:
    """Tokens of a sample of English and mathematics, at some 3.5 characters each, its chat template included."""
    return int(characters / 3.5) + 12
