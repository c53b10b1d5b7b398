"""What one training costs on a cluster: seconds, memory, and the terms they are made of. Arithmetic only.

A step lasts as long as its busiest card: operations (recomputed ones too) over peak times efficiency, plus the exchange
of heads within a row, plus what of the weights' traffic does not hide behind the operations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from s1kit.errors import InputError, nearest
from s1kit.recipe import Cluster, Train
from s1kit.train import packing
from s1kit.train.flops import CARD_GIB, PEAK_TFLOPS, efficiency, training_flops
from s1kit.train.shapes import Shape

NVLINK_GBYTES = 300.0
"""Within a node, a card, reached by collectives: two thirds of an H100's 450 GB/s each way."""

CONTEXT_GIB = 2.0
"""The CUDA context, NCCL's buffers and what the allocator cannot use."""

RECOMPUTED = {"none": 0.0, "selective": 0.5, "full": 1.0}
"""Share of the forward pass that is done again: every other matrix product, or all."""


@dataclass(frozen=True)
class TrainingEstimate:
    """Estimated time, memory and efficiency of one training run."""

    seconds: float
    mfu: float
    memory_gib: float
    """Memory used on the fullest card."""
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
        """What it costs at a price for one card and hour."""
        return self.seconds / 3600 * self.cards * per_card_hour


def estimate(shape: Shape, lengths: Sequence[int], train: Train, cluster: Cluster) -> TrainingEstimate:
    """Estimate a training on a cluster. Raises InputError for an unknown card."""
    layout = train.layout
    rows = max(1, cluster.num_cards // layout.context_parallel)
    num_epochs = 1 if train.max_steps is None else train.epochs
    steps = packing.batches(len(lengths), train.batch_size, num_epochs, train.max_steps, seed=0)
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
    return TrainingEstimate(
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
    width, inner = shape.hidden_size, shape.intermediate_size
    edge = shape.vocab_size * width * (1 if shape.tie_word_embeddings else 2)
    # Whole again in bf16 at the fullest moment, the loss: embedding and output matrix, and two layers under way.
    gathered = 2 * edge + 2 * 2 * shape.layer_parameters
    trained, frozen, head_gradient = shape.parameters, 0.0, 4 * shape.vocab_size * width
    if train.lora is not None:
        trained, frozen, head_gradient = lora_parameters(shape, train.lora.rank), float(shape.parameters * master), 0
        if train.lora.quantize:  # the layers in 4 bits and their scales, the edges in bf16; nothing is sharded
            frozen, gathered = 0.55 * shape.num_hidden_layers * shape.layer_parameters + 2 * edge, 0
    gradient = 4 if train.layout.master_dtype == "float32" else 2
    state = (frozen + trained * (3 * master + gradient)) / num_cards
    heads = shape.attention_size * (1 + 2 * shape.num_key_value_heads / shape.num_attention_heads)
    # bf16 inputs of every product, norms in float32; of recomputed layers only the input.
    layer = 2 * (8 * width + 2 * heads + shape.attention_size + 4 * inner)
    kept = {
        "none": layer,
        "selective": 2 * (width + heads + shape.attention_size + inner + width),
        "full": 2 * width,
    }[train.layout.activation_checkpointing]
    activations = row_tokens * (kept * shape.num_hidden_layers + layer)
    loss = 10 * train.layout.loss_chunk_tokens * shape.vocab_size + head_gradient
    return (state + activations + gathered + loss) / 2**30 + CONTEXT_GIB


def lora_parameters(shape: Shape, rank: int) -> int:
    """Parameters of LoRA adapters on every linear layer."""
    width, inner, heads = shape.hidden_size, shape.intermediate_size, shape.attention_size
    key_values = heads * shape.num_key_value_heads // shape.num_attention_heads
    sides = 2 * (width + heads) + 2 * (width + key_values) + 3 * (width + inner)
    return shape.num_hidden_layers * rank * sides


def peak(card: str) -> float:
    """The peak of a card, TFLOP/s. Raises InputError, listing the known, for another."""
    if card not in PEAK_TFLOPS:
        raise InputError(f"unknown card {card!r}", where="train.layout.cluster.card", fix=nearest(card, PEAK_TFLOPS))
    return PEAK_TFLOPS[card]


def card_gib(card: str) -> float:
    """Memory of a card in GiB, 80 where it is not listed. Raises InputError as `peak` does."""
    peak(card)
    return CARD_GIB.get(card, 80.0)
