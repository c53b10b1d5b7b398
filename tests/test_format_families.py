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
from rendered import training_text

from s1kit.errors import InputError
from s1kit.forcing.delimiters import DELIMITERS, split_thinking
from s1kit.forcing.detection import _say, choose_format, detect_format
from s1kit.forcing.formats import FORMATS
from s1kit.forcing.thinking_format import encode
from s1kit.forcing.tokenizer import template_environment


class Characters:
    """One id a character, but one for each special token; with a real chat template."""

    def __init__(self, template: str, specials: list[str], eos: str) -> None:
        self.chat_template, self.eos_token = template or None, eos
        self.specials = list(dict.fromkeys([eos, *specials]))
        self.eos_token_id = 0
        self.added_tokens_decoder = dict(enumerate(self.specials))
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
        options = {"add_generation_prompt": True, "chat_template": self.chat_template, **options}
        return template_environment().from_string(options["chat_template"]).render(messages=conversation, **options)


THINK = ["<think>", "</think>"]
USERS = "{% for m in messages %}{{ '<U>' + m['content'] }}{% endfor %}"
PAST = "{% if false %}{{ '<think>\\n' + r + '\\n</think>\\n\\n' }}{% endif %}"
"""How earlier thinking is written, with newlines."""
TIGHT = "{% if false %}{{ '<think>' + r + '</think>' }}{% endif %}"
OFF = "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"

ASK = "{{% if add_generation_prompt %}}{}{{% endif %}}"


