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
of tools, from the documentation of OpenAI's and Gemini's fine-tuning, TRL, Label Studio, Argilla and inspect_ai.
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
from s1kit.questions.choices import (
    CONTEXTS,
    Shaped,
    correct_and_incorrect,
    lettered_columns,
    options_list,
    take_context,
)
from s1kit.questions.conversations import COLUMNS as CHAT_COLUMNS
from s1kit.questions.exchanges import chat_parts, text_of_content
from s1kit.questions.names import plain_name, question_text
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
    if isinstance(row.get("question"), dict) and "text" in row["question"] and "correctAnswer" not in row:
        return Shaped(OWN, dict(row["question"]))
    if {"text", "licence", "metadata", "messages", "tools"} <= row.keys() and row.get("id") == question_id(row["text"]):
        return Shaped(OWN, dict(row))
    if isinstance(row.get("row"), str) and "reason" in row and "stage" in row:
        inner = json.loads(row["row"])
        return _own_record(inner) or Shaped("an s1kit dropped row", inner)
    return None


def _chat(row: dict[str, Any]) -> Shaped | None:
    for column in CHAT_COLUMNS:
        if (parts := chat_parts(row.get(column), column)) is None:
            continue
        rest = {key: value for key, value in row.items() if key not in (column, "completion")}
        if isinstance(row.get("prompt"), str) and row["prompt"].strip() == parts.user.strip():
            rest.pop("prompt", None)
        if parts.system:
            rest["system"] = parts.system
        reply = parts.assistant
        if (
            not reply and (completion := row.get("completion")) is not None
        ):  # TRL keeps the reply in a column of its own
            reply = (
                completion
                if isinstance(completion, str)
                else "".join(text_of_content(m["content"], "completion") for m in completion)
            )
        if not reply and column == "input" and isinstance(row.get("output"), str):
            reply = str(rest.pop("output"))
        name = f"{'the first exchange of ' if parts.goes_on else ''}chat messages in {column}"
        truth = _reference_inside(rest) or _reference_of_messages(row[column])
        if truth is not None:
            rest["final_answer"], place = truth
            name = f"{name}, reference in {place}"
            if isinstance(row.get("data_source"), str):
                rest["source"] = rest.pop("data_source")
        elif reply and not any(rest.get(c) for c in ("solution", "answer", "final_answer")):
            rest["solution"] = split_thinking(reply).answer
        found = _aliases(rest | {"text": parts.user})
        return Shaped(name, found.row if found else rest | {"text": parts.user})
    return None


_TRUTHS = ("ground_truth", "reference_answer", "answer", "target", "expected_response", "output")
_HOLDERS = (
    *("reward_model", "verification_info", "reward_spec"),
    *("outputs", "reference_outputs", "expectations", "expectedOutput", "expected_output", "expected"),
)
"""Objects of a row that say what is right: of verl, SYNTHETIC-1 and SkyRL; of LangSmith, MLflow, Langfuse and
Braintrust."""


def _reference_inside(rest: dict[str, Any]) -> tuple[Any, str] | None:
    """The reference and its place, taken out of an object of the row."""
    for holder in (name for name in _HOLDERS if rest.get(name)):
        given = parse_cell(rest[holder], holder)
        if not isinstance(given, dict):
            continue
        for name in _TRUTHS:
            truth = given.get(name)
            if isinstance(truth, dict) and truth.get("target"):  # Search-R1
                truth = truth["target"]
            if isinstance(truth, str) and truth.startswith("{") and _is_object(truth):
                continue  # tests of a program: Eurus, Skywork
            if truth is not None and not isinstance(truth, dict):
                del rest[holder]
                return _first_of(truth), f"{holder}.{name}"
    told = rest.get("metadata")
    if isinstance(told, str) and "expected_answer" in told:  # Nemotron
        told = parse_cell(told, "metadata")
    truth = told.get("expected_answer") if isinstance(told, dict) else None
    return (truth, "metadata.expected_answer") if isinstance(truth, str) and truth else None


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _first_of(truth: Any) -> Any:
    """The first of several answers of which any is right."""
    truth = parse_cell(truth, "reference") if isinstance(truth, str) and truth.startswith('["') else truth
    return truth[0] if isinstance(truth, list) and truth and not isinstance(truth[0], dict | list) else truth


