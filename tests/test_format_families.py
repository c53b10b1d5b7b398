"""Formats derived from chat templates: each family's own way to open, close or switch off thinking.

A template here is reduced to what decides the format: how an assistant's earlier thinking is written, and how the
prompt for a reply ends. Read in llama.cpp's models/templates: DeepSeek-V3.1, DeepSeek-R1-Distill, GLM-4.6, Seed-OSS,
MiniMax-M2, Nemotron Nano v2, Nemotron Super v1.5, Gemma 4 and Kimi-K2-Thinking. The other families are from secondary
sources: their exact whitespace is still to be held against the published templates.
"""

from __future__ import annotations

from typing import Any

import pytest
from jinja2 import TemplateError

from s1kit.errors import InputError
from s1kit.forcing.delimiters import DELIMITERS, split_thinking
from s1kit.forcing.formats import FORMATS, _say_assumed, choose_format, detect_format, encode
from s1kit.forcing.tokenizer import _environment


class Characters:
    """One id a character, but one for each special token; with a real chat template."""

    def __init__(self, template: str, specials: list[str], eos: str) -> None:
        self.chat_template, self.eos_token = template, eos
        self.specials = list(dict.fromkeys([eos, *specials]))
        self.eos_token_id = 0
        self.rendered: list[dict[str, Any]] = []

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        ids = []
        while text:
            special = next((s for s in self.specials if text.startswith(s)), None)
            ids.append(self.specials.index(special) if special else 1000 + ord(text[0]))
            text = text[len(special or text[0]) :]
        return ids

    def decode(self, ids: Any, *, skip_special_tokens: bool = False) -> str:
        return "".join(self.specials[i] if i < 1000 else chr(i - 1000) for i in ids)

    def get_vocab(self) -> dict[str, int]:
        return {s: i for i, s in enumerate(self.specials)}

    def apply_chat_template(self, conversation: Any, **options: Any) -> str:
        self.rendered.append(options)
        return _environment().from_string(self.chat_template).render(messages=conversation, **options)


THINK = ["<think>", "</think>"]
USERS = "{% for m in messages %}{{ '<U>' + m['content'] }}{% endfor %}"
PAST = "{% if false %}{{ '<think>\\n' + r + '\\n</think>\\n\\n' }}{% endif %}"
"""How earlier thinking is written, with newlines."""
TIGHT = "{% if false %}{{ '<think>' + r + '</think>' }}{% endif %}"
OFF = "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"

