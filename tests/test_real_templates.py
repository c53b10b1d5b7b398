"""Chat templates as their models came with them: each opens, closes and parses thinking as its own template does.

Part of `make test-real`. What is expected was read off each template, and for those that drop earlier thinking off
their models' cards.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from real_weights import templates
from rendered import training_text
from test_format_families import Characters

from s1kit.errors import InputError
from s1kit.forcing.detection import detect_format
from s1kit.forcing.thinking_format import TEMPLATE_FAULTS
from s1kit.forcing.token_format import TokenFormat

pytestmark = pytest.mark.real_models

SPECIAL = re.compile(
    r"<\|[^|<>\s']+\|>|</?[a-z_:]+>|\[/?[A-Z_]+\]|<｜[^｜<]+｜>|<[a-z_]+\|>|<\|[a-z_]+>|<end_of_turn>|\[e~\["
)
ENDS = [
    "<｜end▁of▁sentence｜>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|return|>",
    "<turn|>",
    "<|eot|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<|END_OF_TURN_TOKEN|>",
    "<seed:eos>",
    "<|end_of_msg|>",
    "<|role_end|>",
    "[e~[",
    "<sep>",
    "<|message_sep|>",
    "<|assistant_end|>",
    "<|user|>",
    "</assistant>",
    "<|end|>",
]
LOOSE, TIGHT, TAG = ("<think>\n", "\n</think>\n\n"), ("<think>", "</think>"), ("<think>\n", "\n</think>\n")
COHERE = "<|START_THINKING|>"

EXPECTED: dict[str, tuple[tuple[str, str], dict[str, Any]]] = {
    "Apertus-8B-Instruct": (("<|inner_prefix|>", "<|inner_suffix|>"), {"enable_thinking": True}),
    "Apriel-1.6-15b-Thinker-fixed": (("Here are my reasoning steps:\n", "\n[BEGIN FINAL RESPONSE]\n"), {}),
    "Bielik-11B-v3.0-Instruct": (TAG, {"enable_thinking": True}),
    "ByteDance-Seed-OSS": (("<seed:think>", "</seed:think>\n"), {}),
    "Cohere2MoE": ((COHERE, "<|END_THINKING|><|START_TEXT|>"), {}),
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use": ((COHERE, "<|END_THINKING|>"), {"enable_thinking": True}),
    "GLM-4.6": (("\n<think>", "</think>\n"), {}),
    "GLM-4.7-Flash": (TIGHT, {}),
    "HuggingFaceTB-SmolLM3-3B": (LOOSE, {}),
    "Kimi-K2-Thinking": (TIGHT, {}),
    "Kimi-K3": (("<|open|>think<|sep|>", "<|close|>think<|sep|><|open|>response<|sep|>"), {}),
    "LFM2.5-8B-A1B": (TIGHT, {}),
    "MiniMax-M2": (LOOSE, {}),
    "MiniMax-M3": (("<mm:think>", "</mm:think>"), {"thinking_mode": "enabled"}),
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": (TAG, {}),
    "NVIDIA-Nemotron-Nano-v2": (LOOSE, {}),
    "Qwen-QwQ-32B": (LOOSE, {"enable_thinking": True}),
    "Qwen-Qwen3-0.6B": (LOOSE, {}),
    "Qwen3.5-4B": (LOOSE, {}),
    "Reka-Edge": (LOOSE, {"enable_thinking": True}),
    "Spark2.5": (TIGHT, {}),
    "StepFun3.5-Flash": (TAG, {}),
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": (LOOSE, {}),
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": (LOOSE, {"enable_thinking": True}),
    "deepseek-ai-DeepSeek-V3.1": (TIGHT, {"enable_thinking": True}),
    "deepseek-ai-DeepSeek-V3.2": (TIGHT, {"enable_thinking": True}),
    "deepseek-ai-DeepSeek-V4": (TIGHT, {"enable_thinking": True}),
    "deepseek-ai-DeepSeek-V4-Flash-0731": (TIGHT, {"enable_thinking": True}),
    "google-gemma-4-31B-it": (("<|channel>thought\n", "<channel|>"), {"enable_thinking": True}),
    "ibm-granite-granite-3.3-2B-Instruct": (TIGHT, {"thinking": True}),
    "inclusionai-ling-3.0-flash": (TIGHT, {}),
    "llama-cpp-deepseek-r1": (LOOSE, {}),
    "llama-cpp-rwkv-world": (TIGHT, {"enable_thinking": True}),
    "mistralai-Ministral-3-14B-Reasoning-2512": (("[THINK]", "[/THINK]"), {}),
    "muse-glimmer": ((" to=self<|message|>", "<|eom|><|start|>assistant to=user<|message|>"), {}),
    "openai-gpt-oss-120b": (
        ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
        {},
    ),
    "openbmb-MiniCPM5-1B": (LOOSE, {"enable_thinking": True}),
    "poolside-Laguna-S-2.1": (TIGHT, {}),
    "poolside-Laguna-XS.2": (TAG, {"enable_thinking": True}),
    "tencent-Hy3": (("<think:opensource>", "</think:opensource>"), {"reasoning_effort": "high"}),
    "upstage-Solar-Open-100B": (("<|think|>", "<|end|><|begin|>assistant<|content|>"), {}),
}

INSTRUCT = {
    "google-gemma-2-2b-it": ("think", "<end_of_turn>"),
    "meta-llama-Llama-3.1-8B-Instruct": ("think", "<|eot_id|>"),
    "meta-llama-Llama-3.2-3B-Instruct": ("think", "<|eot_id|>"),
    "microsoft-Phi-3.5-mini-instruct": ("think", "<|end|>"),
    "mistralai-Mistral-Nemo-Instruct-2407": ("think", "</s>"),
    "ibm-granite-granite-4.0": ("think", "<|end_of_text|>"),
    "moonshotai-Kimi-K2": ("think", "<|im_end|>"),
    "Qwen-Qwen2.5-7B-Instruct": ("s1", "<|im_end|>"),
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": ("s1", "<|im_end|>"),
}
"""Models that do not reason: what is assumed of them, which is said."""


@pytest.fixture(scope="session")
def texts() -> dict[str, str]:
    found = templates()
    if isinstance(found, str):
        pytest.skip(found)
    return found


CALLS = {
    "<tool_call>": """Bielik-11B-v3.0-Instruct GLM-4.6 GLM-4.7-Flash MiMo-VL NVIDIA-Nemotron-3-Nano-30B-A3B-BF16
        NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use NousResearch-Hermes-3-Llama-3.1-8B-tool_use Qwen-QwQ-32B
        Qwen-Qwen2.5-7B-Instruct Qwen-Qwen3-0.6B Qwen3-Coder Qwen3.5-4B Reka-Edge Spark2.5 StepFun3.5-Flash
        ibm-granite-granite-4.0 ibm-granite-granite-4.1 inclusionai-ling-3.0-flash poolside-Laguna-S-2.1
        poolside-Laguna-XS-2.1 poolside-Laguna-XS.2""",
    "<seed:tool_call>": "ByteDance-Seed-OSS",
    "<tool_calls>": "Apriel-1.6-15b-Thinker-fixed MiniMax-M1 unsloth-Apriel-1.5",
    "<TOOLCALL>": "NVIDIA-Nemotron-Nano-v2",
    "<|tools_prefix|>": "Apertus-8B-Instruct",
    "<|function_call|>": "GigaChat3.1-10B-A1.8B",
    "<minimax:tool_call>": "MiniMax-M2",
    "<｜DSML｜function_calls>": "deepseek-ai-DeepSeek-V3.2",
    "<｜DSML｜tool_calls>": "deepseek-ai-DeepSeek-V4 deepseek-ai-DeepSeek-V4-Flash-0731",
    "<|tool_calls_section_begin|>": "Kimi-K2-Instruct Kimi-K2-Thinking moonshotai-Kimi-K2",
    "<|tool_call_start|>": "LFM2.5-8B-A1B",
    "<|tool_call>": "google-gemma-4-31B-it google-gemma-4-31B-it-interleaved",
    "<tool_calls:opensource>": "tencent-Hy3",
    "[TOOL_CALLS]": """Mistral-Small-3.2-24B-Instruct-2506 mistralai-Ministral-3-14B-Reasoning-2512
        mistralai-Mistral-Nemo-Instruct-2407 unsloth-mistral-Devstral-Small-2507""",
    "<|python_tag|>": """meta-llama-Llama-3.1-8B-Instruct meta-llama-Llama-3.2-3B-Instruct
        meta-llama-Llama-3.3-70B-Instruct""",
    "<|channel|>commentary": "openai-gpt-oss-120b",
}
"""What begins a call, by template. Styles are found by reading back the template's own rendering of one."""


