"""Prompts and conversations that were written as one text: put through a chat template, or as a transcript."""

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


_END_OF_PROMPT = "\n\n###\n\n"
"""What OpenAI's guide to its first fine-tuning had at the end of each prompt."""
_SPEAKER = re.compile(r"(?:\A|\n)\s*(?:### )?(Human|Assistant):[ \t]*")


def transcript_turns(text: str) -> list[dict[str, str]] | None:
    """The messages of a text in which Human and Assistant speak in turn (Anthropic's HH, OpenAssistant-Guanaco), the
    last left out where it is empty; None for any other text.

    >>> transcript_turns("Human: 1+1?\\n\\nAssistant: 2")
    [{'role': 'user', 'content': '1+1?'}, {'role': 'assistant', 'content': '2'}]
    >>> transcript_turns("Human: what is that?") is None
    True
    """
    parts = _SPEAKER.split(text)
    speakers, said = parts[1::2], [part.strip() for part in parts[2::2]]
    if parts[0].strip() or speakers[:2] != ["Human", "Assistant"] or not said[0]:
        return None
    turns = [
        {"role": "user" if who == "Human" else "assistant", "content": what}
        for who, what in zip(speakers, said, strict=True)
    ]
    return turns if turns[-1]["content"] else turns[:-1]


def without_template(text: str) -> str:
    """What the only user turn of a rendered chat asks; any other text as it is.

    >>> without_template("<|im_start|>user\\n1+1?<|im_end|>\\n<|im_start|>assistant\\n")
    '1+1?'
    >>> without_template("What does [INST] mean in [INST] x [/INST]?")
    'What does [INST] mean in [INST] x [/INST]?'
    """
    text = text.removesuffix(_END_OF_PROMPT)
    if (said := transcript_turns(text)) is not None and len(said) == 1:
        return said[0]["content"]
    if not _BEGINNING.match(text):
        return text
    turns = [turn for pattern in _TURNS for turn in pattern.findall(text)]
    return turns[0].strip() if len(turns) == 1 and turns[0].strip() else text
