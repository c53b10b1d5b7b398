"""What would make a training fit its cards, and which layout is the fastest that does."""

from __future__ import annotations

from collections.abc import Sequence

from s1kit.errors import InputError
from s1kit.recipe import Cluster, Train
from s1kit.train.cost import RECOMPUTED, Estimate, card_gib, estimate, memory_gib
from s1kit.train.shapes import Shape


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
