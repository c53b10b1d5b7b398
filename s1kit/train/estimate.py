"""What fine-tuning would take: minutes, dollars, memory, and which terms they are made of. Arithmetic only.

A step lasts as long as its busiest card: operations (recomputed ones too) over peak times efficiency, plus the exchange
of heads within a row, plus what of the weights' traffic does not hide behind the operations.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

from s1kit.errors import InputError, nearest
from s1kit.recipe import Cluster, Layout, Recipe, Train
from s1kit.train import packing
from s1kit.train.base import base_folder
from s1kit.train.flops import CARD_GIB, PEAK_TFLOPS, training_flops
from s1kit.train.measured import efficiency
from s1kit.train.shapes import SHAPES, Shape

NVLINK_GBYTES = 300.0
"""Within a node, a card, reached by collectives: two thirds of an H100's 450 GB/s each way."""

RECOMPUTED = {"none": 0.0, "selective": 0.5, "full": 1.0}
"""Share of the forward pass that is done again: every other matrix product, or all."""

PAPER = Train(
    base="hf:Qwen/Qwen2.5-32B-Instruct",
    micro_batch_tokens=8,
    layout=Layout(activation_checkpointing="full", reshard_after_forward=True),
)
"""The reference run as launched (train/sft.sh): a sequence a card, everything recomputed; it took 26 minutes."""

CPU_GFLOPS = 40.0
"""Of one core at the tiny model, measured on an AVX2 server core; for recipes that train on a CPU."""


@dataclass(frozen=True)
class Estimate:
    """One training, reckoned."""

    seconds: float
    mfu: float
    memory_gib: float
    """Of the fullest card."""
    balance: float
    """Share of the cards' time that is work, not waiting for the busiest."""
    recompute: float
    """Operations done over operations needed."""
    exposed_seconds: float
    """Traffic that does not hide behind operations."""
    source: str
    """Where the efficiency comes from."""
    cards: int

    def dollars(self, per_card_hour: float) -> float:
        return self.seconds / 3600 * self.cards * per_card_hour


def estimate_train(recipe: Recipe) -> list[str]:
    """Lines for people. Raises InputError for a card or a base that is not known."""
    train = recipe.train
    shape = shape_of(train.base)
    lengths, told = sample_lengths(recipe)
    layout, cluster = train.layout, train.layout.cluster
    num_tokens = sum(lengths) * train.epochs
    head = f"{len(lengths):,} samples, {num_tokens / 1e6:,.2f}M tokens in {train.epochs} epochs ({told})"
    if shape.parameters < 5e7:
        seconds = training_flops(shape, lengths) * train.epochs / (CPU_GFLOPS * 1e9)
        return [head, f"{shape.parameters / 1e6:.1f}M parameters: about {seconds:,.0f} s on one CPU core"]
    found = estimate(shape, lengths, train, cluster)
    lines = [
        head,
        f"{shape.parameters / 1e9:.1f}B parameters on {cluster.num_cards} {cluster.card}: "
        f"{found.seconds / 60:.1f} minutes, ${found.dollars(layout.dollars_per_gpu_hour):.2f} "
        f"at ${layout.dollars_per_gpu_hour:.2f} a card and hour; MFU {found.mfu:.0%}",
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
            f"the paper's own settings on 16 H100, reckoned the same way: {paper.seconds / 60:.0f} minutes; it took 26"
        )
    return lines