class Named(Characters):
    """The template's own special tokens, and the names that templates ask of a tokenizer."""

    def __init__(self, text: str) -> None:
        specials = [*SPECIAL.findall(text), "</s>"]
        if "think{}" in text:
            specials += ["<think:opensource>", "</think:opensource>"]
        super().__init__(text, specials, next((e for e in ENDS if e in specials), "</s>"))

    def apply_chat_template(self, conversation: Any, **options: Any) -> str:
        return super().apply_chat_template(conversation, bos_token="<s>", eos_token=self.eos_token, **options)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_published_template_opens_closes_and_parses_as_its_family_does(name: str, texts: dict[str, str]) -> None:
    (opening, closing), switches = EXPECTED[name]
    tokenizer = Named(texts[name])
    found = detect_format(tokenizer)
    assert (found.open, found.lead + found.end, dict(found.template)) == (opening, closing, switches)
    prompt = tokenizer.decode(found.prompt_ids(tokenizer, "1+1?"))
    own = found.render(tokenizer, [{"role": "user", "content": "1+1?"}])
    assert prompt in (own, own + opening, own.rstrip() + opening, own + "\n")
    parsed = found.parse(f"hm{found.lead}{found.end}2{found.answer_end}")
    assert (parsed.thinking, parsed.answer, parsed.is_closed) == ("hm", "2", True)
    chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "4", "reasoning_content": "hm"}]
    try:
        written = tokenizer.apply_chat_template(chat, add_generation_prompt=False, **found.template)
    except TEMPLATE_FAULTS:
        return
    if "hm" in written and not name.startswith("Apriel"):
        ours = training_text(found, tokenizer, "q", "hm", "4").removesuffix(found.answer_end)
        assert written.startswith(ours)


@pytest.mark.parametrize("name", INSTRUCT)
def test_a_published_template_of_a_model_that_does_not_reason_gets_a_format_that_is_said(
    name: str, texts: dict[str, str]
) -> None:
    found = detect_format(Named(texts[name]))
    assert (found.name, found.answer_end) == INSTRUCT[name]


def test_every_published_template_is_read_or_refused_in_one_sentence(texts: dict[str, str]) -> None:
    assert len(texts) > 60
    refused = []
    for name, text in texts.items():
        try:
            found = detect_format(Named(text))
        except InputError as error:
            refused.append(f"{name}: {error}")
        else:
            assert found.prompt_ids(Named(text), "1+1?"), name
    assert all("the chat template" in sentence for sentence in refused), refused


@pytest.mark.parametrize(("mark", "name"), [(mark, name) for mark, names in CALLS.items() for name in names.split()])
def test_a_call_is_read_as_a_published_template_writes_it(mark: str, name: str, texts: dict[str, str]) -> None:
    pytest.importorskip("starlette")
    from s1kit.serve.tool_detection import find_style

    tokenizer = Named(texts[name])
    style = find_style(TokenFormat(detect_format(tokenizer), tokenizer))
    assert style is not None
    assert style.open == mark
