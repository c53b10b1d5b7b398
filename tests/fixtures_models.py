"""A tiny random Qwen2 with a byte-level tokenizer, made on the spot: enough to drive engines, knows nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from s1kit import load_engine

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
WORDS = ("think", "answer", "user", "assistant", "Wait", "Final", " Answer", ":", "\n\n")


def write_tokenizer(folder: Path, specials: tuple[str, ...] = SPECIALS) -> None:
    """A byte-level BPE tokenizer whose merges make a few words one token each."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from tokenizers.pre_tokenizers import ByteLevel

    symbols = sorted(ByteLevel.alphabet())
    vocabulary = {s: i for i, s in enumerate(symbols)}
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        piece = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(word)[0][0]
        for end in range(2, len(piece) + 1):
            pair = (piece[: end - 1], piece[end - 1])
            if pair not in merges:
                merges.append(pair)
                vocabulary.setdefault(piece[:end], len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(specials))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def write_random_checkpoint(
    folder: Path,
    context: int = 512,
    seed: int = 0,
    specials: tuple[str, ...] = SPECIALS,
    scale: float = 0.6,
    head_width: int = 8,
) -> Path:
    """A Hugging Face Qwen2 folder: 2 layers of 4 heads, random weights, large enough to make lively logits."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    write_tokenizer(folder, specials)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=4 * head_width,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=scale,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        # Long output rows win often: the model tries to stop every few tokens, which is what tests of forcing need.
        model.lm_head.weight[-len(specials) :] *= 4.0
    model.save_pretrained(folder)
    return folder


def write_random_model(folder: Path, model_type: str, **settings: Any) -> Path:
    """A checkpoint of another architecture with the same tokenizer, in float32; knows nothing."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    write_tokenizer(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **(shape | settings)))
    with torch.no_grad():
        # Norms that are not all one: what is added to them or left out then shows.
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    return folder


QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen2's tokenizer takes text apart, which llama.cpp does by itself."""


def write_plain_checkpoint(folder: Path) -> Path:
    """A model for servers that exchange text: it writes letters that never merge, and delimiters that text shows.

    What it writes is then tokenised again as it was, so its transcripts must be those of an engine with ids. (With the
    newlines of Qwen3's own delimiters they would not be: two that meet become one token.)
    """
    import torch
    from transformers import Qwen2ForCausalLM

    from s1kit.forcing.formats import FORMATS

    write_random_checkpoint(folder, head_width=32, specials=(*SPECIALS, "<think>", "</think>"))
    path = folder / "tokenizer.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    for token in raw["added_tokens"][-2:]:
        token["special"] = False  # shown in text, as Qwen3's are
    split = {"type": "Split", "pattern": {"Regex": QWEN2_WORDS}, "behavior": "Isolated", "invert": False}
    letters = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    raw["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, letters]}
    path.write_text(json.dumps(raw), encoding="utf-8")
    replace(FORMATS["qwen3"], name="plain", lead="", open="<think>", end="</think>").save(folder)
    ids = {t["content"]: t["id"] for t in raw["added_tokens"]} | raw["model"]["vocab"]
    kept = [ids[t] for t in ("<think>", "</think>", "<|im_end|>", *"bcdgjlmopqvxyzBCD0123456789")]
    model = Qwen2ForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        weight = model.lm_head.weight
        others = torch.ones(len(weight), dtype=torch.bool)
        others[kept] = False
        weight[others] = 0.0
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `hf:` takes it."""
    return write_random_checkpoint(tmp_path_factory.mktemp("tiny_random"))


@pytest.fixture(scope="session")
def think_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with `<think>` and `</think>` as tokens."""
    specials = (*SPECIALS, "<think>", "</think>")
    return write_random_checkpoint(tmp_path_factory.mktemp("tiny_think"), specials=specials, seed=1)


@pytest.fixture(scope="module")
def engine(tiny_random_checkpoint: Path) -> Any:
    """The engine `hf:` on the tiny random checkpoint; some files define another engine under this name."""
    return load_engine(f"hf:{tiny_random_checkpoint}")


@pytest.fixture(scope="module")
def think_engine(think_checkpoint: Path) -> Any:
    """The same on the checkpoint with `<think>` and `</think>`."""
    return load_engine(f"hf:{think_checkpoint}")


@pytest.fixture(scope="session")
def shown_think_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer as Qwen3's: `<think>` and `</think>` are tokens but not special, so a server shows them in text."""
    folder = tmp_path_factory.mktemp("shown_think")
    write_tokenizer(folder, (*SPECIALS, "<think>", "</think>"))
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    for token in content["added_tokens"]:
        token["special"] = "think" not in token["content"]
    path.write_text(json.dumps(content))
    return folder