def _reference_of_messages(messages: Any) -> tuple[Any, str] | None:
    """What is right as a field of a message: of Open-Reasoner-Zero, and of AM-DeepSeek-R1-Distilled's `info`."""
    for message in messages if isinstance(messages, list) else []:
        for holder in (message.get("ground_truth"), message.get("info")) if isinstance(message, dict) else ():
            truth = next((holder[n] for n in ("value", "reference_answer") if holder.get(n)), None) if holder else None
            if isinstance(truth, str):
                return truth, "a message"
    return None


def _with_reference(row: dict[str, Any]) -> Shaped | None:
    """A question as text whose reference stands in an object."""
    rest = dict(row)
    if not question_text(row) or (truth := _reference_inside(rest)) is None:
        return None
    return Shaped(f"question from {question_text(row)!r}, reference in {truth[1]}", rest | {"final_answer": truth[0]})


def _alpaca(row: dict[str, Any]) -> Shaped | None:
    instruction = row.get("instruction")
    columns = next((c for c in (("input", "output"), ("context", "response")) if c[1] in row), None)
    if not isinstance(instruction, str) or columns is None:
        return None
    given, answered = row.get(columns[0]), row[columns[1]]
    rest = {key: value for key, value in row.items() if key not in ("instruction", *columns)}
    is_given = isinstance(given, str) and given.strip() and given.strip().lower() not in _NOTHING_GIVEN
    text = f"{instruction}\n\n{given}" if is_given else instruction
    form = "Alpaca" if columns[0] == "input" else "Dolly"
    return Shaped(f"{form} (instruction, {', '.join(columns)})", rest | {"text": text, "solution": answered})


_NOTHING_GIVEN = ("<noinput>", "<no input>", "noinput", "no input", "n/a", "nan", "none")


def _yes_or_no(row: dict[str, Any]) -> Shaped | None:
    """BoolQ as SuperGLUE has it: a passage, a question, and whether it is so as 0 or 1."""
    if type(row.get("label")) is not int or row["label"] not in (-1, 0, 1) or not row.get("passage"):
        return None
    rest = {key: value for key, value in row.items() if key != "label"}
    shaped = _with_context(rest | ({} if row["label"] < 0 else {"answer": bool(row["label"])}))
    return shaped and Shaped(f"{shaped.name}, yes or no by label", shaped.row)


def _with_context(row: dict[str, Any]) -> Shaped | None:
    stem_column = next((c for c in row if str(c).casefold() == "question"), "")
    stem = row.get(stem_column)
    if not isinstance(stem, str):
        return None
    rest = {key: value for key, value in row.items() if key != stem_column}
    context = take_context(rest, stem)
    if not context:
        return None
    named = next(c for c in row if c not in rest and str(c).casefold() in CONTEXTS)
    rest["text"] = f"{context}{stem.strip()}"
    found = _answers(rest) or _aliases(rest)
    return Shaped(f"a question about a {named}", found.row if found else rest)


def _answers(row: dict[str, Any]) -> Shaped | None:
    """An answer as an object: `{value, aliases}` of TriviaQA, `{text: [...]}` of SQuAD."""
    names = (c for c in row if plain_name(c) in ("answer", "answers", "answersspans"))
    column = next((c for c in names if re.match(r"\s*\[?\s*\{", str(row[c] or ""))), None)
    given = parse_cell(row[column], column) if column else None
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if isinstance(given, dict):
        given = {str(name).lower(): value for name, value in given.items()}
    if column is None or not isinstance(given, dict):
        return None
    if isinstance(given.get("date"), dict):  # DROP
        given["date"] = " ".join(str(v) for v in given["date"].values() if v)
    keys = ("value", "text", "spans", "final_answer", "answer", "number", "date")
    key = next((k for k in keys if given.get(k)), None)
    if key is None and given.get("text") == []:  # SQuAD 2: the passage does not say
        return Shaped("a question without an answer", {k: v for k, v in row.items() if k != column})
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


_SEVERAL = ("answers", "ideal", "gold_answers", "golden_answers", "possible_answers")
_WORD = re.compile(r"(?<![\\a-zA-Z])[^\W\d_]{3,}")


