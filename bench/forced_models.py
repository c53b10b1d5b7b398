"""Models for `forced_decoding.py`: random weights in real shapes that try to stop now and then, as reasoning models do.

Nothing there depends on what a model knows. It must be about as sure of its next token as a reasoning model is, and try
to stop at lengths that differ widely: every token is a stop with nearly one probability, so that lengths are geometric.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
    | {"num_key_value_heads": 4},
    "0.5b": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14}
    | {"num_key_value_heads": 2, "vocab_size": 151936},
    "1.5b": {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12}
    | {"num_key_value_heads": 2, "vocab_size": 151936},
    "7b": {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28}
    | {"num_key_value_heads": 4, "vocab_size": 152064},
}

ENTROPY = 0.7
"""Nats a token on random contexts, of the order of a reasoning model's; on what it said itself 1.2."""


def build(shape: str, tokenizer: Any, stop_every: float, device: str, context: int = 4096) -> Any:
    """A Qwen2 of that shape that samples its end of sequence every `stop_every` tokens on average, temperature 1."""
    config = Qwen2Config(
        max_position_embeddings=context,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **({"vocab_size": len(tokenizer)} | SHAPES[shape]),
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16 if device == "cuda" else torch.float32)
    with torch.device(device):
        model = Qwen2ForCausalLM(config).eval()
    torch.set_default_dtype(torch.float32)
    _teach_to_stop(model, tokenizer, stop_every)
    return model


def stop_exactly(model: Any, tokenizer: Any, stop_every: float) -> None:
    """Make every token a stop with just that probability at temperature 1, and no other special token possible.

    By a hook, in float32: in bfloat16 a taught row's logit is off by several tenths. Costs a pass over the logits.
    """
    eos = tokenizer.eos_token_id
    odds = -math.log(stop_every - 1)
    never = torch.zeros(model.lm_head.out_features, dtype=torch.bool, device=model.device)
    never[sorted(tokenizer.added_tokens_decoder)] = True
    never[len(tokenizer) :] = True

    def settle(_: Any, given: Any, logits: torch.Tensor) -> torch.Tensor:
        logits = logits.float().masked_fill_(never, -1e4)
        logits[..., eos] = logits.logsumexp(-1) + odds
        return logits

    model.lm_head.register_forward_hook(settle)


@torch.inference_mode()
def _teach_to_stop(model: Any, tokenizer: Any, stop_every: float) -> None:
    """Give all states a common direction, and the end of sequence an output row along it, of the right length."""
    head, embedding = model.lm_head.weight, model.model.embed_tokens.weight
    direction = torch.randn(head.shape[1], device=head.device, dtype=head.dtype)
    direction /= direction.norm()
    embedding += direction
    specials = torch.tensor(sorted(tokenizer.added_tokens_decoder), device=head.device)
    ids = torch.randint(0, len(tokenizer), (16, 16), device=head.device)
    head[specials] = direction
    logits = model(ids).logits.float()
    along = logits[..., tokenizer.eos_token_id].mean()
    logits[..., specials] = -torch.inf
    head *= _sharpening(logits[:, ::4].flatten(0, 1))
    head[specials] = direction * (-100 / along).to(head.dtype)
    # What it says itself is what it will have said: its states there, and no others, are those that count.
    said = model.generate(ids, do_sample=True, top_k=0, max_new_tokens=48, min_new_tokens=48, eos_token_id=None)
    logits = model(said).logits[:, 16:].float()
    along = -logits[..., tokenizer.eos_token_id].mean() / 100 * along
    # The mean over them of the probability of a stop is then one in so many.
    wanted = math.log(logits[..., 0].numel() / stop_every) - (-logits.logsumexp(-1)).flatten().logsumexp(0)
    head[tokenizer.eos_token_id] = direction * (wanted / along).to(head.dtype)


def _sharpening(logits: torch.Tensor) -> float:
    """What the logits `[row, vocabulary]` must be multiplied by for ENTROPY; random weights are almost uniform."""
    low, high = 0.0, 1e3
    for _ in range(30):
        middle = (low + high) / 2
        logs = (logits * middle).log_softmax(-1)
        entropy = -(logs.exp() * logs.nan_to_num(neginf=0.0)).sum(-1).mean()
        low, high = (middle, high) if entropy > ENTROPY else (low, middle)
    return high


def write(folder: Path, shape: str, tokenizer: Any, stop_every: float) -> Path:
    """The same as a checkpoint folder, for engines that load one; made once."""
    if not (folder / "config.json").is_file():
        build(shape, tokenizer, stop_every, "cpu").save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def bytes_of_a_pass(model: Any) -> tuple[int, int]:
    """What one decoding step must read at least: of weights, and for each token of context of each row."""
    config = model.config
    weights = sum(p.numel() * p.element_size() for n, p in model.named_parameters() if "embed_tokens" not in n)
    size = config.hidden_size // config.num_attention_heads
    return weights, 2 * config.num_hidden_layers * config.num_key_value_heads * size * model.dtype.itemsize
