"""What would make a training fit its cards, and which layout is the fastest that does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from s1kit.engines.machine import free_bytes
from s1kit.errors import InputError
from s1kit.recipe import Cluster, Lora, Train
from s1kit.train.cost import RECOMPUTED, TrainingEstimate, card_gib, estimate, memory_gib
from s1kit.train.shapes import Shape


def fits(found: TrainingEstimate, cluster: Cluster) -> bool:
    """Whether the fullest card needs at most 94 % of its memory, by the estimate."""
    return found.memory_gib <= 0.94 * card_gib(cluster.card)


Change = tuple[str, Train, Cluster]
"""What to do, and what training and cluster are then."""


def advice(shape: Shape, lengths: Sequence[int], train: Train, cluster: Cluster) -> str:
    """The smallest change of layout that makes it fit; where none does, how many more cards, and which adapters."""

    def first(changes: Iterable[Change]) -> list[str]:
        fitting = (text for text, changed, on in changes if fits(estimate(shape, lengths, changed, on), on))
        return list(islice(fitting, 1))

    found = first(_layouts(shape, train, cluster))
    found = found or first(_more_cards(shape, train, cluster)) + first(_adapters(train, cluster))
    return ", or ".join(found) or "take larger cards or a smaller model"


def _layouts(shape: Shape, train: Train, cluster: Cluster) -> Iterator[Change]:
    full = _with_layout(train, activation_checkpointing="full")
    yield (
        "set train.layout.activation_checkpointing=selective",
        _with_layout(train, activation_checkpointing="selective"),
        cluster,
    )
    yield "set train.layout.activation_checkpointing=full", full, cluster
    for changed, text in _shared_rows(shape, full, cluster):
        yield f"set train.layout.activation_checkpointing=full {text}", changed, cluster
    halved = _with_layout(full, master_dtype="bfloat16")
    yield "set train.layout.activation_checkpointing=full train.layout.master_dtype=bfloat16", halved, cluster


def _more_cards(shape: Shape, train: Train, cluster: Cluster) -> Iterator[Change]:
    full = _with_layout(train, activation_checkpointing="full")
    for factor in (2, 4, 8, 16):
        more = cluster.model_copy(update={"num_cards": cluster.num_cards * factor})
        yield f"take {more.num_cards} cards and set train.layout.activation_checkpointing=full", full, more
        for changed, text in _shared_rows(shape, full, more):
            yield (
                f"take {more.num_cards} cards and set train.layout.activation_checkpointing=full {text}",
                changed,
                more,
            )


def _adapters(train: Train, cluster: Cluster) -> Iterator[Change]:
    rank = "train.layout.activation_checkpointing=full train.lora.rank=64"
    full = _with_layout(train, activation_checkpointing="full")
    adapters = full.model_copy(update={"lora": Lora(rank=64, alpha=128)})
    yield f"train adapters: set {rank}", adapters, cluster
    halved = _with_layout(adapters, master_dtype="bfloat16")
    yield f"train adapters: set {rank} train.layout.master_dtype=bfloat16", halved, cluster
    if cluster.num_cards == 1:
        quantized = full.model_copy(update={"lora": Lora(rank=64, alpha=128, quantize=True)})
        yield f"train adapters on a base of 4 bits: set {rank} train.lora.quantize=true", quantized, cluster


def _with_layout(train: Train, **more: object) -> Train:
    return train.model_copy(update={"layout": train.layout.model_copy(update=more)})


def _shared_rows(shape: Shape, train: Train, cluster: Cluster) -> Iterator[tuple[Train, str]]:
    """More cards to a row, each with fewer of its tokens."""
    now = train.layout.context_parallel
    for parts in (2, 4, 8, 16):
        if parts > now and shape.num_attention_heads % parts == 0 and cluster.num_cards % parts == 0:
            tokens = max(8, train.micro_batch_tokens * now // parts)
            changed = _with_layout(train, context_parallel=parts).model_copy(update={"micro_batch_tokens": tokens})
            yield changed, f"train.layout.context_parallel={parts} train.micro_batch_tokens={tokens}"


def fastest(
    shape: Shape, lengths: Sequence[int], train: Train, cluster: Cluster
) -> tuple[str, TrainingEstimate] | None:
    """The layout that fits and takes the least time, as settings; None when none fits."""
    best: tuple[str, TrainingEstimate] | None = None
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
    gib = free_bytes() / 2**30
    tokens = max(train.micro_batch_tokens, -(-max(lengths) // train.layout.context_parallel))
    needed = memory_gib(shape, train, num_cards, tokens)
    if needed > gib:
        cluster = train.layout.cluster.model_copy(update={"num_cards": num_cards})
        raise InputError(
            f"training needs some {needed:.0f} GiB on each of {num_cards} cards, which have {gib:.0f} free",
            where="train",
            fix=advice(shape, lengths, train, cluster).capitalize() + ".",
        )
