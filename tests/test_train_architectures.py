"""Bases of other architectures learn what they learn by transformers' own attention and logits, a sample at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures_models import write_random_model
from fixtures_train import encode, make_samples
from test_train import check_against_reference, settings_for

from s1kit.errors import InputError
from s1kit.recipe import Lora
from s1kit.train.reference import STATES

WINDOW: dict[str, Any] = {"sliding_window": 24}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "every layer looks back 24 tokens": ("mistral", WINDOW),
    "some layers look back 24 tokens": (
        "gemma3_text",
        WINDOW | {"layer_types": ["sliding_attention", "full_attention"]},
    ),
    "one matrix for queries, keys and values": ("phi3", WINDOW),
    "logits are divided": ("granite", {"logits_scaling": 4.0}),
    "logits are multiplied": ("cohere", {"logit_scale": 0.25}),
    "experts": ("qwen3_moe", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}),
    "a short convolution": ("lfm2", {"layer_types": ["conv", "full_attention"]}),
    "linear attention": (
        "qwen3_5_text",
        {
            "layer_types": ["linear_attention", "full_attention"],
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 2,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
        },
    ),
}
"""What is special about an architecture, its name, and settings that show it."""


@pytest.mark.parametrize("kind", SHAPES)
def test_losses_and_gradients_are_those_of_one_sequence_at_a_time(tmp_path: Path, kind: str) -> None:
    name, settings = SHAPES[kind]
    base = write_random_model(
        tmp_path, name, **({"initializer_range": 0.1, "max_position_embeddings": 1024} | settings)
    )
    samples = encode(base, make_samples(14))
    assert max(map(len, samples)) > 3 * WINDOW["sliding_window"]
    # One step where a state is carried: Adam makes much of the smallest gradients, which rounding turns round.
    carries_state = bool(STATES & set(settings.get("layer_types", ())))
    check_against_reference(settings_for(base), samples, num_steps=1 if carries_state else 3)


def test_adapters_find_the_matrices_of_another_architecture(tmp_path: Path) -> None:
    base = write_random_model(tmp_path, "phi3", initializer_range=0.1, max_position_embeddings=1024)
    check_against_reference(settings_for(base, lora=Lora(rank=4, alpha=8)), encode(base, make_samples(14)))


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("gpt_oss", {"num_local_experts": 4, "num_experts_per_tok": 2}, "uses s_aux"),
        ("phi", {}, "has a bias"),
        ("stablelm", {}, "does not pass on where samples begin"),
        ("gpt2", {"n_positions": 512}, "not built as a decoder with layers"),
        ("gemma2", {"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
        ("llama4_text", {"layer_types": ["chunked_attention", "full_attention"]}, "kind chunked_attention"),
    ],
)
def test_what_the_trainer_does_not_compute_is_refused(
    tmp_path: Path, name: str, settings: dict[str, Any], told: str
) -> None:
    base = write_random_model(tmp_path, name, **({"initializer_range": 0.1} | settings))
    with pytest.raises(InputError, match=told):
        check_against_reference(settings_for(base), encode(base, make_samples(14)))


def test_a_checkpoint_for_images_and_text_is_refused_by_name() -> None:
    from transformers import AutoConfig

    from s1kit.train.reference import check_config

    with pytest.raises(InputError, match="'gemma3' model reads more than text"):
        check_config(AutoConfig.for_model("gemma3").to_dict(), 10)


def test_logits_that_are_capped_are_no_multiple() -> None:
    """The cap is set where no list of settings looks for it."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from s1kit.train.architecture import logits_scale

    shape = {"vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "head_dim": 8}
    config = AutoConfig.for_model("gemma3_text", **shape, intermediate_size=8, final_logit_softcapping=9.0)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(InputError, match="does more to its logits"):
        logits_scale(model)
    config.final_logit_softcapping = None
    assert logits_scale(model) == 1
