"""What a row is, by its columns: chat messages, Alpaca, multiple choice, and the other shapes of published data sets.

A shape turns a row into one with the columns `text`, `solution` and `final_answer`; the name of the shape is told to
the user. A row that is none of them keeps its columns, which are then found by their names.

    >>> reshape({"question": "Which is prime?", "choices": ["4", "6", "7", "8"], "answer": 2}).row["final_answer"]
    'C'
    >>> reshape({"instruction": "Mend this.", "input": "He finnished.", "output": "finished"}).row["text"]
    'Mend this.\\n\\nHe finnished.'

Shapes were read from the data sets' own cards: tatsu-lab/alpaca, cais/mmlu, TIGER-Lab/MMLU-Pro, allenai/ai2_arc,
allenai/sciq, truthfulqa/truthful_qa, openlifescienceai/medmcqa, mandarjoshi/trivia_qa, open-r1/OpenR1-Math-220k,
open-thoughts/OpenThoughts-114k, simplescaling/s1K-1.1, BytedTsinghua-SIA/DAPO-Math-17k.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from s1kit.errors import InputError
from s1kit.questions.choices import Shaped, correct_and_incorrect, lettered_columns, options_list, take_context


class ChatParts(NamedTuple):
    """The parts of one exchange."""

    system: str
    user: str
    assistant: str
    """Empty where the conversation ends with the user."""


def reshape(row: Mapping[str, Any]) -> Shaped:
    """The row in plain columns. Raises InputError where a shape is recognised and its parts do not fit together."""
    plain = {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}
    for shape in _SHAPES:
        if (shaped := shape(plain)) is not None:
            return shaped
    return Shaped("", plain)


def chat_parts(value: Any, column: str) -> ChatParts | None:
    """One user message and what was answered to it, from a list of messages in OpenAI's or ShareGPT's names.

    None where the value is no list of messages. Raises InputError for several turns or contents that are no text.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    if not isinstance(value, list) or not value or not all(isinstance(m, dict) for m in value):
        return None
    said: dict[str, list[str]] = {"system": [], "user": [], "assistant": []}
    for message in value:
        role = _ROLES.get(str(message.get("role", message.get("from", ""))).lower())
        if role is None:
            return None
        said[role].append(_content(message.get("content", message.get("value")), column))
    if len(said["user"]) != 1 or len(said["assistant"]) > 1:
        raise InputError(
            f"the conversation in {column!r} has {len(said['user'])} messages of the user",
            where=column,
            fix=f'A question is one turn; name its message, for example columns = {{ text = "{column}[0].content" }}.',
        )
    return ChatParts("\n".join(said["system"]), said["user"][0], "".join(said["assistant"]))


_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
}


def _content(value: Any, column: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in value):
        return "".join(part["text"] for part in value)
    raise InputError(f"a message in {column!r} is no text: {value!r:.60}", where=column, fix="Only text can be asked.")


_DELIMITERS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|im_start|>think", "<|im_start|>answer"),
)


def split_reply(text: str) -> tuple[str, str]:
    """Thinking and answer of a recorded reply; no thinking where none is marked.

    >>> split_reply("<think>one and one</think>2")
    ('one and one', '2')
    >>> split_reply("<|begin_of_thought|>hm<|end_of_thought|> <|begin_of_solution|>4<|end_of_solution|>")
    ('hm', '4')
    """
    for start, end in _DELIMITERS:
        before, closed, after = text.partition(end)
        opened = before.lstrip().startswith(start)
        if closed or opened:
            thinking = before.lstrip().removeprefix(start) if opened else before
            return thinking.strip(), re.sub(r"<\|(begin|end)_of_solution\|>", "", after).strip()
    return "", re.sub(r"<\|(begin|end)_of_solution\|>", "", text)


def _own_record(row: dict[str, Any]) -> Shaped | None:
    """Traces, samples and dropped rows as s1kit writes them."""
    if isinstance(row.get("trace"), dict) and "picked_by" in row:
        return _own_record(row["trace"])
    if isinstance(row.get("question"), dict) and "text" in row["question"]:
        return Shaped("an s1kit record", dict(row["question"]))
    if isinstance(row.get("row"), str) and "reason" in row and "stage" in row:
        inner = json.loads(row["row"])
        return _own_record(inner) or Shaped("an s1kit dropped row", inner)
    return None


