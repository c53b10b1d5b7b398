"""What a row is, by its columns: chat messages, Alpaca, multiple choice, and the other shapes of published data sets.

A shape turns a row into one with the columns `text`, `solution` and `final_answer`; the name of the shape is told to
the user. A row that is none of them keeps its columns, which are then found by their names.

    >>> reshape({"question": "Which is prime?", "choices": ["4", "6", "7", "8"], "answer": 2}).row["final_answer"]
    'C'
    >>> reshape({"instruction": "Mend this.", "input": "He finnished.", "output": "finished"}).row["text"]
    'Mend this.\\n\\nHe finnished.'

Shapes were read from the data sets' own cards: tatsu-lab/alpaca, cais/mmlu, TIGER-Lab/MMLU-Pro, allenai/ai2_arc,
allenai/sciq, truthfulqa/truthful_qa, openlifescienceai/medmcqa, mandarjoshi/trivia_qa, open-r1/OpenR1-Math-220k,
open-thoughts/OpenThoughts-114k, simplescaling/s1K-1.1, BytedTsinghua-SIA/DAPO-Math-17k, databricks-dolly-15k,
HuggingFaceH4/ultrachat_200k, nvidia/Llama-Nemotron-Post-Training-Dataset, lucasmccabe/logiqa, hails/agieval-sat-en;
xinlai/Math-Step-DPO-10K, Qwen/ProcessBench; of tools, from the documentation of OpenAI's and Gemini's
fine-tuning, TRL, LLaMA-Factory, axolotl, verl, Label Studio, Argilla, inspect_ai, prodigy and promptfoo.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from s1kit.errors import InputError
from s1kit.forcing.delimiters import split_thinking
from s1kit.questions.cells import parse_cell
from s1kit.questions.choices import correct_and_incorrect, lettered_columns, options_list, with_options
from s1kit.questions.conversations import COLUMNS as CHAT_COLUMNS
from s1kit.questions.conversations import WHOLE, thread
from s1kit.questions.exchanges import ALPACA_REPLIES, chat_parts, instructed, with_history
from s1kit.questions.judged import judged_reply, text_of_reply
from s1kit.questions.names import plain_name, question_text
from s1kit.questions.options import letter_of, read_options
from s1kit.questions.passages import with_context, yes_or_no
from s1kit.questions.raw_rows import Shaped
from s1kit.questions.references import (
    answer_object,
    first_of,
    reference_inside,
    reference_of_messages,
    several_answers,
    with_reference,
)
from s1kit.questions.rendered import transcript_turns
from s1kit.records import question_id


def reshape(row: Mapping[str, Any]) -> Shaped:
    """Rewrite a row of a known shape into plain columns.

    Raises InputError where a shape is recognised and its parts do not fit together.
    """
    plain = {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}
    for shape in _SHAPES:
        if (shaped := shape(plain)) is not None:
            return shaped
    return Shaped("", plain)


OWN = "an s1kit record"


def _own_record(row: dict[str, Any]) -> Shaped | None:
    """Read rows that s1kit wrote: traces, samples and dropped rows."""
    if isinstance(row.get("trace"), dict) and "picked_by" in row:
        return _own_record(row["trace"])
    shape, question = str(row.get("shape")), row.get("question")
    if isinstance(question, dict) and (shape.startswith(WHOLE) or {"text", "solution"} <= question.keys()):
        return Shaped(shape if shape.startswith(WHOLE) else OWN, dict(question))
    if {"text", "licence", "metadata", "messages", "tools"} <= row.keys() and row.get("id") == question_id(row["text"]):
        return Shaped(OWN, dict(row))
    if isinstance(row.get("row"), str) and "reason" in row and "stage" in row:
        inner = json.loads(row["row"])
        return _own_record(inner) or Shaped("an s1kit dropped row", inner)
    return None


def _chat(row: dict[str, Any]) -> Shaped | None:
    row = thread(row) or row
    column, parts = next(((c, p) for c in CHAT_COLUMNS if (p := chat_parts(row.get(c), c)) is not None), ("", None))
    if parts is None:
        return None
    rest = {key: value for key, value in row.items() if key not in (column, "completion")}
    if isinstance(row.get("prompt"), str) and row["prompt"].strip() == parts.user.strip():
        rest.pop("prompt", None)
    if parts.system:
        rest["system"] = parts.system
    reply = parts.assistant or _reply_beside(row, column, rest)
    name = f"{'the first exchange of ' if parts.goes_on else ''}chat messages in {column}"
    truth = reference_inside(rest) or reference_of_messages(row[column])
    if truth is not None:
        rest["final_answer"], place = truth
        name = f"{name}, reference in {place}"
        if isinstance(row.get("data_source"), str):
            rest["source"] = rest.pop("data_source")
    elif reply and not any(rest.get(c) for c in ("solution", "answer", "final_answer")):
        rest["solution"] = split_thinking(reply).answer
    if (options := _options_inside(row)) is not None:  # verl's rows of HellaSwag
        return Shaped(
            f"{name}, choices beside it", with_options(rest, ("final_answer", "messages"), parts.user, *options)
        )
    rest["text"] = parts.user
    found = several_answers(rest)
    return Shaped(name, found.row if found else rest)


def _options_inside(row: dict[str, Any]) -> tuple[list[str], str] | None:
    """The options and the right letter that a row has beside its reference, in the same object."""
    given = row.get("reward_model")
    if not isinstance(given, dict) or not isinstance(given.get("choices"), list) or given.get("ground_truth") is None:
        return None
    options = read_options(given["choices"], "reward_model.choices")
    return options and (options.texts, letter_of(given["ground_truth"], options, "reward_model.ground_truth"))


def _reply_beside(row: dict[str, Any], column: str, rest: dict[str, Any]) -> str:
    """The reply in a column of its own: TRL's `completion`, or the `output` of an `input`, taken out of `rest`."""
    completion = text_of_reply(row.get("completion"), "completion")
    if not completion and column == "input" and isinstance(row.get("output"), str):
        completion = str(rest.pop("output"))
    return completion


