"""LoRA and QLoRA through PEFT: adapters on every linear layer, merged when the checkpoint is written."""

from __future__ import annotations

from typing import Any

import torch

from s1kit.errors import MissingExtra
from s1kit.recipe import Lora


def add(model: Any, lora: Lora | None, seed: int) -> Any:
    """The model with adapters put into it, and everything else frozen; the model itself where `lora` is None."""
    if lora is None:
        return model
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingExtra("train.lora", "peft", extra="train") from error
    torch.manual_seed(seed)
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=linear_names(model), bias="none"
    )
    # inject_adapter_in_model freezes nothing by itself.
    model = inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return model


def linear_names(model: Any) -> list[str]:
    """Every linear layer of the decoder, the output matrix left out, by its last name."""
    names = {name.rpartition(".")[2] for name, m in model.base_model.named_modules() if isinstance(m, torch.nn.Linear)}
    return sorted(names)


def load_quantized(base: str, config: Any, device: torch.device) -> Any:
    """The base in NF4 with double quantisation (QLoRA, arXiv 2305.14314), on one card."""
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise MissingExtra("train.lora.quantize", "bitsandbytes", extra="qlora") from error
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    from s1kit.train import attention
    from s1kit.train.reference import base_folder

    attention.register()
    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model = AutoModelForCausalLM.from_pretrained(
        base_folder(base)[1],
        config=config,
        quantization_config=how,
        attn_implementation=attention.NAME,
        device_map={"": device},
        dtype=torch.bfloat16,
    )
    return model.train()


def merge(weights: dict[str, torch.Tensor], base: dict[str, torch.Tensor], lora: Lora) -> dict[str, torch.Tensor]:
    """The base's weights with the adapters' products added, in float32, under the base's names.

    `weights` holds `<module>.lora_A.default.weight` (rank, in) and `...lora_B...` (out, rank).
    """
    merged = {}
    for name, weight in base.items():
        stem = name.removesuffix(".weight")
        down, up = (weights.get(f"{stem}.lora_{side}.default.weight") for side in "AB")
        if down is not None and up is not None:
            change = up.float() @ down.float() * (lora.alpha / lora.rank)
            weight = weight.float() + change.to(weight.device)
        merged[name] = weight
    return merged