def _chat(row: dict[str, Any]) -> Shaped | None:
    for column in ("messages", "conversations", "conversation", "prompt"):
        if (parts := chat_parts(row.get(column), column)) is None:
            continue
        rest = {key: value for key, value in row.items() if key not in (column, "completion")}
        if parts.system:
            rest["system"] = parts.system
        reply = parts.assistant
        if (
            not reply and (completion := row.get("completion")) is not None
        ):  # TRL keeps the reply in a column of its own
            reply = (
                completion
                if isinstance(completion, str)
                else "".join(_content(m["content"], "completion") for m in completion)
            )
        name = f"chat messages in {column}"
        reward = row.get("reward_model")
        if isinstance(reward, dict) and reward.get("ground_truth") is not None:
            rest.pop("reward_model")
            rest["final_answer"], name = reward["ground_truth"], f"{name}, reference in reward_model.ground_truth"
            if isinstance(row.get("data_source"), str):
                rest["source"] = rest.pop("data_source")
        elif reply and not any(rest.get(c) for c in ("solution", "answer", "final_answer")):
            rest["solution"] = split_reply(reply)[1]
        return Shaped(name, rest | {"text": parts.user})
    return None


def _alpaca(row: dict[str, Any]) -> Shaped | None:
    instruction = row.get("instruction")
    if not isinstance(instruction, str) or "output" not in row:
        return None
    given = row.get("input")
    rest = {key: value for key, value in row.items() if key not in ("instruction", "input", "output")}
    text = f"{instruction}\n\n{given}" if isinstance(given, str) and given.strip() else instruction
    return Shaped("Alpaca (instruction, input, output)", rest | {"text": text, "solution": row["output"]})


def _with_context(row: dict[str, Any]) -> Shaped | None:
    stem = row.get("question")
    if not isinstance(stem, str):
        return None
    rest = {key: value for key, value in row.items() if key != "question"}
    context = take_context(rest, stem)
    if not context:
        return None
    named = next(c for c in ("context", "passage", "article") if c in row and c not in rest)
    found = _answers(rest)
    return Shaped(f"a question about a {named}", (found.row if found else rest) | {"text": f"{context}{stem.strip()}"})


def _answers(row: dict[str, Any]) -> Shaped | None:
    """An answer as an object: `{value, aliases}` of TriviaQA, `{text: [...]}` of SQuAD."""
    column = next((c for c in ("answer", "answers") if isinstance(row.get(c), dict)), None)
    if column is None:
        return None
    given = row[column]
    key = next((k for k in ("value", "text", "final_answer", "answer") if given.get(k)), None)
    if key is None:
        raise InputError(
            f"{column!r} is an object with {', '.join(given) or 'nothing'}",
            where=column,
            fix=f'Name the part that is the answer, e.g. columns = {{ answer = "{column}.{next(iter(given), "x")}" }}.',
        )
    values = given[key] if isinstance(given[key], list) else [given[key]]
    aliases = [str(v) for v in [*values[1:], *(given.get("aliases") or [])] if str(v) != str(values[0])]
    rest = {k: v for k, v in row.items() if k != column} | {"final_answer": str(values[0])}
    return Shaped(
        f"an answer with aliases ({column}.{key})",
        rest | ({"aliases": list(dict.fromkeys(aliases))} if aliases else {}),
    )


def _generations(row: dict[str, Any]) -> Shaped | None:
    """OpenR1: several replies beside the question. They are traces, which `recorded:` reads."""
    if isinstance(row.get("generations"), list) and isinstance(row.get("problem"), str):
        return Shaped("OpenR1 (problem, solution, answer)", {k: v for k, v in row.items() if k != "generations"})
    return None


_SHAPES: tuple[Callable[[dict[str, Any]], Shaped | None], ...] = (
    _own_record,
    _chat,
    _generations,
    _alpaca,
    options_list,
    lettered_columns,
    correct_and_incorrect,
    _with_context,
    _answers,
)
"""The first that fits a row decides."""
