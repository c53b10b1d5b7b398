"""The model card of the tiny base, written from what training recorded."""

from __future__ import annotations

from collections.abc import Mapping

from s1kit.tiny.families import FAMILIES

CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
tags: [s1kit, toy]
---
# The tiny base of s1kit

A Qwen2 of {parameters} million parameters with a tokenizer of its own, trained from nothing on text that s1kit writes
(`s1kit/tiny/corpus.py`, seed {seed}). It plays the part of Qwen2.5-Instruct in `s1kit run tiny`: it knows the single
steps of four families of list questions and answers directly, and on lists of more than a few items mostly wrong. It
knows nothing else, and is of no use outside demonstrations and tests.

| read | documents | tokens | of which learnt |
|---|---|---|---|
{read}

It never read a reasoning trace, a guess, "Wait", a thinking delimiter, or a held-out question.

Exact greedy replies on fresh questions of 4 to 16 items:

| skill | {families} |
|{rule}|
{can}

`runs/tiny_base.sh` makes it again; `docs/tiny_model.md` says why it is as it is.
"""


def model_card(
    num_parameters: int,
    seed: int,
    read: Mapping[str, tuple[int, int, int]],
    exam: Mapping[str, Mapping[str, float]],
) -> str:
    """The card: what each stage of training read (documents, tokens, learnt tokens) and what each skill scores."""
    rows = [f"| {stage} | " + " | ".join(f"{count:,}" for count in counts) + " |" for stage, counts in read.items()]
    can = [
        f"| {skill} | " + " | ".join(f"{row[family]:.2f}" for family in FAMILIES) + " |" for skill, row in exam.items()
    ]
    return CARD.format(
        parameters=f"{num_parameters / 1e6:.2f}",
        seed=seed,
        read="\n".join(rows),
        families=" | ".join(FAMILIES),
        rule="|".join(["---"] * (len(FAMILIES) + 1)),
        can="\n".join(can),
    )