def estimate(shape: Shape, lengths: Sequence[int], train: Train, cluster: Cluster) -> Estimate:
    """Reckon a training on a cluster. Raises InputError for an unknown card."""
    layout = train.layout
    rows = max(1, cluster.num_cards // layout.context_parallel)
    steps = packing.batches(len(lengths), train.batch_size, 1, train.max_steps, seed=0)
    factor = 1 + RECOMPUTED[layout.activation_checkpointing] / 3
    measured = efficiency(shape.parameters / 1e9, sum(lengths) / len(lengths))
    speed = peak(cluster.card) * 1e12 * (cluster.efficiency or measured.hfu)
    busy = waiting = exposed = 0.0
    longest_row = 0
    for members in steps:
        batch = [lengths[i] for i in members]
        for micro in packing.pack(batch, rows, train.micro_batch_tokens * layout.context_parallel):
            costs = [_row_flops(shape, [batch[i] for i in row], train) * factor for row in micro]
            tokens = max(sum(batch[i] for i in row) for row in micro)
            longest_row = max(longest_row, -(-tokens // layout.context_parallel))
            operations = max(costs) / layout.context_parallel / speed
            busy += sum(costs) / len(costs) / layout.context_parallel / speed
            waiting += operations
            # Four fifths of the operations can hide traffic; the first layer and the loss cannot.
            exposed += max(0.0, weight_traffic(shape, train, cluster) - 0.8 * operations)
            exposed += exchange_traffic(shape, tokens, train)
    epochs = train.epochs if train.max_steps is None else 1
    seconds = (waiting + exposed) * epochs
    needed = sum(_row_flops(shape, [lengths[i] for i in m], train) for m in steps) * epochs
    return Estimate(
        seconds=seconds,
        mfu=needed / (seconds * cluster.num_cards * peak(cluster.card) * 1e12),
        memory_gib=memory_gib(shape, train, cluster.num_cards, longest_row),
        balance=busy / waiting,
        recompute=factor,
        exposed_seconds=exposed * epochs,
        source="train.layout.cluster.efficiency" if cluster.efficiency else measured.source,
        cards=cluster.num_cards,
    )


def _row_flops(shape: Shape, lengths: Iterable[int], train: Train) -> float:
    return training_flops(shape, lengths, train.lora is not None)


def weight_traffic(shape: Shape, train: Train, cluster: Cluster) -> float:
    """Seconds to gather the weights twice (bf16) and add up the gradients (float32), once a micro-batch."""
    if cluster.num_cards == 1:
        return 0.0
    gathers = 2 if train.layout.reshard_after_forward else 1
    gradients = 0.0 if train.lora is not None else 4.0
    nbytes = shape.parameters * (2 * gathers + gradients)
    within = nbytes / (NVLINK_GBYTES * 1e9)
    if cluster.num_cards <= cluster.cards_per_node:
        return within
    node_bytes_per_second = cluster.network_gbps / 8 * 1e9 * cluster.cards_per_node
    across = shape.parameters * gradients if train.layout.shard == "node" else nbytes
    return max(within, across / node_bytes_per_second)


def exchange_traffic(shape: Shape, row_tokens: int, train: Train) -> float:
    """Seconds to exchange heads for tokens and back, forward, backward and again, for one row."""
    parts = train.layout.context_parallel
    if parts == 1:
        return 0.0
    key_values = 2 * shape.attention_size * shape.num_key_value_heads / shape.num_attention_heads
    once = (2 * shape.attention_size + key_values) * 2 * row_tokens / parts * (parts - 1) / parts
    passes = 2 + (1 if train.layout.activation_checkpointing == "full" else 0)
    return once * passes * shape.num_hidden_layers / (NVLINK_GBYTES * 1e9)


def memory_gib(shape: Shape, train: Train, num_cards: int, row_tokens: int) -> float:
    """GiB on a card with `row_tokens` tokens of a row: weights and optimiser, activations, the largest buffers."""
    master = 4 if train.layout.master_dtype == "float32" else 2
    trained = shape.parameters
    if train.lora is not None:
        trained = lora_parameters(shape, train.lora.rank)
        frozen = shape.parameters * (0.55 if train.lora.quantize else master)
    else:
        frozen = 0
    gradient = 4 if train.layout.master_dtype == "float32" else 2
    state = (frozen + trained * (3 * master + gradient)) / num_cards
    width, inner = shape.hidden_size, shape.intermediate_size
    heads = shape.attention_size * (1 + 2 * shape.num_key_value_heads / shape.num_attention_heads)
    # bf16 inputs of every product, norms in float32; of recomputed layers only the input.
    layer = 2 * (8 * width + 2 * heads + shape.attention_size + 4 * inner)
    kept = {
        "none": layer,
        "selective": 2 * (width + heads + shape.attention_size + inner + width),
        "full": 2 * width,
    }[train.layout.activation_checkpointing]
    activations = row_tokens * (kept * shape.num_hidden_layers + layer)
    edge = shape.vocab_size * width * (1 if shape.tie_word_embeddings else 2)
    gathered = (
        0 if num_cards == 1 else 2 * edge + 4 * edge + 3 * 2 * shape.layer_parameters + 4 * shape.layer_parameters
    )
    loss = 10 * train.layout.loss_chunk_tokens * shape.vocab_size + 4 * shape.vocab_size * width
    return (state + activations + gathered + loss) / 2**30 + 2.0  # the CUDA context and NCCL's buffers


def lora_parameters(shape: Shape, rank: int) -> int:
    """Of adapters on every linear layer."""
    width, inner, heads = shape.hidden_size, shape.intermediate_size, shape.attention_size
    key_values = heads * shape.num_key_value_heads // shape.num_attention_heads
    sides = 2 * (width + heads) + 2 * (width + key_values) + 3 * (width + inner)
    return shape.num_hidden_layers * rank * sides


def fits(found: Estimate, cluster: Cluster) -> bool:
    return found.memory_gib <= 0.94 * card_gib(cluster.card)


def advice(shape: Shape, lengths: Sequence[int], train: Train, cluster: Cluster) -> str:
    """The first change that makes it fit."""
    layout = train.layout
    heads = shape.num_attention_heads
    changes: list[tuple[str, Train, Cluster]] = []

    def with_layout(**more: object) -> Train:
        return train.model_copy(update={"layout": layout.model_copy(update=more)})

    for how in ("selective", "full"):
        changes.append(
            (f"set train.layout.activation_checkpointing={how}", with_layout(activation_checkpointing=how), cluster)
        )
    for parts in (2, 4, 8, 16):
        if parts > layout.context_parallel and heads % parts == 0 and cluster.num_cards % parts == 0:
            tokens = max(8, train.micro_batch_tokens * layout.context_parallel // parts)
            both = with_layout(activation_checkpointing="full", context_parallel=parts)
            changes.append(
                (
                    f"set train.layout.activation_checkpointing=full train.layout.context_parallel={parts} "
                    f"train.micro_batch_tokens={tokens}",
                    both.model_copy(update={"micro_batch_tokens": tokens}),
                    cluster,
                )
            )
    halved = with_layout(activation_checkpointing="full", master_dtype="bfloat16")
    changes.append(
        ("set train.layout.activation_checkpointing=full train.layout.master_dtype=bfloat16", halved, cluster)
    )
    for factor in (2, 4, 8):
        more = cluster.model_copy(update={"num_cards": cluster.num_cards * factor})
        changes.append((f"take {more.num_cards} cards", with_layout(activation_checkpointing="full"), more))
    for text, changed, on in changes:
        if fits(estimate(shape, lengths, changed, on), on):
            return text
    return "train adapters with train.lora.rank=64, or take larger cards"


def fastest(shape: Shape, lengths: Sequence[int], train: Train, cluster: Cluster) -> tuple[str, Estimate] | None:
    """The layout that fits and takes the least time, as settings; None when none fits."""
    best: tuple[str, Estimate] | None = None
    parts = [p for p in (1, 2, 4, 8) if cluster.num_cards % p == 0 and shape.num_attention_heads % p == 0]
    for how in RECOMPUTED:
        for p in parts:
            for tokens in (2048, 4096, 8192, 16384):
                layout = train.layout.model_copy(update={"activation_checkpointing": how, "context_parallel": p})
                tried = train.model_copy(update={"layout": layout, "micro_batch_tokens": tokens})
                found = estimate(shape, lengths, tried, cluster)
                if fits(found, cluster) and (best is None or found.seconds < best[1].seconds):
                    text = f"activation_checkpointing={how} context_parallel={p}, micro_batch_tokens={tokens}"
                    best = text, found
    return best


def check_card(shape: Shape, lengths: Sequence[int], train: Train, num_cards: int) -> None:
    """Raises InputError, with the setting that helps, when the training cannot fit the cards that are there."""
    import torch

    gib = torch.cuda.mem_get_info()[1] / 2**30
    tokens = max(train.micro_batch_tokens, -(-max(lengths) // train.layout.context_parallel))
    needed = memory_gib(shape, train, num_cards, tokens)
    if needed > gib:
        cluster = train.layout.cluster.model_copy(update={"num_cards": num_cards})
        raise InputError(
            f"training needs some {needed:.0f} GiB on each of {num_cards} cards, which have {gib:.0f}",
            where="train",
            fix=advice(shape, lengths, train, cluster).capitalize() + ".",
        )


def shape_of(base: str) -> Shape:
    """The shape of `train.base`, without loading it; InputError when it cannot be known."""
    name = base.partition(":")[2].rpartition("/")[2].lower().removesuffix("-instruct")
    if name in SHAPES:
        return SHAPES[name]
    _, folder = base_folder(base)
    path = Path(folder) / "config.json"
    if not path.is_file():
        fix = f"Download it first, or give one of: {', '.join(SHAPES)}."
        raise InputError(f"the shape of {base!r} is not known", where="train.base", fix=fix)
    return Shape.of_config(json.loads(path.read_text(encoding="utf-8")))


def sample_lengths(recipe: Recipe) -> tuple[list[int], str]:
    """Tokens of each sample: of the run's own where curation is done, else as s1K's are spread.

    s1K: 4.7K tokens of thinking on average (Table 5), 74 % of the samples above 4,096 tokens in all (Table 7): a
    log-normal with a deviation of 0.35, 5.45M tokens.
    """
    files = sorted((recipe.folder / "curate").glob("samples-*.parquet"))
    if (recipe.folder / "curate" / "receipt.json").exists() and files:
        from s1kit.train.export import read_samples

        traces = [s.trace for s in read_samples(recipe.folder)]
        # Some 3.5 characters a token of English and mathematics.
        return [
            t.thinking_tokens + int((len(t.question.text) + len(t.answer)) / 3.5) + 12 for t in traces
        ], "from the run's samples"
    num = recipe.curate.num
    if recipe.train.base == "tiny-base":
        return [215] * num, "some 215 each, as the built-in teacher writes"
    spread, above = 0.35, 0.74
    normal = NormalDist(math.log(4096) - spread * NormalDist().inv_cdf(1 - above), spread)
    lengths = [int(math.exp(normal.inv_cdf((i + 0.5) / num))) for i in range(num)]
    return [min(n, recipe.train.max_length) for n in lengths], "spread like s1K's; curate first for your own"


def peak(card: str) -> float:
    """TFLOP/s; InputError, listing the known, for another card."""
    if card not in PEAK_TFLOPS:
        raise InputError(f"unknown card {card!r}", where="train.layout.cluster.card", fix=nearest(card, PEAK_TFLOPS))
    return PEAK_TFLOPS[card]


def card_gib(card: str) -> float:
    peak(card)
    return CARD_GIB.get(card, 80.0)
