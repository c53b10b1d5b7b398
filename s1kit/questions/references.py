"""Where a row holds what is right, when no plain column does: in an object, in a message, or among several answers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from s1kit.errors import InputError
from s1kit.questions.cells import parse_cell
from s1kit.questions.names import plain_name, question_text
from s1kit.questions.raw_rows import Shaped
from s1kit.questions.wording import strict_words

_TRUTHS = ("ground_truth", "reference_answer", "answer", "target", "expected_response", "output")
_HOLDERS = (
    *("reward_model", "verification_info", "reward_spec"),
    *("outputs", "reference_outputs", "expectations", "expectedOutput", "expected_output", "expected"),
)
"""Objects of a row that say what is right: of verl, SYNTHETIC-1 and SkyRL; of LangSmith, MLflow, Langfuse and
Braintrust."""


def reference_inside(row: dict[str, Any]) -> tuple[Any, str] | None:
    """The reference and its place, taken out of an object of the row; None where no object holds one.

    Removes the object from `row`, but for `metadata`, which says other things, too.
    """
    for holder in (name for name in _HOLDERS if row.get(name)):
        given = parse_cell(row[holder], holder)
        for name in _TRUTHS if isinstance(given, dict) else ():
            if (truth := _plain_truth(given.get(name))) is not None:
                del row[holder]
                if others := others_of(truth):
                    row.setdefault("aliases", others)
                return first_of(truth), f"{holder}.{name}"
    told = row.get("metadata")
    if isinstance(told, str) and "expected_answer" in told:  # Nemotron
        told = parse_cell(told, "metadata")
    truth = told.get("expected_answer") if isinstance(told, dict) else None
    return (truth, "metadata.expected_answer") if isinstance(truth, str) and truth else None


def _plain_truth(value: Any) -> Any:
    """The value unless it is an object, such as the tests of a program (Eurus, Skywork); Search-R1's `target`."""
    if isinstance(value, dict):
        value = value.get("target") or None
    is_object = isinstance(value, dict) or (isinstance(value, str) and value.startswith("{") and _is_object(value))
    return None if is_object else value


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def first_of(truth: Any) -> Any:
    """The first of several answers of which any is right."""
    truth = parse_cell(truth, "reference") if isinstance(truth, str) and truth.startswith('["') else truth
    return truth[0] if isinstance(truth, list) and truth and not isinstance(truth[0], dict | list) else truth


def others_of(truth: Any) -> list[str]:
    """The further ones of several answers of which any is right."""
    truth = parse_cell(truth, "reference") if isinstance(truth, str) and truth.startswith('["') else truth
    others = truth[1:] if isinstance(truth, list) else []
    return [str(other) for other in dict.fromkeys(map(str, others)) if other != str(truth[0])]


def aliases_in(cell: Any) -> list[str]:
    """The aliases of a cell: a list, its JSON, or texts with `;` or `|` between them.

    >>> aliases_in('["a", "b"]'), aliases_in("Clemens; S. Clemens"), aliases_in(None)
    (['a', 'b'], ['Clemens', 'S. Clemens'], [])
    """
    given = parse_cell(cell, "aliases")
    if isinstance(given, str):
        given = re.split("[;|]", given)
    if given is not None and not isinstance(given, list | tuple):
        raise InputError(
            f"aliases is {given!r:.60}", where="aliases", fix="Give a list of texts, any of which is right."
        )
    return [str(one).strip() for one in given or () if str(one).strip()]


def reference_of_messages(messages: Any) -> tuple[Any, str] | None:
    """What is right as a field of a message: of Open-Reasoner-Zero, and of AM-DeepSeek-R1-Distilled's `info`."""
    for message in messages if isinstance(messages, list) else []:
        for holder in (message.get("ground_truth"), message.get("info")) if isinstance(message, dict) else ():
            truth = next((holder[n] for n in ("value", "reference_answer") if holder.get(n)), None) if holder else None
            if isinstance(truth, str):
                return truth, "a message"
    return None


