"""Settings of the stage `train`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from s1kit.errors import InputError
from s1kit.recipe.config import Config


class Lora(Config):
    """Low-rank adapters on every linear layer, merged into the base when the checkpoint is written."""

    rank: int = Field(default=256, ge=1)
    """Schulman et al., "LoRA Without Regret" (2025): 256 on all linear layers, with ten times the learning rate."""
    alpha: float = Field(default=512, gt=0)
    """The adapters' output is scaled by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the adapters' inputs that is dropped in training."""
    quantize: bool = False
    """QLoRA: the frozen base in 4 bits (NF4); needs bitsandbytes and a CUDA card."""


class Cluster(Config):
    """The machines that `s1kit estimate` assumes; without this section, the one it runs on. Training itself takes
    what it finds."""

    card: str = "H100"
    """A name that s1kit/train/flops.py knows."""
    num_cards: int = Field(default=16, ge=1)
    """Cards (GPUs) in all."""
    cards_per_node: int = Field(default=8, ge=1)
    """Cards in one machine."""
    network_gbps: float = Field(default=400.0, gt=0)
    """Between nodes, of each card."""
    efficiency: float | None = Field(default=None, gt=0, le=1)
    """Operations done, over the peak, while a card is busy; None: from the table in s1kit/train/flops.py."""


class Layout(Config):
    """How training is laid out on the hardware: speed and memory, never the objective or the order of the data."""

    context_parallel: int = Field(default=1, ge=1)
    """Processes that share each sequence (Ulysses); must divide the number of processes and the attention heads."""
    shard: Literal["full", "node"] = "full"
    """FSDP2 over all processes, or within a node with copies across nodes (HSDP) where the network is slow."""
    reshard_after_forward: bool = True
    """Free a layer's gathered weights after its forward pass; False costs memory and saves one gather a layer."""
    prefetch: int = Field(default=1, ge=0)
    """Layers whose weights are gathered ahead of their use."""
    activation_checkpointing: Literal["none", "selective", "full"] = "none"
    """What is recomputed in the backward pass: nothing, all but attention and every other matrix product, or all."""
    attention: Literal["auto", "sdpa", "varlen", "flash"] = "auto"
    """`sdpa`: document by document, any device; `varlen`: torch's own kernel; `flash`: the flash-attn package."""
    loss_chunk_tokens: int = Field(default=2048, ge=1)
    """Tokens whose logits exist at a time."""
    compile: bool = False
    """torch.compile each layer."""
    fp8: bool = False
    """Matrix products in float8; needs torchao and a card that has it (H100, H200, B200)."""
    master_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights that the optimiser holds. bfloat16 halves memory, and rounds small steps away."""
    trackers: list[Literal["tensorboard", "wandb"]] = Field(default_factory=list)
    """Besides log.jsonl."""
    dollars_per_gpu_hour: float = Field(default=2.0, ge=0)
    """For the dollars in the log and in `s1kit estimate`; 0 on a machine that is your own. No dollars without a GPU."""
    peak_tflops: float = Field(default=0.0, ge=0)
    """Dense bf16 peak of one card, against which MFU is stated; 0: the data sheet's, by the card's name."""
    cluster: Cluster = Cluster()
    """The machines that `s1kit estimate` assumes."""


class Train(Config):
    """checkpoint <- samples. The defaults are the paper's (App. C, train/sft.sh)."""

    base: str = "hf:Qwen/Qwen2.5-32B-Instruct"
    """Model reference to fine-tune; `random:<folder>` initialises the folder's config.json at random, and
    `random:<shape>` one of s1kit/train/shapes.py."""
    tokenizer: str = ""
    """A folder, a tokenizer.json(.gz) file or `hf:<Hub id>`, where it is not the base's own."""
    format: str = "s1"
    """Thinking format to train: a known name, or `module:function` of your own that returns a ThinkingFormat; empty:
    the base's own, found from its files."""
    template: dict[str, Any] = Field(default_factory=dict)
    """Switches passed to the base's chat template, and set in the checkpoint's, e.g. `{ thinking = true }`."""
    epochs: int = Field(default=5, ge=1)
    """Passes over the samples."""
    max_steps: int | None = Field(default=None, ge=1)
    """Stop after so many optimiser steps; None: all epochs."""
    batch_size: int = Field(default=16, ge=1)
    """Sequences in an optimiser step, over all processes."""
    learning_rate: float = Field(default=1e-5, gt=0)
    """Its peak, reached after the warm-up."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps with a linear warm-up; then cosine to zero."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay of the mean of the gradients and of their squares."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """AdamW's weight decay, on matrices only."""
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    """Gradients are scaled down to this norm; None: never."""
    max_length: int = Field(default=32768, ge=8)
    """Tokens a sample may have; a longer one is an error unless `drop_too_long`."""
    drop_too_long: bool = False
    """Leave out samples above `max_length`, and count them, instead of stopping."""
    loss_normalization: Literal["per_sequence", "per_token"] = "per_sequence"
    """`per_sequence` is s1's: the mean over a sequence's tokens, then over sequences."""
    micro_batch_tokens: int = Field(default=16384, ge=8)
    """Tokens in a forward pass; a batch is packed into as few passes as possible."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Type in which weights are saved, and in which products are computed."""
    save_every: int = Field(default=50, ge=1)
    """Optimiser steps between resumable checkpoints."""
    lora: Lora | None = None
    """None: all weights are trained."""
    layout: Layout = Layout()
    """How training is laid out on the hardware."""
    acknowledge_terms: str = ""
    """Why traces are used whose teacher's terms forbid it, set conditions or are not known; in the model card."""

    @field_validator("betas")
    @classmethod
    def _are_shares(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise InputError(
                f"betas is [{betas[0]:g}, {betas[1]:g}]",
                where="train.betas",
                fix="Give two numbers from 0 to below 1, e.g. [0.9, 0.95].",
            )
        return betas
