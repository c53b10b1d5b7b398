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
    ("<|channel>", "<channel|>"),  # the same without its channel's name
    ("<|channel|>analysis<|message|>", "<|end|>"),  # gpt-oss
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # OpenThoughts, Sky-T1
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Cohere Command A
    ("<mm:think>", "</mm:think>"),  # MiniMax M3
    ("<think:opensource>", "</think:opensource>"),  # Hunyuan 3
    ("<|open|>think<|sep|>", "<|close|>think<|sep|>"),  # Kimi K3
    ("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    ("<|think|>", "<|end|>"),  # Solar Open
    ("to=self<|message|>", "<|eom|>"),  # Muse
    ("<|think:start|>", "<|think:end|>"),  # Solar Open 2
    ("<|content_thinking|>", "<|end_message|>"),  # Inkling
    ("<|plamo:begin_think:plamo|>", "<|plamo:end_think:plamo|>"),  # PLaMo 3
    ("<ifm|think>", "</ifm|think>"),  # K2 Horizon
    ("<ifm|think_fast>", "</ifm|think_fast>"),  # at medium effort
    ("<ifm|think_faster>", "</ifm|think_faster>"),  # at low effort
    ("[unused16]", "[unused17]"),  # openPangu
    ("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),  # Apriel 1.6
    ("Here is my thought process:", "Here is my response:"),  # Granite 3.2
    ("Here's my thought process:", "Here's my response:"),  # Granite 3.2
    ("<longcat_think>", "</longcat_think>"),  # LongCat Flash Thinking
    ("<unused94>thought", "<unused95>"),  # MedGemma
    ("<thought>", "</thought>"),  # EXAONE Deep
    ("<Thought>", "</Thought>"),  # OpenO1's data
    ("<|im_start|>think", "<|im_start|>answer"),  # s1
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
)
"""What opens thinking and what ends it, without the whitespace around them."""

ENDS_OF_MESSAGES: Final = frozenset({"<|end|>", "<|eom|>", "<|end_message|>"})
"""Ends that any message of such a model has, not thinking alone."""
_ENDS_IN_PROSE: Final = frozenset(
    {"</thought>", "</Thought>", "</thinking>", "</reasoning>", "Here is my response:", "Here's my response:"}
)
"""Ends that answers contain, too. The others are found without an opening, which the chat template may have given."""
_FINAL = re.compile(
    r"^\s*(?:<\|start\|>assistant)?<\|channel\|>final[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>"
    r"|^\s*<\|begin_of_solution\|>"
    r"|^\s*(?:<\|begin\|>assistant)?<\|content\|>|^\s*<\|start\|>assistant to=user<\|message\|>"
    r"|^\s*(?:<\|message_model\|>)?<\|content_text\|>"
    r"|^\s*<\|open\|>response<\|sep\|>|<\|close\|>response<\|sep\|>\s*$"
    r"|^\s*<answer>|</answer>\s*$"  # of R1-Zero's template
    r"|<\|end_of_solution\|>\s*$|^\s*<\|START_RESPONSE\|>|<\|END_RESPONSE\|>\s*$"
)
"""What some families put around the answer."""
_RESPONSE = re.compile(r"\s*<(response|[Oo]utput)>(.*)</\1>\s*", re.DOTALL)
"""What ERNIE, Granite 3.3, Reflection and OpenO1 put around an answer that follows thinking."""
_ENDS_OF_TURNS: Final = (
    *("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<|eom_id|>", "<|end|>", "<|return|>", "<|eot|>"),
    *("<end_of_turn>", "<turn|>", "<｜end▁of▁sentence｜>", "<|END_OF_TURN_TOKEN|>", "<eos>", "</s>", "[|endofturn|]"),
    *("<|end_message|>", "<|content_model_end_sampling|>", "<|plamo:tag|>", "[unused10]"),
)
"""Special tokens that a server which does not know its model's leaves at the end of a text."""
_HEAD_OF_TURN: Final = re.compile(
    r"\s*(?:<\|end\|>(?=<\|start\|>assistant<\|channel\|>)|<\|im_start\|>assistant\s"
    r"|<\|start_header_id\|>assistant<\|end_header_id\|>|<\|assistant\|>"
    r"|<\|message_model\|>|<start_of_turn>model\s|<\|turn>model\s|<｜Assistant｜>|<\|START_OF_TURN_TOKEN\|><\|CHATBOT_TOKEN\|>)\s*"
)
"""What such a server leaves at the beginning."""
_BOX: Final = re.compile(r"<\|(?:begin|end)_of_box\|>")
"""What GLM's vision models put around the result."""
_CHANNEL: Final = re.compile(
    r"(?:<\|start\|>assistant)?(?:<\|channel\|>(\w+)([^<]*)(?:<\|constrain\|>[^<]*)?)<\|message\|>"
    r"(.*?)(<\|end\|>|<\|return\|>|(?=<\|start\|>)|\Z)\s*",
    re.DOTALL,
)
"""A message of gpt-oss: its channel, whom it is to, its text, and its end, which the model at times leaves out."""
_CUT_HEADER: Final = re.compile(r"(?:<\|start\|>assistant)?(?:<\|channel\|>[^<]*(?:<\|constrain\|>[^<]*)?)?")
"""The head of a message of gpt-oss that was cut before its text."""
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
    text = _without_turn(text)
    body = text.lstrip()
    if body.startswith(("<|channel|>", "<|start|>assistant<|channel|>")) and (parsed := _of_channels(body)) is not None:
        return parsed
    for opening, end in DELIMITERS:
        if body.startswith(opening):
            thinking, found, answer = _without_head(body, opening).partition(end)
            while (more := answer.lstrip()).startswith((opening, end)):  # several blocks; an end that came twice
                another, found, answer = (
                    ("", end, more.removeprefix(end))
                    if more.startswith(end)
                    else (_without_head(more, opening).partition(end))
                )
                thinking = f"{thinking}\n{another}"
            return Parsed(thinking.strip(), unwrapped(answer), bool(found))
    if found_channels := _HARMONY.match(body):
        first, rest, plain, answer = found_channels.groups()
        rest = rest or answer or ""
        final = _of_channels(rest.lstrip())
        return Parsed((first or plain or "").strip(), unwrapped(rest if final is None else final.answer), True)
    for opening, end in DELIMITERS:
        if end in ENDS_OF_MESSAGES or end in _ENDS_IN_PROSE:
            continue
        before, found, answer = body.partition(end)
        if found and opening not in before:
            return Parsed(before.strip(), unwrapped(answer), True)
    answer = without_marks(text)
    return Parsed("", (_FINAL.sub("", answer) if "<" in answer else answer).strip(), True)


def _without_head(body: str, opening: str) -> str:
    """What follows the opening, which some servers add to the one that the model wrote."""
    body = body.removeprefix(opening)
    while (more := body.lstrip()).startswith(opening):
        body = more.removeprefix(opening)
    return body


def _of_channels(body: str) -> Parsed | None:
    """gpt-oss's messages: what is for the user is the answer, what comes before it thinking. None for other texts."""
    thoughts, answers, at, is_closed = [], [], 0, True
    while (found := _CHANNEL.match(body, at)) is not None and found.end() > at:
        channel, receiver, text, end = found.groups()
        at = found.end()
        if channel == "final":
            answers.append(text)
        elif "to=" in receiver:
            answers.append(found[0])  # a call of a tool, which the server left in the text
        else:
            thoughts.append(text.strip())
            is_closed = bool(end) or at < len(body)
    if not at:
        return None
    rest = "" if _CUT_HEADER.fullmatch(body, at) else body[at:]
    return Parsed("\n".join(thoughts), unwrapped("".join(answers) + rest), is_closed)


def unwrapped(answer: str) -> str:
    """An answer that follows thinking, without what its family puts around it, and without outer whitespace."""
    answer = without_marks(answer)
    if "<" not in answer:
        return answer.strip()
    answer = _FINAL.sub("", answer)
    return (found[2] if (found := _RESPONSE.fullmatch(answer)) is not None else answer).strip()


def _without_turn(text: str) -> str:
    """The text without the head of the turn that it is."""
    head = text[:60].lstrip()
    return text[found.end() :] if head.startswith("<") and (found := _HEAD_OF_TURN.match(text)) is not None else text


def without_marks(text: str) -> str:
    """The text without the special tokens that belong to no text: those of its turn around it, and GLM's boxes.

    >>> without_marks("The tokens `<|im_end|>` end turns: <|begin_of_box|>4<|end_of_box|><|im_end|>")
    'The tokens `<|im_end|>` end turns: 4'
    """
    text = _without_turn(text)
    while (bare := text.rstrip()).endswith(_ENDS_OF_TURNS):
        mark = next(mark for mark in _ENDS_OF_TURNS if bare.endswith(mark))
        if mark == "</s>" and "<s>" in bare:
            break
        text = bare.removesuffix(mark)
    return _BOX.sub("", text) if "_of_box|>" in text else text