def _alpaca(row: dict[str, Any]) -> Shaped | None:
    """An instruction and what it is about."""
    if (whole := with_history(row)) is not None:
        shaped = reshape(whole)
        return Shaped(f"Alpaca with history, {shaped.name}", shaped.row)
    instruction = row.get("instruction")
    given_in = next((name for name in ("input", "context") if name in row), "")
    answered = next((name for name in ALPACA_REPLIES if name in row), "")
    if not isinstance(instruction, str) or not (given_in or answered):
        return None
    reply, given = row.get(_CORRECTED if row.get(_CORRECTED) else answered), row.get(given_in)
    gone = ("instruction", answered, _CORRECTED, given_in if given is None or isinstance(given, str) else "")
    rest = {key: value for key, value in row.items() if key not in gone}
    form = "Dolly" if given_in == "context" else "Alpaca"
    name = f"{form} ({', '.join(filter(None, ['instruction', given_in, answered]))})"
    if reply := text_of_reply(reply, answered) or reply:
        rest["solution"] = reply
    return Shaped(name, rest | {"text": instructed(instruction, given)})


_CORRECTED = "corrected"
"""What a reply should have been (axolotl's `reflection`)."""


def _generations(row: dict[str, Any]) -> Shaped | None:
    """OpenR1: several replies beside the question. They are traces, which `recorded:` reads."""
    if isinstance(row.get("generations"), list) and isinstance(row.get("problem"), str):
        return Shaped("OpenR1 (problem, solution, answer)", {k: v for k, v in row.items() if k != "generations"})
    return None


def _judged(row: dict[str, Any]) -> Shaped | None:
    """Replies that were compared or judged: only a good one is a reference."""
    judged = judged_reply(row)
    if judged is None:
        return None
    shaped = reshape(judged.row)
    return Shaped(", ".join(filter(None, [judged.name, shaped.name])), shaped.row)


def _transcribed(row: dict[str, Any]) -> Shaped | None:
    """A conversation written as one text in which Human and Assistant speak."""
    column = question_text(row)
    turns = transcript_turns(row[column]) if column else None
    if turns is None or len(turns) < 2:
        return None
    rest = {key: value for key, value in row.items() if key != column}
    shaped = reshape({"messages": turns, **rest})
    return Shaped(f"a transcript of Human and Assistant in {column!r}, {shaped.name}", shaped.row)


def _inside(row: dict[str, Any]) -> Shaped | None:
    """A row whose columns stand in one object of it, such as `data` of Label Studio or `fields` of Argilla."""
    if question_text(row):
        return None
    found = [
        key
        for key, value in row.items()
        if isinstance(value, dict)
        and not _OF_A_REPLY.search(plain_name(key))
        and (question_text(value) or any(chat_parts(value.get(c), c) for c in CHAT_COLUMNS))
    ]
    if len(found) != 1:
        return None
    (key,) = found
    rest = {name: value for name, value in row.items() if name != key and name not in row[key]}
    shaped = reshape(rest | row[key])
    return Shaped(f"{shaped.name or 'a row'} inside {key!r}", shaped.row)


_OF_A_REPLY = re.compile("answer|output|repl|response|result|expected|reference|solution")
"""In the plain name of an object that holds what answers a question, and no question."""


def _turns(row: dict[str, Any]) -> Shaped | None:
    """MT-bench, LiveBench, Arena-Hard: what a user asks in turn, as a list of texts; the first is the question. In the
    logs of LMSYS the list stands in a text."""
    column = "turns" if "turns" in row else "prompt"
    turns = row.get(column)
    if isinstance(turns, str) and turns.startswith('["'):
        turns = parse_cell(turns, column)
    if isinstance(turns, list):
        turns = [turn["content"] if isinstance(turn, dict) and set(turn) == {"content"} else turn for turn in turns]
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, str) for turn in turns):
        return None
    rest = {name: value for name, value in row.items() if name != column} | {"text": turns[0]}
    if isinstance(reference := rest.pop("reference", None), list) and reference:
        rest["solution"] = reference[0]
    return Shaped(f"{'the first of several turns' if len(turns) > 1 else 'the only turn'} in turns", rest)


