"""A small sentence model, trained here: for trying tier `semantic` where no published one can be had.

    python bench/sentence_model.py FOLDER POOL [POOL ...] [--steps 200]     # POOL: globs of files of questions

Two layers of 128, a WordPiece vocabulary of 8,000. It learns to find a question's own worked solution, and the question
itself with a third of its words left out, among those of 127 others (InfoNCE). It knows the words of its pool and
little else; all-MiniLM-L6-v2 was trained on a billion pairs.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from s1kit.questions import read_questions

BATCH, MAX_TOKENS, TEMPERATURE = 128, 96, 0.05
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def write_tokenizer(folder: Path, texts: list[str]) -> None:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=8000, special_tokens=SPECIALS))
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=256, pad_token="[PAD]", unk_token="[UNK]",
        cls_token="[CLS]", sep_token="[SEP]",
    )  # fmt: skip
    fast.save_pretrained(folder)


def embed(model: Any, tokenizer: Any, texts: list[str]) -> torch.Tensor:
    padded = tokenizer(texts, truncation=True, max_length=MAX_TOKENS, padding=True, return_tensors="pt")
    hidden = model(input_ids=padded["input_ids"], attention_mask=padded["attention_mask"]).last_hidden_state
    mask = padded["attention_mask"].unsqueeze(-1)
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


def thinned(text: str, draw: random.Random) -> str:
    return " ".join(word for word in text.split() if draw.random() > 1 / 3) or text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("pool", nargs="+")
    parser.add_argument("--steps", type=int, default=200)
    given = parser.parse_args()
    draw = random.Random(0)
    torch.manual_seed(0)
    pairs = [(q.text, q.solution or "") for pattern in given.pool for q in read_questions(pattern)]
    solved = [pair for pair in pairs if len(pair[1]) > 80]
    write_tokenizer(given.folder, [text for pair in pairs for text in pair])
    tokenizer = AutoTokenizer.from_pretrained(given.folder)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=128, num_hidden_layers=2, num_attention_heads=4, intermediate_size=512,
        max_position_embeddings=256, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pad_token_id=0,
    )  # fmt: skip
    model = BertModel(config, add_pooling_layer=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=given.steps, pct_start=0.1)
    start = time.monotonic()
    for step in range(given.steps):
        if step % 2:
            questions, others = map(list, zip(*draw.sample(solved, BATCH), strict=True))
        else:
            questions = [question for question, _ in draw.sample(pairs, BATCH)]
            others = [thinned(question, draw) for question in questions]
        scores = embed(model, tokenizer, questions) @ embed(model, tokenizer, others).T / TEMPERATURE
        target = torch.arange(BATCH)
        loss = (
            torch.nn.functional.cross_entropy(scores, target) + torch.nn.functional.cross_entropy(scores.T, target)
        ) / 2
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 20 < 2:
            found = (scores.argmax(1) == target).float().mean()
            print(f"step {step} loss {loss:.3f} found {found:.2f} {time.monotonic() - start:.0f} s", flush=True)
    model.save_pretrained(given.folder)


if __name__ == "__main__":
    main()