def turns(reply: str) -> str:
    """A chat in which replies are written so; `r` is a reply's thinking."""
    return (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% set r = m.reasoning_content or m.thinking %}"
        + reply
        + "{% else %}{{ '<U>' + m['content'] }}{% endif %}{% endfor %}"
    )


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
    # From here on a template writes earlier thinking (`r` of the reply), which is what the format is read from.
    (
        "Kimi-K3",
        "{% macro o(t) %}{{ '<|open|>' + t + '<|sep|>' }}{% endmacro %}"
        "{% macro c(t) %}{{ '<|close|>' + t + '<|sep|>' }}{% endmacro %}"
        + turns("{{ o('message') + o('think') + r + c('think') + o('response') + m.content + c('response') }}")
        + ASK.format("{{ o('message') + o('response' if thinking is false else 'think') }}"),
        ["<|open|>", "<|close|>", "<|sep|>"],
        "<|end_of_msg|>",
        "<|open|>think<|sep|>",
        "<|close|>think<|sep|><|open|>response<|sep|>",
    ),
    (
        "Solar Open",
        turns("<|begin|>assistant<|think|>{{ r }}<|end|><|begin|>assistant<|content|>{{ m.content }}<|end|>")
        + ASK.format(
            "{% if reasoning_effort == 'low' %}<|begin|>assistant<|think|><|end|>{% endif %}<|begin|>assistant"
        ),
        ["<|begin|>", "<|think|>", "<|content|>", "<|end|>"],
        "<|end|>",
        "<|think|>",
        "<|end|><|begin|>assistant<|content|>",
    ),
    (
        "Hunyuan 3",
        "{% set k = ':opensource' %}{% set b, e = '<think' + k + '>', '</think' + k + '>' %}"
        "{% set effort = reasoning_effort if reasoning_effort is defined else 'no_think' %}"
        + turns("<A>{{ b + r + e + m.content }}<E>")
        + ASK.format("<A>{{ b if effort == 'high' else b + e }}"),
        ["<think:opensource>", "</think:opensource>"],
        "<E>",
        "<think:opensource>",
        "</think:opensource>",
    ),
    (
        "Apriel 1.6",
        turns("<A>\n{{ r }}\n[BEGIN FINAL RESPONSE]\n{{ m.content }}<|end|>")
        + ASK.format("<A>\nHere are my reasoning steps:\n"),
        [],
        "<|end|>",
        "Here are my reasoning steps:\n",
        "\n[BEGIN FINAL RESPONSE]\n",
    ),
    (
        "Bielik 3",
        turns("<A>\n<think>\n{{ r }}\n</think>\n{{ m.content }}<|im_end|>")
        + ASK.format("<A>\n{% if enable_thinking %}<think>\n{{ '' }}{% endif %}"),
        THINK,
        "<|im_end|>",
        "<think>\n",
        "\n</think>\n",
    ),
    (
        "Reka Edge",
        turns("assistant:{{ ' <think>\n' + r + '\n</think>\n\n' if enable_thinking else ' ' }}{{ m.content }}<sep>")
        + ASK.format("assistant:{{ ' <think>\n' if enable_thinking else '' }}"),
        THINK,
        "<sep>",
        "<think>\n",
        "\n</think>\n\n",
    ),
    (
        "Granite 3.3",
        "{% if thinking %}<S>Write your thoughts between <think></think>.{% endif %}" + USERS + "<A>",
        THINK,
        "<|end_of_text|>",
        "<think>",
        "</think>",
    ),
    (
        "LFM 2.5",
        turns("<A>{% generation %}<think>{{ r }}</think>{{ m.content }}<|im_end|>{% endgeneration %}")
        + ASK.format("<A>"),
        THINK,
        "<|im_end|>",
        "<think>",
        "</think>",
    ),
    (
        "Laguna XS",
        turns("<A>{% generation %}{{ '\\n<think>\\n' + r + '\\n</think>\\n' + m.content }}</A>{% endgeneration %}")
        + ASK.format("<A>{{ '\\n<think>' if enable_thinking else '\\n</think>' }}"),
        THINK,
        "</A>",
        "<think>\n",
        "\n</think>\n",
    ),
    (
        "Muse",
        turns(
            "<|start|>assistant to=self<|message|>{{ r }}<|eom|>"
            "<|start|>assistant to=user<|message|>{{ m.content }}<|eot|>"
        )
        + ASK.format("<|start|>assistant"),
        ["<|start|>", "<|message|>", "<|eom|>", "<|eot|>"],
        "<|eot|>",
        " to=self<|message|>",
        "<|eom|><|start|>assistant to=user<|message|>",
    ),
    (
        "MiniMax-M3",
        turns("<A>{{ '<mm:think>' + r + '</mm:think>' + m.content }}[e~[")
        + ASK.format("<A>{{ {'enabled': '<mm:think>', 'disabled': '</mm:think>'}.get(thinking_mode, '') }}"),
        ["<mm:think>", "</mm:think>"],
        "[e~[",
        "<mm:think>",
        "</mm:think>",
    ),
    (
        "Ling 3",
        turns("<role>A</role>\n<think>{{ r }}</think>{{ m.content }}<|role_end|>")
        + ASK.format("<role>A</role>\n<think>"),
        THINK,
        "<|role_end|>",
        "<think>",
        "</think>",
    ),
    (
        "Solar Open 2",
        turns("<|im:start|>assistant<|think:start|>{{ r }}<|think:end|>{{ m.content }}<|im:end|>")
        + ASK.format(
            "<|im:start|>assistant<|think:start|>"
            "{% if reasoning_effort is defined and reasoning_effort == 'low' %}<|think:end|>{% endif %}"
        ),
        ["<|im:start|>", "<|im:end|>", "<|think:start|>", "<|think:end|>"],
        "<|im:end|>",
        "<|think:start|>",
        "<|think:end|>",
    ),
    (
        "Inkling",
        turns(
            "<|message_model|><|content_thinking|>{{ r }}<|end_message|>"
            "<|message_model|><|content_text|>{{ m.content }}<|end_message|>"
        )
        + ASK.format("<|message_model|>"),
        ["<|message_model|>", "<|content_thinking|>", "<|content_text|>", "<|end_message|>"],
        "<|end_message|>",
        "<|content_thinking|>",
        "<|end_message|><|message_model|><|content_text|>",
    ),
    (
        "PLaMo 3",
        turns("<A><|plamo:begin_think:plamo|>{{ r }}<|plamo:end_think:plamo|>{{ m.content }}<|plamo:tag|>")
        + ASK.format("<A>{{ '' if enable_thinking is false else '<|plamo:begin_think:plamo|>' }}"),
        ["<|plamo:begin_", "<|plamo:end_", ":plamo|>", "<|plamo:tag|>"],
        "<|plamo:tag|>",
        "<|plamo:begin_think:plamo|>",
        "<|plamo:end_think:plamo|>",
    ),
    (
        "K2 Horizon",
        turns("<A><ifm|think>{{ r }}</ifm|think>{{ m.content }}<E>") + ASK.format("<A><ifm|think>"),
        ["<ifm|think>", "</ifm|think>"],
        "<E>",
        "<ifm|think>",
        "</ifm|think>",
    ),
    (
        "openPangu",
        turns("[unused9]A:[unused16]{{ r }}[unused17]{{ m.content }}[unused10]") + ASK.format("[unused9]A:"),
        ["[unused9]", "[unused10]", "[unused16]", "[unused17]"],
        "[unused10]",
        "[unused16]",
        "[unused17]",
    ),
    ("Llama 3, Gemma 2, Phi 3.5, Mistral", USERS + "<A>", [], "<|eot_id|>", "<think>\n", "\n</think>\n\n"),
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
    assert text.rpartition("1+1?")[2].count(opening.strip()) == 1
    assert ids[-len(encode(tokenizer, found.open)) :] == encode(tokenizer, found.open)
    assert not any(text.rstrip().endswith(end) for _, end in DELIMITERS)
    parsed = found.parse(f"{found.open}hm{found.lead}{found.end}2{found.answer_end}")
    assert (parsed.thinking, parsed.answer, parsed.is_closed) == ("hm", "2", True)
    assert split_thinking(f"{found.open}hm{found.lead}{found.end}2").thinking == "hm"
    assert split_thinking(f"{found.open}hm{found.lead}{found.end}2").answer == "2"