def _aliases(row: dict[str, Any]) -> Shaped | None:
    """Several answers of which any is right, as a list of texts (`answer` of NQ-open), or beside one (MuSiQue).

    Numbers, letters and formulas in a list called `answer` are the parts of one answer, such as roots or options.
    """
    column = next((c for c in _SEVERAL if row.get(c)), None)
    if column is None and isinstance(row.get("answer"), list) and row.get("is_multiple_answer") is not True:
        column = "answer" if any(_WORD.search(str(value)) for value in row["answer"]) else None
    given = parse_cell(row[column], column) if column else None
    if column is None and isinstance(row.get("answer_aliases"), list) and isinstance(row.get("answer"), str):
        column, given = "answer_aliases", [row["answer"], *row["answer_aliases"]]
    if column is None or not isinstance(given, list) or not all(isinstance(v, str | int | float) for v in given):
        return None
    if not question_text(row) or not given:
        return None
    first, *others = [str(value) for value in given]
    rest = {k: v for k, v in row.items() if k not in (column, "answer")} | {"final_answer": first}
    name = f"question from {question_text(row)!r}, an answer with aliases ({column})"
    return Shaped(name, rest | ({"aliases": list(dict.fromkeys(others))} if others else {}))


def _generations(row: dict[str, Any]) -> Shaped | None:
    """OpenR1: several replies beside the question. They are traces, which `recorded:` reads."""
    if isinstance(row.get("generations"), list) and isinstance(row.get("problem"), str):
        return Shaped("OpenR1 (problem, solution, answer)", {k: v for k, v in row.items() if k != "generations"})
    return None


def _preferred(row: dict[str, Any]) -> Shaped | None:
    """A pair of replies of which one is preferred, as DPO trains on: the preferred one is the reference."""
    pairs = (("chosen", "rejected"), ("preferred_output", "non_preferred_output"))
    pair = next((pair for pair in pairs if row.get(pair[0]) and pair[1] in row), None)
    if pair is None:
        return None
    rest = {key: value for key, value in row.items() if key not in pair}
    chosen = parse_cell(row[pair[0]], pair[0])
    is_whole = isinstance(chosen, list) and isinstance(chosen[0], dict) and chosen[0].get("role") != "assistant"
    if is_whole and "messages" not in rest:
        rest = {key: value for key, value in rest.items() if key != "prompt"} | {"messages": chosen}
    else:
        rest["completion"] = chosen
    shaped = reshape(rest)
    return Shaped(f"the preferred reply of a pair ({pair[0]})", shaped.row)


def _judged(row: dict[str, Any]) -> Shaped | None:
    """A reply that was found desirable or not, as KTO trains on: only a desirable one is a reference."""
    if not isinstance(row.get("label"), bool) or "completion" not in row:
        return None
    kept = {key: value for key, value in row.items() if key != "label" and (row["label"] or key != "completion")}
    return Shaped("a reply judged as desirable or not (completion, label)", reshape(kept).row)


def _inside(row: dict[str, Any]) -> Shaped | None:
    """A row whose columns stand in one object of it, such as `data` of Label Studio or `fields` of Argilla."""
    if question_text(row):
        return None
    found = [
        key
        for key, value in row.items()
        if isinstance(value, dict) and (question_text(value) or any(chat_parts(value.get(c), c) for c in CHAT_COLUMNS))
    ]
    if len(found) != 1:
        return None
    (key,) = found
    rest = {name: value for name, value in row.items() if name != key and name not in row[key]}
    shaped = reshape(rest | row[key])
    return Shaped(f"{shaped.name or 'a row'} inside {key!r}", shaped.row)


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
        name.removesuffix(".responses"): _first_of(value)
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
        _first_of(v[n]) for v in values for n in ("text", "choices", "number") if isinstance(v.get(n), list | int)
    ]
    if not answers:
        return None
    return Shaped("Label Studio's annotations", reshape({"final_answer": answers[0], **data}).row)


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
    _turns,
    _inside,
    _preferred,
    _judged,
    _chat,
    _generations,
    _alpaca,
    options_list,
    lettered_columns,
    correct_and_incorrect,
    _yes_or_no,
    _with_context,
    _answers,
    _aliases,
    _with_reference,
)
"""The first that fits a row decides."""
