"""The tiny model's tokenizer: byte-level BPE, so that any text survives, with one token for each word of its world.

A token never reaches over a line's end, so text cut at a newline has the same tokens as its parts: what the model sees
while its thinking is forced is what it was trained on.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from s1kit.tiny.families import FAMILIES, LETTERS, MAX_ITEMS, NUM_CUPS, write_puzzle
from s1kit.tiny.teacher import ALL_DONE, CORRECTION, GO_ON

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
# A word may carry one space and one sign before it, and a pair such as 2&5 is one word; other signs go together; a
# newline always stands alone.
WORDS = r" ?[#+-]?\w+(?:&\w+)?| ?[^\s\w]+|\s"
# Qwen2.5's template without its default system message, which would cost a third of the context here.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def build_tokenizer() -> Tokenizer:
    """The tokenizer, trained on the words of the tiny world alone; the same every time."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048,  # not reached: training ends when every word is whole
        min_frequency=1,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(world_lines(), trainer)
    return tokenizer


def world_lines() -> list[str]:
    """Lines that contain every word of the questions, the teacher and the base corpus, spaced as they are there."""
    lines = ["system", "user", "assistant", "think", "answer", "Final Answer: 0", "I am not sure.", "Maybe 0.", "So 0."]
    lines += [GO_ON, ALL_DONE, CORRECTION, "#1 at 0 until #2", "until #2", "now", "at 0", "#1 end", "#1 end: 0"]
    numbers = range(MAX_ITEMS + 2)
    lines += [f"#{n} {n} #{n}" for n in numbers] + [f"{n}" for n in numbers]
    lines += [f"{letter} {letter}?" for letter in LETTERS] + [f" +{n} -{n}" for n in range(1, 6)]
    lines += [f"#1 {left}&{right}" for left in range(1, NUM_CUPS) for right in range(left + 1, NUM_CUPS + 1)]
    random = Random(0)
    for family in FAMILIES.values():
        for wording in range(len(family.wordings)):
            lines += write_puzzle(family.draw(random, MAX_ITEMS), wording).split("\n")
    return [*lines, "0 + 0 -> 0", "0: a? yes -> 1", "0: a? no -> 0", "1 in -> 2", "1 out -> 1"]


def save_tokenizer(folder: Path) -> None:
    """Writes `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja`, as transformers reads them."""
    build_tokenizer().save(str(folder / "tokenizer.json"))
    config = {
        # For a Qwen2 model transformers 5 takes Qwen2Tokenizer whatever stands here, and with it Qwen's own splitting,
        # unless code of the folder's own is named too. That code does not exist and is never looked for: without
        # `trust_remote_code` transformers falls back to the class that is named first.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "auto_map": {"AutoTokenizer": [None, "tokenization.PreTrainedTokenizerFast"]},
        "eos_token": END,
        "pad_token": PAD,
        "additional_special_tokens": [START],
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1024,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