@pytest.mark.parametrize(
    "text",
    [
        "<|message_model|><|content_thinking|>hm<|end_message|><|message_model|><|content_text|>4<|end_message|>"
        "<|content_model_end_sampling|>",
        "<|content_thinking|>hm<|end_message|><|content_text|>4",
        "hm</ifm|think_fast>4",
        "<ifm|think_faster>hm</ifm|think_faster>4",
        "hm[unused17]4[unused10]",
        "hm<|plamo:end_think:plamo|>4<|plamo:tag|>",
        "hm<|think:end|>4",
        "hm<channel|>4",
        "<|channel>hm<channel|>4",
        "hm<|close|>think<|sep|><|open|>response<|sep|>4",
        "hm\n[BEGIN FINAL RESPONSE]\n4",
        "hm<|im_start|>answer\n4",
        "<|end|><|start|>assistant<|channel|>analysis<|message|>hm<|end|>"
        "<|start|>assistant<|channel|>final<|constrain|> JSON <|message|>4",
    ],
)
def test_a_reply_that_its_server_left_whole_is_split(text: str) -> None:
    parsed = split_thinking(text)
    assert (parsed.thinking, parsed.answer, parsed.is_closed) == ("hm", "4", True)


def test_the_head_of_a_message_that_was_cut_before_its_text_is_no_answer() -> None:
    parsed = split_thinking("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final")
    assert (parsed.thinking, parsed.answer, parsed.is_closed) == ("hm", "", True)


def test_an_end_that_answers_contain_is_none_without_its_opening() -> None:
    for text in ("Here is my response: 4", "Close the tag with </thinking>.", "The token <|end|> ends a turn"):
        assert split_thinking(text).answer == text


def test_reserved_tokens_of_a_vocabulary_are_no_delimiters() -> None:
    reserved = [f"[unused{i}]" for i in range(1, 100)]
    assert detect_format(Characters(USERS + "<A>", reserved, "[SEP]")).open.strip() == "<think>"


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


