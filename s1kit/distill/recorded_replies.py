"""The replies of a model that a row of a published or home-made file holds, in whichever columns they stand.

Shapes from the cards of simplescaling/s1K-1.1, open-r1/OpenR1-Math-220k and Mixture-of-Thoughts, open-thoughts,
nvidia/OpenMathReasoning and Nemotron-Post-Training, zwhe99/DeepMath-103K, HuggingFaceH4/Multilingual-Thinking,
PrimeIntellect/SYNTHETIC-1, a-m-team/AM-Thinking; and from the outputs of curator, distilabel, NeMo-Skills, lm-eval,
SkyThought and of clients that save whole completions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from s1kit.providers.wires.finish import finish_of
from s1kit.providers.wires.openai import OpenAIWire
from s1kit.providers.wires.replies import read_reply
from s1kit.providers.wires.shapes import shape_of, usual
from s1kit.providers.wires.thinking import split_text
from s1kit.questions.conversations import COLUMNS as CHAT_COLUMNS
from s1kit.questions.exchanges import THINKING, chat_parts
from s1kit.records import FinishReason


@dataclass(frozen=True)
class RecordedReply:
    """One reply, and how it ended, as far as the row says."""

    thinking: str
    answer: str
    finish: FinishReason = "stop"
    note: str = ""
    name: str = ""
    """Which of several teachers of the row wrote it."""


_THOUGHT_COLUMNS = (
    *(*THINKING, "thinking_trajectories", "thinking_trajectory", "analysis", "reasoning_trace"),
    *("complex_cot", "chain_of_thought", "cot", "thought", "thoughts"),
)
_ANSWER_COLUMNS = ("answer", "attempt", "response", "content", "final", "generation", "output", "completion")
_REPLY_COLUMNS = (
    *("response", "output", "generation", "completion", "model_output", "llm_response", "chosen", "answer", "attempt"),
    *("raw_response", "body", "content"),
)
_LIST_COLUMNS = ("generations", "resps", "filtered_resps", "responses", "samples", "completions")
_NAMED = {*_THOUGHT_COLUMNS, *_REPLY_COLUMNS, *_LIST_COLUMNS, "final", "rejected"}
_PAIR = re.compile(r"(.+)_(?:thinking_trajectory|thinking_trajectories|reasoning|reasoning_content|thinking)")
"""A teacher's thinking in a column with its name, beside its answer."""
_PAIRED = ("attempt", "solution", "answer", "response", "output")
_NUMBERED = re.compile(r"(.*(?:solution|generation|response|output|answer|completion|trace))_?(\d+)")
_FINISHES = ("finish_reason", "finish_reasons", "stop_reason", "finishReason")
_MODELS = ("teacher", "model", "model_name", "generation_model", "generator", "model_id")


def model_of(row: Mapping[str, Any]) -> str:
    """The name of the model that wrote the row's replies, "" where no column says."""
    return next((name for column in _MODELS if isinstance(name := row.get(column), str) and name), "")


def reply_columns(row: Mapping[str, Any]) -> set[str]:
    """The columns that hold replies, and nothing of the question."""
    found = {n for n in row if _PAIR.fullmatch(n) or _NUMBERED.fullmatch(n) or n.lower() in _NAMED - {"answer"}}
    if isinstance(row.get("instruction"), str):  # Alpaca's `output` tells its shape
        found.discard("output")
    return {name for name in found if not (name in CHAT_COLUMNS and isinstance(row[name], list))}


def replies_in(row: Mapping[str, Any]) -> list[RecordedReply]:
    """The replies of a row in the order of its columns; none where no column holds one."""
    row = {name.lower() if name.lower() in _NAMED else name: value for name, value in row.items()}
    for find in (_completions, _pairs, _lists, _numbered, _conversation, _thought_apart, _tagged, _columns):
        if found := list(find(row)):
            return [_ended(reply, row, number) for number, reply in enumerate(found)]
    return []


def _completions(row: Mapping[str, Any]) -> Iterator[RecordedReply]:
    """Whole bodies of an API, as clients save them, and Anthropic's blocks of content."""
    wire = OpenAIWire("compatible")
    for column in (*_REPLY_COLUMNS, ""):
        value = row if not column else row.get(column)
        if column == "content" and isinstance(value, list):
            value = {"type": "message", "content": value}
        if isinstance(value, Mapping) and shape_of(usual(value) if column else value) is not None:
            reply = read_reply(wire, value)
            yield RecordedReply(reply.thinking, reply.answer, reply.finish_reason, reply.note)
            return


def _pairs(row: Mapping[str, Any]) -> Iterator[RecordedReply]:
    """s1K-1.1, OpenThoughts: a teacher's thinking and answer in columns that begin with its name."""
    for column, value in row.items():
        if (pair := _PAIR.fullmatch(column)) and (thinking := _text(value)):
            answers = (_text(row.get(f"{pair[1]}_{name}")) for name in _PAIRED)
            yield RecordedReply(thinking, next(filter(None, answers), ""), name=pair[1])