def _annotated(row: dict[str, Any]) -> Shaped | None:
    """What annotators answered: Argilla's `answer.responses`, and the results of Label Studio."""
    told = {
        name.removesuffix(".responses"): first_of(value)
        for name, value in row.items()
        if str(name).endswith(".responses") and isinstance(value, list) and value
    }
    if told:
        rest = {name: value for name, value in row.items() if str(name).partition(".")[0] not in told}
        return Shaped("Argilla's responses", reshape(rest | told).row)
    data, given = row.get("data"), row.get("annotations")
    if not isinstance(data, dict) or not isinstance(given, list):
        return None
    results = [r for a in given if isinstance(a, dict) and not a.get("was_cancelled") for r in a.get("result") or ()]
    values = [r["value"] for r in results if isinstance(r, dict) and isinstance(r.get("value"), dict)]
    answers = [
        first_of(v[n]) for v in values for n in ("text", "choices", "number") if isinstance(v.get(n), list | int)
    ]
    if not answers:
        return None
    return Shaped("Label Studio's annotations", reshape({"final_answer": answers[0], **data}).row)


def _task_of_prodigy(row: dict[str, Any]) -> Shaped | None:
    """A task of prodigy: `answer` says whether what was annotated is accepted, and is none."""
    decided = row.get("answer")
    if "_task_hash" not in row or decided not in ("accept", "reject", "ignore"):
        return None
    annotated = {"answer": row.get("accept"), "final_answer": row.get("user_input")} if decided == "accept" else {}
    gone = ("answer", "accept", "label", "user_input")
    rest = {name: value for name, value in row.items() if name not in gone and not str(name).startswith("_")}
    shaped = reshape(rest | {name: value for name, value in annotated.items() if value})
    return Shaped(", ".join(filter(None, [f"prodigy's task ({decided})", shaped.name])), shaped.row)


def _expected_by_promptfoo(row: dict[str, Any]) -> Shaped | None:
    """A test of promptfoo: `__expected` is a text, or an assertion, of which only equality tells an answer."""
    if not isinstance(expected := row.get("__expected"), str):
        return None
    rest = {name: value for name, value in row.items() if name != "__expected"}
    kind, told, value = expected.partition(":")
    if re.fullmatch("[a-z-]+", kind) and told:
        rest |= {"final_answer": value.strip()} if kind == "equals" else {"__assertion": expected}
    else:
        rest["final_answer"] = expected
    shaped = reshape(rest)
    return Shaped(", ".join(filter(None, ["promptfoo's test", shaped.name])), shaped.row)


def _message_of_a_tree(row: dict[str, Any]) -> Shaped | None:
    """OpenAssistant: a row is one message of a tree; only its root is a question by itself."""
    if "message_id" not in row or "parent_id" not in row or not isinstance(row.get("role"), str):
        return None
    if row["parent_id"] is not None or row["role"] == "assistant":
        raise InputError(
            f"the row is a message of the {row['role']} within a conversation",
            where="parent_id",
            fix="Leave such rows out with keep: those without a parent_id are questions.",
        )
    return Shaped("the root of a tree of messages", dict(row))


def _numbered_messages(row: dict[str, Any]) -> Shaped | None:
    """Open-Reasoner-Zero as the Hub has it: its messages in the columns 0 and 1."""
    if set(row) != {"0", "1"} or not all(isinstance(message, dict) for message in row.values()):
        return None
    return _chat({"messages": [row["0"], row["1"]]})


def _stem_inside(row: dict[str, Any]) -> Shaped | None:
    """ARC's own files: the question is an object with its stem and its choices; The Trivia API has its text there."""
    question = row.get("question")
    stem = next((n for n in ("stem", "text") if isinstance(question, dict) and isinstance(question.get(n), str)), None)
    if not isinstance(question, dict) or stem is None:
        return None
    inside = {"question" if name == stem else name: value for name, value in question.items()}
    return reshape({name: value for name, value in row.items() if name != "question"} | inside)


_SHAPES: tuple[Callable[[dict[str, Any]], Shaped | None], ...] = (
    _own_record,
    _stem_inside,
    _message_of_a_tree,
    _numbered_messages,
    _annotated,
    _task_of_prodigy,
    _expected_by_promptfoo,
    _turns,
    _inside,
    _judged,
    _transcribed,
    _chat,
    _generations,
    options_list,
    lettered_columns,
    correct_and_incorrect,
    _alpaca,
    yes_or_no,
    with_context,
    answer_object,
    several_answers,
    with_reference,
)
"""The first that fits a row decides."""
