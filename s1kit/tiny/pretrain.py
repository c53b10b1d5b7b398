"""Pre-trains the tiny base model: copying, then single steps. `python -m s1kit.tiny.pretrain FOLDER` writes it.

It is an ordinary Qwen2ForCausalLM of about a million parameters, so that the same loaders, trainer and engines serve it
and Qwen2.5-32B. What it reads is in `corpus`; what it can then do is examined skill by skill and written beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import Qwen2Config, Qwen2ForCausalLM

from s1kit.tiny.corpus import Document, copying_document, first_steps, lesson, practice, repeated_list, short_question
from s1kit.tiny.exam import examine
from s1kit.tiny.families import FAMILIES
from s1kit.tiny.tokenizer import END, PAD, build_tokenizer, save_tokenizer

IGNORED = -100


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


@dataclass(frozen=True)
class Curriculum:
    """What a base model is made of."""

    seed: int = 0
    repeating_steps: int = 500
    copying_steps: int = 1300
    """Steps of the curriculum: lists in order, then lines in any order; lookup by number forms here."""
    lesson_steps: int = 4200
    practice_steps: int = 3000
    """Short questions, so that easy ones are answered right, in turn with conversations, with a rate of their own."""
    first_steps: int = 1200
    """The same with walks that begin from what the question states; without them one cup in four is misjudged there."""
    copying_batch: int = 8
    lesson_batch: int = 4
    short_batch: int = 32
    """Small batches learn faster per token here; a conversation is three times as long as a copying document."""
    learning_rate: float = 1e-3
    layers: int = 4
    width: int = 128
    inner_width: int = 256
    heads: int = 4


@dataclass
class Seen:
    """What the model has read so far."""

    documents: int = 0
    tokens: int = 0
    learnt_tokens: int = 0
    """The part of `tokens` whose prediction counted."""
    losses: list[tuple[int, float]] = field(default_factory=list)
    """Step and mean loss since the entry before."""


def new_model(plan: Curriculum, tokenizer: Tokenizer) -> Any:
    """A randomly initialised model for the tokenizer's vocabulary."""
    torch.manual_seed(plan.seed)
    config = Qwen2Config(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=plan.width,
        intermediate_size=plan.inner_width,
        num_hidden_layers=plan.layers,
        num_attention_heads=plan.heads,
        num_key_value_heads=plan.heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.08,
        use_cache=True,
        eos_token_id=tokenizer.token_to_id(END),
        pad_token_id=tokenizer.token_to_id(PAD),
        bos_token_id=None,
    )
    config.architectures = ["Qwen2ForCausalLM"]
    model = Qwen2ForCausalLM(config)
    # With Qwen's zero biases no head can attend by position alone at first, and copying takes several times as long.
    for name, parameter in model.named_parameters():
        if name.endswith(("q_proj.bias", "k_proj.bias")):
            torch.nn.init.normal_(parameter, std=1.0)
    return model


def encode(document: Document, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Token ids and labels of a document; part by part, which is safe because no token reaches over a newline."""
    ids: list[int] = []
    labels: list[int] = []
    for text, is_learnt in document.parts:
        part = tokenizer.encode(text).ids
        ids += part
        labels += part if is_learnt else [IGNORED] * len(part)
    return ids, labels


def batches(
    write: Callable[[Random], Document], random: Random, tokenizer: Tokenizer, batch_size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Right-padded batches without end; neighbours in length share a batch, so that little is padding."""
    while True:
        rows = [encode(write(random), tokenizer) for _ in range(16 * batch_size)]
        rows.sort(key=lambda row: len(row[0]))
        groups = [rows[at : at + batch_size] for at in range(0, len(rows), batch_size)]
        random.shuffle(groups)
        for group in groups:
            width = max(len(ids) for ids, _ in group)
            ids = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in group])
            labels = torch.tensor([labels + [IGNORED] * (width - len(labels)) for _, labels in group])
            yield ids, labels


@dataclass(frozen=True)
class PretrainPhase:
    """Kinds of documents, read in turn for so many steps."""

    name: str
    steps: int
    sources: tuple[tuple[Callable[[Random], Document], int], ...]
    """Each kind's writer and batch size."""