def test_an_instruct_model_without_thinking_is_said_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = Characters(USERS + "{{ '<|im_start|>assistant\\n' }}", ["<|im_start|>"], "<|im_end|>")
    _say.cache_clear()
    assert detect_format(tokenizer) == detect_format(tokenizer) == FORMATS["s1"]
    (said,) = caplog.messages
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


def test_text_that_a_model_was_trained_on_is_what_its_own_template_writes() -> None:
    for family, template, specials, eos, *_ in FAMILIES:
        if "{% set r" not in template:
            continue
        tokenizer = Characters(template, specials, eos)
        found = detect_format(tokenizer)
        chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "4", "reasoning_content": "hm"}]
        written = tokenizer.apply_chat_template(chat, add_generation_prompt=False, **found.template)
        ours = training_text(found, tokenizer, "q", "hm", "4")
        # Some write a phrase into the prompt only.
        assert written.startswith(ours) or family == "Apriel 1.6", (family, written, ours)


def test_thinking_that_a_switch_closes_in_the_middle_of_a_prompt_is_refused() -> None:
    row = next(r for r in FAMILIES if r[0] == "Solar Open")
    tokenizer = Characters(row[1], row[2], row[3])
    with pytest.raises(InputError, match=r"ends with '.*<\|think\|><\|end\|><\|begin\|>assistant'"):
        detect_format(tokenizer, {"reasoning_effort": "low"})


def test_a_switch_that_closes_thinking_is_refused_for_a_checkpoints_own_format_too() -> None:
    row = next(r for r in FAMILIES if r[0] == "Solar Open")
    tokenizer = Characters(row[1], row[2], row[3])
    with pytest.raises(InputError, match="with or without its thinking switches"):
        choose_format(None, detect_format(tokenizer), tokenizer, {"reasoning_effort": "low"})


def test_a_switch_that_asks_for_thinking_without_opening_it_is_set() -> None:
    row = next(r for r in FAMILIES if r[0] == "Granite 3.3")
    tokenizer = Characters(row[1], row[2], row[3])
    found = detect_format(tokenizer)
    assert found.template == {"thinking": True}
    assert "between <think></think>" in found.prompt_text(tokenizer, "1+1?")


def test_a_prompt_that_the_template_opens_is_tokenised_as_a_whole() -> None:
    class Merging(Characters):
        """Joins a line break with what follows it, as some tokenizers do where `<think>` is no token of its own."""

        def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
            return super().encode(text.replace("\n<", "\u2424"))

    tokenizer = Merging(TIGHT + USERS + "{{ '<A>\\n<think>' }}", [], "<|im_end|>")
    found = detect_format(tokenizer)
    assert found.open == "<think>"
    assert found.prompt_ids(tokenizer, "1+1?") == tokenizer.encode("<U>1+1?<A>\n<think>")
    assert found.prompt_ids(tokenizer, "1+1?") != tokenizer.encode("<U>1+1?<A>\n") + tokenizer.encode("<think>")


def test_what_ends_an_answer_is_read_from_the_template_too() -> None:
    gemma = Characters(
        "{% for m in messages %}<start_of_turn>{{ m.content }}<end_of_turn>{% endfor %}<start_of_turn>model",
        ["<start_of_turn>", "<end_of_turn>"],
        "<eos>",
    )
    assert detect_format(gemma).answer_end == "<end_of_turn>"
    bare = Characters("", [], "<eos>")
    assert detect_format(bare).prompt_text(bare, "1+1?") == "User:\n1+1?\n\nAssistant:\n"
    assert detect_format(bare).training_ids(bare, "1+1?", "two", "2").ids[-1] == bare.eos_token_id


def test_delimiters_that_only_the_vocabulary_knows_are_said(caplog: pytest.LogCaptureFixture) -> None:
    _say.cache_clear()
    instruct = Characters(USERS + "<A>", THINK, "<|im_end|>")
    assert detect_format(instruct).name == "qwen3"
    assert "assumed from the vocabulary" in caplog.text
