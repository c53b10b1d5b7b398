"""Other architectures in the transformers engine: decoded as the whole context computed anew, or refused at load."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from test_engine_transformers import as_naive, by_naive_loop  # noqa: E402

from s1kit import Request, ThinkingBudget, load_engine  # noqa: E402
from s1kit.engines.hf.engine import of_model  # noqa: E402
from s1kit.errors import InputError  # noqa: E402

WINDOW = 24


SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
}


def random_model(kind: str, vocabulary_size: int, **more: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    shape: dict[str, Any] = {
        **SMALL,
        "vocab_size": vocabulary_size,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": None,
        "initializer_range": 0.3,
    }
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **(shape | more))).eval()


KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": WINDOW},
    "phi3": {"sliding_window": WINDOW},
    "gemma2": {"sliding_window": WINDOW, "query_pre_attn_scalar": 8},
    "gemma3_text": {"sliding_window": WINDOW, "query_pre_attn_scalar": 8, "num_hidden_layers": 6},
    "gemma4_text": {"sliding_window": WINDOW},
    "gpt_oss": {"sliding_window": WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2},
    "deepseek_v3": {
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "head_dim": 4,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
        "num_key_value_heads": 4,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 1,
    },
}
"""No window, one in every layer or in some, sinks, heads whose size differs by layer or between keys and values."""


@pytest.mark.parametrize("kind", KINDS)
def test_an_architecture_decodes_as_the_whole_context_computed_anew(engine: Any, kind: str) -> None:
    """One request alone, which is given no mask, and three together."""
    other = of_model(random_model(kind, engine.vocabulary_size, **KINDS[kind]), engine.tokenizer, engine.format)
    requests = [
        Request(question="?" * (1 + 3 * i), budget=ThinkingBudget(40, 0, 40), wait="x", answer_tokens=16, repeat=i)
        for i in range(3)
    ]
    together = {g.repeat: g for g in other.generate(requests)}
    for request in requests:
        (alone,) = other.generate([request])
        assert alone == together[request.repeat]
        assert len(other.plan(request).prompt_ids) + alone.thinking_tokens > 2 * WINDOW
        assert as_naive(alone) == by_naive_loop(other, request)


@pytest.mark.parametrize("kind", ["qwen3_vl", "gemma3", "mistral3"])
def test_a_checkpoint_of_images_and_text_is_decoded_for_text(
    engine: Any, kind: str, tiny_random_checkpoint: Path, tmp_path: Path
) -> None:
    save(image_text_model(kind, len(engine.tokenizer)), tiny_random_checkpoint, tmp_path)
    loaded = load_engine(f"hf:{tmp_path}")
    request = Request(question="??", budget=ThinkingBudget(40, 0, 40), wait="x", answer_tokens=16)
    (generation,) = loaded.generate([request])
    assert as_naive(generation) == by_naive_loop(loaded, request)


def test_a_checkpoint_that_writes_no_text_is_refused(tiny_random_checkpoint: Path, tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTModel

    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    save(ViTModel(ViTConfig(**sizes, num_hidden_layers=1, image_size=32)), tiny_random_checkpoint, tmp_path)
    with pytest.raises(InputError, match="no language model of this type"):
        load_engine(f"hf:{tmp_path}")


def image_text_model(kind: str, vocabulary_size: int) -> Any:
    from transformers import AutoConfig, AutoModelForImageTextToText

    torch.manual_seed(0)
    text: dict[str, Any] = {**SMALL, "vocab_size": vocabulary_size}
    if kind == "qwen3_vl":
        text["rope_scaling"] = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    image = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "image_size": 32, "patch_size": 16}
    image |= {"num_hidden_layers": 1, "depth": 1, "num_heads": 2, "out_hidden_size": 32}
    config = type(AutoConfig.for_model(kind))(text_config=text, vision_config=image)
    return AutoModelForImageTextToText.from_config(config)


def save(model: Any, with_tokenizer: Path, folder: Path) -> None:
    """A checkpoint folder with another checkpoint's tokenizer."""
    model.save_pretrained(folder)
    for file in with_tokenizer.iterdir():
        if file.name.startswith(("tokenizer", "special_tokens", "chat_template", "thinking_format")):
            shutil.copy(file, folder)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("qwen3_5_text", "layers of kind linear_attention attend or keep"),
        ("lfm2", "layers of kind conv attend or keep"),
        ("rwkv", "cannot be decoded step by step"),
    ],
)
def test_an_architecture_that_remembers_otherwise_is_refused_when_it_is_loaded(
    engine: Any, kind: str, told: str
) -> None:
    more = {"lfm2": {"layer_types": ["conv", "full_attention"]}}.get(kind, {})
    with pytest.raises(InputError, match=told):
        of_model(random_model(kind, engine.vocabulary_size, **more), engine.tokenizer, engine.format)


def test_a_model_whose_steps_differ_from_its_whole_contexts_is_refused(engine: Any) -> None:
    """It counts positions by itself, as if all rows were as long: nothing raises, and replies would be wrong."""
    model = random_model("llama", engine.vocabulary_size)
    forward = model.model.forward
    model.model.forward = lambda *args, position_ids=None, **kwargs: forward(*args, **kwargs)
    with pytest.raises(InputError, match="standard deviations from those of the whole context"):
        of_model(model, engine.tokenizer, engine.format)


def test_windows_that_differ_by_layer_without_a_name_are_refused(engine: Any) -> None:
    model = random_model("mistral", engine.vocabulary_size, sliding_window=WINDOW)
    first = model.model.layers[0].self_attn
    first.config = type(first.config)(**(first.config.to_dict() | {"sliding_window": 8}))
    first.config._attn_implementation = "s1kit_windows"
    with pytest.raises(InputError, match="look back 8, 24 tokens"):
        of_model(model, engine.tokenizer, engine.format)