FAMILIES: list[tuple[str, str, list[str], str, str, str]] = [
    # family, template, special tokens, end of sequence; then how thinking is opened and how it is closed
    ("Qwen3", PAST + USERS + "{{ '<A>\\n' }}" + OFF, THINK, "<|im_end|>", "<think>\n", "\n</think>\n\n"),
    (
        "Qwen3-Thinking-2507",
        PAST + USERS + "{{ '<A>\\n<think>\\n' }}",
        THINK,
        "<|im_end|>",
        "<think>\n",
        "\n</think>\n\n",
    ),
    ("QwQ", USERS + "{{ '<A>\\n<think>\\n' }}", THINK, "<|im_end|>", "<think>\n", "\n</think>\n\n"),
    ("DeepSeek-R1", USERS + "{{ '<A><think>\\n' }}", THINK, "<｜end▁of▁sentence｜>", "<think>\n", "\n</think>\n\n"),
    (
        "DeepSeek-V3.1",
        "{% if not thinking is defined %}{% set thinking = enable_thinking is defined and enable_thinking %}{% endif %}"
        + USERS
        + "{{ '<A>' }}{% if thinking %}{{ '<think>' }}{% else %}{{ '</think>' }}{% endif %}",
        THINK,
        "<｜end▁of▁sentence｜>",
        "<think>",
        "</think>",
    ),
    (
        "DeepSeek-V3.1, its own template",
        USERS + "{{ '<A>' }}{% if thinking %}{{ '<think>' }}{% else %}{{ '</think>' }}{% endif %}",
        THINK,
        "<｜end▁of▁sentence｜>",
        "<think>",
        "</think>",
    ),
    (
        "GLM-4.6",
        "{% if false %}{{ '\\n<think>' + r + '</think>' }}{% endif %}"
        + USERS
        + "<A>{{ '\\n<think></think>' if (enable_thinking is defined and not enable_thinking) else '' }}",
        THINK,
        "<|endoftext|>",
        "\n<think>",
        "</think>",
    ),
    ("MiniMax-M2", PAST + USERS + "{{ ']~b]ai\\n<think>\\n' }}", THINK, "[e~[", "<think>\n", "\n</think>\n\n"),
    (
        "Nemotron Nano v2",
        USERS + "{{ '<A>\\n' }}{{ '<think>\n\n' }}",
        THINK,
        "<SPECIAL_12>",
        "<think>\n\n",
        "\n</think>\n\n",
    ),
    (
        "Nemotron Super 49B v1.5",
        USERS + "{{ '<A>\n\n' }}{% if off %}{{ '<think>\n\n</think>\n\n' }}{% endif %}",
        THINK,
        "<|eot_id|>",
        "<think>\n",
        "\n</think>\n\n",
    ),
    (
        "Kimi-K2-Thinking",
        "{% if false %}<think>{{r}}</think>{% endif %}" + USERS + "<A>",
        THINK,
        "<|im_end|>",
        "<think>",
        "</think>",
    ),
    ("Kimi-VL", "{% if false %}◁think▷{{r}}◁/think▷{% endif %}" + USERS + "<A>", [], "[EOS]", "◁think▷", "◁/think▷"),
    (
        "Seed-OSS",
        "{%- set begin = '<seed:think>' -%}{%- set end = '</seed:think>' -%}"
        + USERS
        + "{{ '<seed:bos>assistant\\n' }}",
        ["<seed:think>", "</seed:think>"],
        "<seed:eos>",
        "<seed:think>",
        "</seed:think>",
    ),
    ("Magistral", USERS + "[/INST]", ["[THINK]", "[/THINK]"], "</s>", "[THINK]", "[/THINK]"),
    (
        "gpt-oss",
        "{% if reasoning_effort %}Reasoning: {{ reasoning_effort }}{% endif %}" + USERS + "{{ '<|start|>assistant' }}",
        ["<|channel|>", "<|message|>", "<|end|>", "<|start|>", "<|return|>"],
        "<|return|>",
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
    ),
    (
        "Gemma 4",
        USERS
        + "{{ '<|turn>model\\n' }}{% if not enable_thinking | default(false) %}"
        + "{{ '<|channel>thought\\n<channel|>' }}{% endif %}",
        ["<|channel>", "<channel|>", "<turn|>"],
        "<turn|>",
        "<|channel>thought\n",
        "<channel|>",
    ),
    (
        "EXAONE Deep",
        "{% if '</thought>' in x %}{% endif %}" + USERS + "{{ '[|assistant|]<thought>\\n' }}",
        [],
        "[|endofturn|]",
        "<thought>\n",
        "</thought>",
    ),
    (
        "OpenThinker",
        "{% if false %}{{ '<|begin_of_thought|>' + r + '<|end_of_thought|>' }}{% endif %}" + USERS + "{{ '<A>\\n' }}",
        [],
        "<|im_end|>",
        "<|begin_of_thought|>",
        "<|end_of_thought|>",
    ),
    (
        "Command A Reasoning",
        "{% if false %}{{ '<|START_THINKING|>' + r + '<|END_THINKING|>' }}{% endif %}"
        + USERS
        + "<|CHATBOT_TOKEN|>{% if reasoning is defined and not reasoning %}"
        + "<|START_THINKING|><|END_THINKING|>{% endif %}",
        ["<|START_THINKING|>", "<|END_THINKING|>"],
        "<|END_OF_TURN_TOKEN|>",
        "<|START_THINKING|>",
        "<|END_THINKING|>",
    ),
    ("SmolLM3", PAST + USERS + "{{ '<A>\\n' }}" + OFF, THINK, "<|im_end|>", "<think>\n", "\n</think>\n\n"),
    ("OLMo 3 Think", TIGHT + USERS + "{{ '<A>\\n<think>' }}", THINK, "<|endoftext|>", "<think>", "</think>"),
    ("Phi-4-reasoning", USERS + "<|im_start|>assistant<|im_sep|>", THINK, "<|im_end|>", "<think>\n", "\n</think>\n\n"),
]