def with_reference(row: dict[str, Any]) -> Shaped | None:
    """A question as text whose reference stands in an object."""
    rest = dict(row)
    if not question_text(row) or (truth := reference_inside(rest)) is None:
        return None
    return Shaped(f"question from {question_text(row)!r}, reference in {truth[1]}", rest | {"final_answer": truth[0]})


def answer_object(row: dict[str, Any]) -> Shaped | None:
    """An answer as an object: `{value, aliases}` of TriviaQA, `{text: [...]}` of SQuAD."""
    names = (c for c in row if plain_name(c) in ("answer", "answers", "answersspans"))
    column = next((c for c in names if re.match(r"\s*\[?\s*\{", str(row[c] or ""))), None)
    given = parse_cell(row[column], column) if column else None
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if isinstance(given, list) and all(isinstance(one, dict) and set(one) == {"text", "tokens"} for one in given):
        given = {"text": [one["text"] for one in given]}  # NarrativeQA
    if column is None or not isinstance(given, dict):
        return None
    first = next(iter(given), "x")
    given = {str(name).lower(): value for name, value in given.items()}
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
            fix=f'Name the part that is the answer, e.g. columns = {{ answer = "{column}.{first}" }}.',
        )
    values = given[key] if isinstance(given[key], list) else [given[key]]
    aliases = [str(v) for v in [*values[1:], *(given.get("aliases") or [])] if str(v) != str(values[0])]
    rest = {k: v for k, v in row.items() if k != column} | {"final_answer": str(values[0])}
    return Shaped(
        f"an answer with aliases ({column}.{key})",
        rest | ({"aliases": list(dict.fromkeys(aliases))} if aliases else {}),
    )


def distinct_answers(answers: Sequence[Any]) -> list[str]:
    """Answers without those that are typeset like an earlier one, as Minerva's lists have them.

    >>> distinct_answers(["41.8^\\\\circ", "41.8^{\\\\circ}\\n", "2"])
    ['41.8^\\\\circ', '2']
    """
    found: dict[str, str] = {}
    for answer in (str(answer).strip() for answer in answers):
        found.setdefault(" ".join(strict_words(answer)) or answer, answer)
    return list(found.values())


_SEVERAL = ("answers", "ideal", "gold_answers", "golden_answers", "possible_answers", "input_correct_responses")
_WORD = re.compile(r"(?<![\\a-zA-Z])[^\W\d_]{3,}")


def several_answers(row: dict[str, Any]) -> Shaped | None:
    """Several answers of which any is right, as a list of texts (`answer` of NQ-open), or beside one (MuSiQue).

    Numbers, letters and formulas in a list called `answer` are the parts of one answer, such as roots or options.
    """
    column = next((c for c in _SEVERAL if row.get(c)), None)
    boxed = row.get("solutions")  # AReaL
    if column is None and isinstance(boxed, list) and all(str(one).startswith("\\boxed{") for one in boxed):
        column = "solutions"
    for name in ("answer", "target") if column is None else ():
        if isinstance(row.get(name), list) and row.get("is_multiple_answer") is not True:
            column = name if any(_WORD.search(str(value)) for value in row[name]) else None
            break
    given = parse_cell(row[column], column) if column else None
    if column is None and isinstance(row.get("answer_aliases"), list) and isinstance(row.get("answer"), str):
        column, given = "answer_aliases", [row["answer"], *row["answer_aliases"]]
    if column is None or not isinstance(given, list) or not all(isinstance(v, str | int | float) for v in given):
        return None
    if not question_text(row) or not given:
        return None
    first, *others = distinct_answers(given)
    rest = {k: v for k, v in row.items() if k not in (column, "answer")} | {"final_answer": first}
    name = f"question from {question_text(row)!r}, an answer with aliases ({column})"
    return Shaped(name, rest | ({"aliases": list(dict.fromkeys(others))} if others else {}))
