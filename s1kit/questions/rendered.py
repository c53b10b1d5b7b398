"""Prompts that were put through a chat template already, as programs that ask models by raw prompts save them."""

from __future__ import annotations

import re

_TURNS = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"<\|im_start\|>user\n(.*?)<\|im_end\|>",
        r"<\|start_header_id\|>user<\|end_header_id\|>\n\n(.*?)<\|eot_id\|>",
        r"<｜User｜>(.*?)(?=<｜Assistant｜>)",
        r"<start_of_turn>user\n(.*?)<end_of_turn>",
        r"\[INST\](.*?)\[/INST\]",
        r"<\|user\|>\n?(.*?)(?=<\|end\|>|<\|assistant\|>)",
    )
)
_BEGINNING = re.compile(r"\s*(?:<[|｜]|<s>|<bos>|<start_of_turn>|\[INST\])")


def without_template(text: str) -> str:
    """What the only user turn of a rendered chat asks; any other text as it is.

    >>> without_template("<|im_start|>user\\n1+1?<|im_end|>\\n<|im_start|>assistant\\n")
    '1+1?'
    >>> without_template("What does [INST] mean in [INST] x [/INST]?")
    'What does [INST] mean in [INST] x [/INST]?'
    """
    if not _BEGINNING.match(text):
        return text
    turns = [turn for pattern in _TURNS for turn in pattern.findall(text)]
    return turns[0].strip() if len(turns) == 1 and turns[0].strip() else text
