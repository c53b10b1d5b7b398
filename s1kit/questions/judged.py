"""Replies that somebody compared or judged: pairs for DPO, marks for KTO, steps for a process reward, ranks.

Only what was found good is a reference or a trace. Shapes from the documentation of TRL, LLaMA-Factory, axolotl and
OpenAI's fine-tuning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from s1kit.errors import InputError
from s1kit.questions.cells import parse_cell
from s1kit.questions.conversations import COLUMNS as CHAT_COLUMNS
from s1kit.questions.conversations import content_of, role_of
from s1kit.questions.exchanges import chat_parts, text_of_content
from s1kit.questions.names import question_text
from s1kit.questions.rendered import transcript_turns


class Judged(NamedTuple):
    """A row in which the judged replies are replaced by the good one, in `completion` or at the end of `messages`."""

    row: dict[str, Any]
    name: str
    """What the row was taken for, in words."""
    without: str = ""
    """Why no reply is left; empty where one is, or where it answers a later turn than the first."""


def judged_reply(row: Mapping[str, Any]) -> Judged | None:
    """The row with the reply that was found good; None for a row whose replies nobody judged.

    Raises InputError for a pair without a question, and for marks that are neither true nor false.

        >>> judged_reply({"prompt": "1+1?", "chosen": "2", "rejected": "3"}).row
        {'prompt': '1+1?', 'completion': '2'}
        >>> judged_reply({"prompt": "1+1?", "completion": "3", "label": False}).without
        'the reply was judged undesirable (label)'
    """
    for find in (_of_a_pair, _marked, _found_wrong, _steps, _marked_inside, _first_wrong_step, _ranked):
        if (found := find(row)) is not None:
            return found
    return None


_PAIRS = (
    *(("chosen", "rejected"), ("preferred_output", "non_preferred_output")),
    *(("chosen_response", "rejected_response"), ("chosen_messages", "rejected_messages")),
)


def _of_a_pair(row: Mapping[str, Any]) -> Judged | None:
    pair = next((pair for pair in _PAIRS if row.get(pair[0]) and pair[1] in row), None)
    if pair is None:
        return None
    name = f"the preferred reply of a pair ({pair[0]})"
    rest = {key: value for key, value in row.items() if key not in pair}
    chosen = parse_cell(row[pair[0]], pair[0])
    if isinstance(begun := rest.pop("initial_reason_steps", None), str) and isinstance(chosen, str):  # Step-DPO
        chosen = begun + str(rest.pop("full_chosen", chosen))
    chat = next((parts for c in CHAT_COLUMNS if (parts := chat_parts(rest.get(c), c)) is not None), None)
    if isinstance(chosen, str) and not question_text(rest) and chat is None:
        chosen = transcript_turns(chosen)  # Anthropic's HH: both are whole conversations
        if chosen is None:
            raise InputError(
                f"{pair[0]!r} and {pair[1]!r} hold question and reply in one text",
                where=pair[0],
                fix="Put what both begin with, the question, into a column prompt, and leave the replies in theirs.",
            )
    if isinstance(chosen, Mapping):  # LLaMA-Factory: one message
        chosen = [chosen]
    if not isinstance(chosen, list):
        return Judged({**rest, "completion": chosen}, name)
    if any(isinstance(message, Mapping) and role_of(message)[0] == "user" for message in chosen):
        return Judged({k: v for k, v in rest.items() if k not in ("prompt", "messages")} | {"messages": chosen}, name)
    if chat is not None and chat.assistant:
        return Judged(rest, f"{name} to a later turn, which is left out")
    return Judged({**rest, "completion": chosen}, name)


_MARKS = ("label", "kto_tag")


def _marked(row: Mapping[str, Any]) -> Judged | None:
    """KTO: a reply, at the end of a conversation or in a column of its own, and whether it is desirable."""
    mark = next((name for name in _MARKS if _truth(row.get(name)) is not None), None)
    if mark is None:
        return None
    rest = {key: value for key, value in row.items() if key != mark}
    is_desirable = _truth(row[mark])
    without = "" if is_desirable else f"the reply was judged undesirable ({mark})"
    name = f"a reply judged {'desirable' if is_desirable else 'undesirable, which is left out'} ({mark})"
    if "completion" in row:
        return Judged(rest if is_desirable else _less(rest, "completion"), name, without)
    for column in CHAT_COLUMNS:
        parts = chat_parts(row.get(column), column)
        messages = parse_cell(row.get(column), column)
        if parts is None or not parts.assistant or not isinstance(messages, list):
            continue
        if not is_desirable and not all(isinstance(message, Mapping) for message in messages):
            messages = []  # turns without roles: which one was judged is not known
        while not is_desirable and messages and role_of(messages[-1])[0] == "assistant":
            messages = messages[:-1]
        return Judged({**rest, column: messages}, name, without)
    return None


_VERDICTS = ("is_correct", "is_passed", "passed")
_JUDGED = ("generated_solution", "generation", "response", "completion", "output")


def _found_wrong(row: Mapping[str, Any]) -> Judged | None:
    """A reply that its data set marks as wrong (OpenMathInstruct, rStar-Coder)."""
    verdict = next((name for name in _VERDICTS if _truth(row.get(name)) is False), None)
    if verdict is None or not any(row.get(name) for name in _JUDGED):
        return None
    name = f"a reply found wrong, which is left out ({verdict})"
    return Judged(_less(row, *_JUDGED), name, f"the reply was found wrong ({verdict})")


def _truth(mark: Any) -> bool | None:
    if isinstance(mark, str):  # as CSV has it
        return {"true": True, "false": False}.get(mark.strip().lower())
    return mark if isinstance(mark, bool) else None


def _steps(row: Mapping[str, Any]) -> Judged | None:
    """A solution in steps, each marked right or wrong, as process reward models are trained on (TRL, axolotl)."""
    steps, marks = row.get("completions"), row.get("labels")
    if not isinstance(steps, list) or not isinstance(marks, list) or len(steps) != len(marks) or not steps:
        return None
    if not all(isinstance(step, str) for step in steps) or not all(isinstance(mark, bool) for mark in marks):
        return None
    rest = _less(row, "completions", "labels")
    if all(marks):
        return Judged({**rest, "completion": "\n".join(steps)}, "steps that were judged right (completions, labels)")
    without = "a step of the reply was judged wrong (labels)"
    return Judged(rest, "steps of which one was judged wrong, left out (completions, labels)", without)


_STEP_END = "ки"
"""What Math-Shepherd has at the end of each step where its mark will stand."""


def _marked_inside(row: Mapping[str, Any]) -> Judged | None:
    """Question and steps in one text, and the same text with + or - at the end of each step (Math-Shepherd)."""
    text, label = row.get("input"), row.get("label")
    if not isinstance(text, str) or not isinstance(label, str):
        return None
    marks = re.fullmatch("([+-])".join(map(re.escape, text.split(_STEP_END))), label)
    question, begins, steps = text.partition("Step 1:")
    if marks is None or not marks.groups() or not begins:
        return None
    rest = {**_less(row, "input", "label"), "prompt": question.strip()}
    if "-" in marks.groups():
        without = "a step of the reply was judged wrong (label)"
        return Judged(rest, "steps of which one was judged wrong, left out (input, label)", without)
    completion = re.sub(rf"\s*{_STEP_END}[ \t]*", "", begins + steps).strip()
    return Judged({**rest, "completion": completion}, "steps that were judged right (input, label)")


def _first_wrong_step(row: Mapping[str, Any]) -> Judged | None:
    """A solution in steps and the place of its first wrong one, -1 where all are right (ProcessBench)."""
    steps, wrong = row.get("steps"), row.get("label")
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps) or type(wrong) is not int:
        return None
    rest = _less(row, "steps", "label")
    if wrong < 0:
        return Judged({**rest, "completion": "\n\n".join(steps)}, "steps that were judged right (steps, label)")
    return Judged(
        rest, "steps of which one was judged wrong, left out (steps, label)", f"step {wrong} is wrong (label)"
    )


def _ranked(row: Mapping[str, Any]) -> Judged | None:
    """Several replies with their ranks, 1 being the best."""
    replies = row.get("answers")
    if not isinstance(replies, list) or not replies or not question_text(row):
        return None
    if not all(isinstance(r, Mapping) and isinstance(r.get("answer"), str) and "rank" in r for r in replies):
        return None
    if not all(str(reply["rank"]).isdecimal() for reply in replies):
        return None
    best = min(replies, key=lambda reply: int(reply["rank"]))
    return Judged({**_less(row, "answers"), "completion": best["answer"]}, "the best of ranked replies (answers)")


def _less(row: Mapping[str, Any], *columns: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in columns}


def text_of_reply(completion: Any, column: str) -> str:
    """A reply as one text: as it is, or what its messages say; empty for anything else.

    Raises InputError for messages that are no text.
    """
    if isinstance(completion, Mapping):
        completion = [completion]
    if isinstance(completion, list) and all(isinstance(message, Mapping) for message in completion):
        return "".join(text_of_content(content_of(message), column) for message in completion)
    return completion if isinstance(completion, str) else ""
