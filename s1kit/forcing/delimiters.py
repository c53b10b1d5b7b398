"""The delimiters in which model families put their thinking, and thinking split off a text that holds any of them.

The pairs are facts of the families' chat templates and of the reasoning parsers of vLLM and SGLang.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

DELIMITERS: Final[tuple[tuple[str, str], ...]] = (
    ("<think>", "</think>"),  # DeepSeek, Qwen, QwQ, GLM, MiniMax, Nemotron, Phi-4, Kimi K2, Step, OLMo, SmolLM3
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("[THINK]", "[/THINK]"),  # Magistral, Ministral
    ("◁think▷", "◁/think▷"),  # Kimi-VL, Kimi-Dev
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("<|channel|>analysis<|message|>", "<|end|>"),  # gpt-oss
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # OpenThoughts, Sky-T1
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Cohere Command A
    ("<mm:think>", "</mm:think>"),  # MiniMax M3
    ("<think:opensource>", "</think:opensource>"),  # Hunyuan 3
    ("<|open|>think<|sep|>", "<|close|>think<|sep|>"),  # Kimi K3
    ("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    ("<|think|>", "<|end|>"),  # Solar Open
    ("to=self<|message|>", "<|eom|>"),  # Muse
    ("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),  # Apriel 1.6
    ("<thought>", "</thought>"),  # EXAONE Deep
    ("<|im_start|>think", "<|im_start|>answer"),  # s1
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
)
"""What opens thinking and what ends it, without the whitespace around them."""

_ENDS_ALONE: Final = frozenset(
    {"</think>", "</seed:think>", "[/THINK]", "◁/think▷", "<|end_of_thought|>", "<|END_THINKING|>", "<|inner_suffix|>"}
)
"""Ends that stand in no prose; `<|end|>` ends any turn, and `</reasoning>` is a tag of answers, too."""
_FINAL = re.compile(
    r"^\s*(?:<\|start\|>assistant)?<\|channel\|>final<\|message\|>|^\s*<\|begin_of_solution\|>"
    r"|^\s*(?:<\|begin\|>assistant)?<\|content\|>|^\s*<\|start\|>assistant to=user<\|message\|>"
    r"|^\s*<\|open\|>response<\|sep\|>|<\|close\|>response<\|sep\|>\s*$"
    r"|^\s*<answer>|</answer>\s*$"  # of R1-Zero's template
    r"|<\|end_of_solution\|>\s*$|<\|return\|>\s*$|^\s*<\|START_RESPONSE\|>|<\|END_RESPONSE\|>\s*$"
)
"""What some families put around the answer."""
_HARMONY = re.compile(r"analysis(?:<\|message\|>(.*?)<\|end\|>(.*)|(.*?)assistantfinal(.*))", re.DOTALL)
"""gpt-oss's channels as servers without a parser leave them: without the first special token, or without any."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A model's text, split into thinking and answer."""

    thinking: str
    answer: str
    is_closed: bool
    """False when the end delimiter never came; everything is then thinking."""


def split_thinking(text: str) -> Parsed:
    """Split a reply into thinking and answer by whichever known delimiters it begins with. Outer whitespace is dropped.

    Thinking is a block at the beginning, the opening left out where the chat template gave it; delimiters further on
    are text. A text with no delimiters is all answer.

    >>> split_thinking("<think>\\nhm\\n</think>\\n\\n4")
    Parsed(thinking='hm', answer='4', is_closed=True)
    >>> split_thinking("hm</think>4")
    Parsed(thinking='hm', answer='4', is_closed=True)
    >>> split_thinking("A [THINK] tag is text here.")
    Parsed(thinking='', answer='A [THINK] tag is text here.', is_closed=True)
    """
    body = text.lstrip()
    for opening, end in DELIMITERS:
        if body.startswith(opening):
            thinking, found, answer = body.removeprefix(opening).partition(end)
            while (more := answer.lstrip().removeprefix("<|start|>assistant")).startswith(opening):  # gpt-oss
                another, found, answer = more.removeprefix(opening).partition(end)
                thinking = f"{thinking}\n{another}"
            return Parsed(thinking.strip(), _unwrapped(answer), bool(found))
    if found_channels := _HARMONY.match(body):
        first, rest, plain, answer = found_channels.groups()
        return Parsed((first or plain or "").strip(), _unwrapped(rest or answer or ""), True)
    # Only tags that no prose contains are taken for the end of thinking whose opening the template gave.
    for opening, end in DELIMITERS:
        before, found, answer = body.partition(end) if end in _ENDS_ALONE else (body, "", "")
        if found and opening not in before:
            return Parsed(before.strip(), _unwrapped(answer), True)
    return Parsed("", _unwrapped(text), True)


def _unwrapped(answer: str) -> str:
    """The answer without what its family puts around it, and without outer whitespace."""
    return (_FINAL.sub("", answer) if "<" in answer else answer).strip()