def phases(plan: Curriculum) -> list[tuple[float, list[PretrainPhase]]]:
    """What is read under one learning-rate schedule, and that schedule's peak."""
    curriculum = [
        PretrainPhase("repeating", plan.repeating_steps, ((repeated_list, plan.copying_batch),)),
        PretrainPhase("copying", plan.copying_steps, ((copying_document, plan.copying_batch),)),
        PretrainPhase("lessons", plan.lesson_steps, ((lesson, plan.lesson_batch),)),
    ]
    short = (short_question, plan.short_batch)
    practised, begun = (practice, plan.lesson_batch), (first_steps, plan.lesson_batch)
    return [
        (plan.learning_rate, curriculum),
        (plan.learning_rate / 2, [PretrainPhase("practice", plan.practice_steps, (short, practised, practised))]),
        (plan.learning_rate / 2, [PretrainPhase("first steps", plan.first_steps, (short, begun, begun, begun))]),
    ]


def pretrain(plan: Curriculum, report: Callable[[str], None] = print) -> tuple[Any, Tokenizer, dict[str, Seen]]:
    """Trains a base model; the same plan gives the same model on the same machine."""
    tokenizer = build_tokenizer()
    model = new_model(plan, tokenizer)
    seen: dict[str, Seen] = {}
    for number, (peak, stages) in enumerate(phases(plan)):
        train_phase(model, tokenizer, stages, peak, Random(plan.seed + number), seen, report)
    return model, tokenizer, seen


def train_phase(
    model: Any,
    tokenizer: Tokenizer,
    stages: Sequence[PretrainPhase],
    peak: float,
    random: Random,
    seen: dict[str, Seen],
    report: Callable[[str], None],
) -> None:
    """Trains on the stages in turn, with an optimizer and a cosine schedule of their own; fills in `seen`."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.95), weight_decay=0.01, fused=True)
    total = sum(stage.steps for stage in stages)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share_of_rate(step, total))
    for stage in stages:
        seen[stage.name] = Seen()
        kinds = [batches(write, random, tokenizer, batch_size) for write, batch_size in stage.sources]
        _train(model, optimizer, schedule, cycle(kinds), stage, seen[stage.name], report)


def _train(
    model: Any,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    kinds: Iterator[Iterator[tuple[torch.Tensor, torch.Tensor]]],
    stage: PretrainPhase,
    seen: Seen,
    report: Callable[[str], None],
) -> None:
    model.train()
    began, recent = time.monotonic(), []
    for step in range(1, stage.steps + 1):
        ids, labels = next(next(kinds))
        # Right padding after the last learnt token cannot reach it, so no attention mask is needed.
        loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        seen.documents += len(ids)
        seen.tokens += int((ids != 0).sum())
        seen.learnt_tokens += int((labels != IGNORED).sum())
        recent.append(loss.detach())
        if step % 200 == 0 or step == stage.steps:
            mean = float(torch.stack(recent).mean())
            recent.clear()
            seen.losses.append((step, round(mean, 4)))
            speed = seen.tokens / (time.monotonic() - began)
            report(f"{stage.name} step {step}/{stage.steps} loss {mean:.4f} tokens {seen.tokens:,} at {speed:,.0f}/s")


def _share_of_rate(step: int, total: int) -> float:
    warm_up = 100
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, total - warm_up)))


def save_checkpoint(folder: Path, model: Any, plan: Curriculum, seen: dict[str, Seen], exam: Any) -> None:
    """Writes the model, its tokenizer, and `pretraining.json` with what it read and what it can do."""
    folder.mkdir(parents=True, exist_ok=True)
    model.generation_config.update(do_sample=False)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    told = {"plan": asdict(plan), "seen": {stage: asdict(s) for stage, s in seen.items()}, "exact_replies": exam}
    read = {stage: (s.documents, s.tokens, s.learnt_tokens) for stage, s in seen.items()}
    card = model_card(model.num_parameters(), plan.seed, read, exam)
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / "pretraining.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Trains, examines and writes a base model."""
    parser = argparse.ArgumentParser(description="Pre-train the tiny base model.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=Curriculum.seed)
    args = parser.parse_args()
    torch.set_num_threads(1)  # two threads on a model this small spin against each other
    torch.use_deterministic_algorithms(True)
    plan = Curriculum(seed=args.seed)
    model, tokenizer, seen = pretrain(plan, report=lambda line: print(line, flush=True))
    exam = examine(model, tokenizer)
    for skill, row in exam.items():
        print(skill, " ".join(f"{family} {share:.2f}" for family, share in row.items()))
    save_checkpoint(args.folder, model, plan, seen, exam)


if __name__ == "__main__":
    main()


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