@pytest.mark.parametrize(
    ("family", "template", "specials", "eos", "opening", "closing"),
    FAMILIES,
    ids=lambda v: v if isinstance(v, str) and len(v) < 32 and "<" not in v else "",
)
def test_a_familys_own_template_decides_how_thinking_opens_and_closes(
    family: str, template: str, specials: list[str], eos: str, opening: str, closing: str
) -> None:
    tokenizer = Characters(template, specials, eos)
    found = detect_format(tokenizer)
    assert (found.open, found.lead + found.end) == (opening, closing), family
    ids = found.prompt_ids(tokenizer, "1+1?")
    text = tokenizer.decode(ids)
    assert text.endswith(opening)
    assert text.count(opening.strip()) == 1
    assert ids[-len(encode(tokenizer, found.open)) :] == encode(tokenizer, found.open)
    assert not any(text.rstrip().endswith(end) for _, end in DELIMITERS)
    parsed = found.parse(f"{found.open}hm{found.lead}{found.end}2{found.answer_end}")
    assert (parsed.thinking, parsed.answer, parsed.is_closed) == ("hm", "2", True)
    assert split_thinking(f"{found.open}hm{found.lead}{found.end}2").thinking == "hm"
    assert split_thinking(f"{found.open}hm{found.lead}{found.end}2").answer == "2"


def test_at_least_twenty_families_are_in_the_table() -> None:
    assert len({row[0] for row in FAMILIES}) >= 20


def test_a_template_that_contradicts_the_format_is_refused_with_what_was_found() -> None:
    closed = Characters(USERS + "{{ '<A><think></think>' }}", THINK, "<|im_end|>")
    with pytest.raises(InputError, match=r"ends with .*<think></think>.*direct"):
        detect_format(closed)
    other = Characters(USERS + "{{ '<A>[THINK]' }}", [*THINK, "[THINK]"], "<|im_end|>")
    with pytest.raises(InputError, match=r"\[THINK\]"):
        choose_format("qwen3", None, other)


def test_the_switch_that_a_template_needs_is_found_and_passed_to_it() -> None:
    row = next(r for r in FAMILIES if r[0] == "DeepSeek-V3.1, its own template")
    tokenizer = Characters(row[1], row[2], row[3])
    found = detect_format(tokenizer)
    found.prompt_ids(tokenizer, "q")
    assert tokenizer.rendered[-1]["thinking"] is True


def test_an_instruct_model_without_thinking_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = Characters(USERS + "{{ '<|im_start|>assistant\\n' }}", ["<|im_start|>"], "<|im_end|>")
    _say_assumed.cache_clear()
    assert detect_format(tokenizer) == detect_format(tokenizer) == FORMATS["s1"]
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "on which this model was not trained; --format direct answers plainly" in said


def test_a_template_that_raises_is_one_clear_error() -> None:
    class Refusing(Characters):
        def apply_chat_template(self, conversation: Any, **options: Any) -> str:
            raise TemplateError("System role not supported")

    with pytest.raises(InputError, match="System role not supported"):
        FORMATS["qwen3"].prompt_ids(Refusing("x", THINK, "<|im_end|>"), "q")


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("4", "", "4"),
        ("hm</think>4", "hm", "4"),
        ("<think>cut off", "cut off", ""),
        ("◁think▷a◁/think▷b", "a", "b"),
        ("The tag </thought> is text.", "", "The tag </thought> is text."),
        ("<|channel|>final<|message|>4", "", "4"),
        ("<|begin_of_thought|>a<|end_of_thought|>\n\n<|begin_of_solution|>b<|end_of_solution|>", "a", "b"),
    ],
)
def test_a_reply_is_split_by_whichever_delimiters_it_has(text: str, thinking: str, answer: str) -> None:
    parsed = split_thinking(text)
    assert (parsed.thinking, parsed.answer) == (thinking, answer)