def _lists(row: Mapping[str, Any]) -> Iterator[RecordedReply]:
    for column in _LIST_COLUMNS:
        values = row.get(column)
        if isinstance(values, Mapping) and all(isinstance(value, Mapping) for value in values.values()):
            values = list(values.values())  # SkyThought: by their temperature
        if isinstance(values, list) and values:
            while len(values) == 1 and isinstance(values[0], list):  # lm-eval: a list for each request
                values = values[0]
            texts = [next((_text(v.get(n)) for n in _REPLY_COLUMNS if v.get(n)), "") if isinstance(v, Mapping)
                     else _text(v) for v in values]  # fmt: skip
            if any(texts):
                yield from map(_split, texts)
                return


def _numbered(row: Mapping[str, Any]) -> Iterator[RecordedReply]:
    """DeepMath: `r1_solution_1` to `r1_solution_3`."""
    named = [name for name, value in row.items() if _NUMBERED.fullmatch(name) and isinstance(value, str)]
    if any(split_text(row[name]).thinking for name in named):
        yield from (_split(row[name]) for name in named if row[name])


def _conversation(row: Mapping[str, Any]) -> Iterator[RecordedReply]:
    """The reply of a conversation, or of the messages that a column `completion` adds to it or has alone (TRL)."""
    thinking = _thinking(row)
    after = row.get("completion")
    if not isinstance(after, list) or not all(isinstance(message, Mapping) for message in after):
        after = []
    after = [{**message, "role": "assistant"} for message in after]
    for column in (*CHAT_COLUMNS, ""):
        asked = row.get(column) if column else [{"role": "user", "content": "?"}]
        parts = chat_parts([*asked, *after] if after and isinstance(asked, list) else asked, column)
        if parts is not None and (parts.assistant or parts.thinking):
            split = _split(parts.assistant)
            found = parts.thinking or split.thinking or thinking
            yield RecordedReply(found, split.answer if split.thinking or found else parts.assistant)
            return


def _thought_apart(row: Mapping[str, Any]) -> Iterator[RecordedReply]:
    if thinking := _thinking(row):
        answers = (_text(row.get(name)) for name in _ANSWER_COLUMNS)
        others = (_text(value) for name, value in row.items() if name.endswith(("_solution", "_answer", "_attempt"))
                  and not name.startswith(("ground_truth", "reference", "gold", "expected")))  # fmt: skip
        solved = (_text(row.get("solution")),)
        yield RecordedReply(thinking, next(filter(None, (*answers, *others, *solved)), ""))


def _columns(row: Mapping[str, Any]) -> Iterator[RecordedReply]:
    for name in _REPLY_COLUMNS:
        if text := _text(row.get(name)):
            yield _split(text)
            return


def _tagged(row: Mapping[str, Any]) -> Iterator[RecordedReply]:
    """A text in any column, if it is the only one with thinking between delimiters."""
    texts = [value for value in row.values() if isinstance(value, str) and split_text(value).thinking]
    yield from map(_split, texts if len(texts) == 1 else [])


def _thinking(row: Mapping[str, Any]) -> str:
    """Thinking in a column of its own; `reasoning: "on"` is a setting of the model, and no thinking."""
    found = (_text(row.get(name)) for name in _THOUGHT_COLUMNS)
    return next((text for text in found if text and text.strip().lower() not in ("on", "off", "true", "false")), "")


def _split(text: str) -> RecordedReply:
    parsed = split_text(text)
    return RecordedReply(parsed.thinking, parsed.answer)


def _text(value: Any) -> str:
    if isinstance(value, list):  # the s1 release keeps its trajectories in lists of one
        value = value[0] if value else ""
    return value if isinstance(value, str) else ""


def _ended(reply: RecordedReply, row: Mapping[str, Any], number: int) -> RecordedReply:
    """The reply with the end that the row tells of; one without thinking or answer is `empty`."""
    given = next((row[name] for name in _FINISHES if row.get(name)), None)
    if isinstance(given, list):
        given = given[number] if number < len(given) else None
    finish, note = (reply.finish, reply.note) if given is None else finish_of(given)
    if given is not None and finish == "malformed":
        note = f"the finish reason {given!r} is not known"
    if row.get("truncated") is True or row.get("is_truncated") is True:
        finish = "length"
    whole = row.get("is_reasoning_complete")
    if isinstance(whole, list) and number < len(whole) and whole[number] is False and finish == "stop":
        finish = "length"
    if not (reply.thinking and reply.answer) and finish in ("stop", "malformed"):
        finish, note = "empty", ""
    return RecordedReply(reply.thinking, reply.answer, finish, note, reply.name)
