"""The passage that a question is about, in whatever form a row holds it."""

from __future__ import annotations

from typing import Any

from s1kit.errors import InputError
from s1kit.questions.raw_rows import Shaped
from s1kit.questions.references import answer_object, several_answers

CONTEXTS = (
    *("context", "passage", "article", "body", "background", "narrative", "puzzle", "story", "paragraphs", "paragraph"),
    *("abstract", "document", "document_str", "flores_passage"),
)
"""Names of the passage that a question is about; `body` of SVAMP and ASDiv, `narrative` to `paragraphs` of MuSR,
ZebraLogic, CoQA and MuSiQue, `abstract` and what follows of QASPER, QA4MRE and Belebele."""
_BESIDE_A_QUESTION = ("text", "input", "sentence")
"""Names of a passage only where the question has a column of its own: of LogiQA 2, BABILong, QNLI."""


def take_context(rest: dict[str, Any], stem: str) -> str:
    """What a question is about, a passage or a table, taken out of the other columns; empty where there is none."""
    parts = [_take_passage(rest, stem), _take_table(rest)]
    return "".join(f"{part}\n\n" for part in parts if part)


def _take_table(rest: dict[str, Any]) -> str:
    """The table that a question is about, with the text around it (FinQA), taken out of the other columns."""
    columns = sorted((column for column in rest if "table" in str(column).casefold()), key=len)
    column = next((column for column in columns if _table(rest[column])), None)
    if column is None:
        return ""
    around = [rest.pop(name, None) for name in ("pre_text", "post_text")]
    before, after = ("\n".join(map(str, part)) if isinstance(part, list) else "" for part in around)
    return "\n\n".join(part for part in (before, _table(rest.pop(column)), after) if part)


def _table(value: Any) -> str:
    """A table as text, a line a row; empty for anything else.

    >>> _table({"header": ["year", "winner"], "rows": [["1999", "Ada"]]})
    'year | winner\\n1999 | Ada'
    """
    if isinstance(value, str):
        return value.strip() if sum("|" in line for line in value.splitlines()) > 1 else ""
    if isinstance(value, dict) and isinstance(value.get("header"), list) and isinstance(value.get("rows"), list):
        value = [value["header"], *value["rows"]]
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(row, list) for row in value):
        return ""
    return "\n".join(" | ".join(map(str, row)) for row in value)


def _take_passage(rest: dict[str, Any], stem: str) -> str:
    for column in [column for name in CONTEXTS for column in rest if str(column).casefold() == name]:
        passage = _passage(rest[column])
        if passage.strip():
            del rest[column]
            return "" if passage.strip() in stem else passage.strip()
    for column in [column for name in _BESIDE_A_QUESTION for column in rest if str(column).casefold() == name]:
        passage = rest[column]
        if isinstance(passage, str) and passage.strip() and passage.strip() not in stem and stem.strip() not in passage:
            del rest[column]
            return passage.strip()
    return ""


def _passage(value: Any) -> str:
    """The text of a passage: one text, or paragraphs under their titles (PubMedQA, HotpotQA, MuSiQue)."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and isinstance(text := value.get("text"), str):  # NarrativeQA
        return text
    if isinstance(value, dict) and isinstance(value.get("contexts"), list):
        return "\n".join(map(str, value["contexts"]))
    if isinstance(value, dict) and isinstance(value.get("sentences"), list) and isinstance(value.get("title"), list):
        value = list(zip(value["title"], value["sentences"], strict=False))
    paragraphs = []
    for part in value if isinstance(value, list) else []:
        if isinstance(part, dict):
            title, text = part.get("title"), next((part[n] for n in ("paragraph_text", "text") if part.get(n)), None)
        else:
            title, text = part if isinstance(part, list | tuple) and len(part) == 2 else (None, None)
        if isinstance(text, list):
            text = "".join(map(str, text))
        if isinstance(text, str) and text.strip():
            paragraphs.append(f"{title}: {text.strip()}" if title else text.strip())
    return "\n".join(paragraphs)


def yes_or_no(row: dict[str, Any]) -> Shaped | None:
    """BoolQ as SuperGLUE has it: a passage, a question, and whether it is so as 0 or 1; of MultiRC and MC-TACO, whether
    its `answer` is right."""
    names = ("passage", "paragraph", *(("sentence",) if row.get("answer") is not None else ()))
    passage = next((name for name in names if row.get(name)), "")
    if type(row.get("label")) is not int or row["label"] not in (-1, 0, 1) or not passage:
        return None
    rest = {key: value for key, value in row.items() if key != "label"}
    if row.get("answer") is not None:
        if row["label"] == 0:
            del rest["answer"]
        name = (
            "an answer judged wrong by label, which is left out" if row["label"] == 0 else "an answer judged by label"
        )
    else:
        name = "yes or no by label"
        rest |= {} if row["label"] < 0 else {"answer": bool(row["label"])}
    shaped = with_context(rest)
    return shaped and Shaped(f"{shaped.name}, {name}", shaped.row)


def with_context(row: dict[str, Any]) -> Shaped | None:
    """A question in a column of its own, and its passage in another.

    Raises InputError where two columns may be the question.
    """
    column = next((c for c in row if str(c).casefold() == "question"), "")
    if not column and any(isinstance(row.get(name), str) for name in CONTEXTS):  # LongBench
        column = next((c for c in ("input", "query") if c in row), "")
    stem = row.get(column)
    if not isinstance(stem, str) or not stem.strip():
        return None
    rest = {key: value for key, value in row.items() if key != column}
    text = row.get("text")
    if isinstance(text, str) and text.strip() and not any(_is_in(*pair) for pair in ((text, stem), (stem, text))):
        raise InputError(
            f"the columns 'text' and {column!r} both may hold the question",
            where="columns",
            fix=f'Say which in the source, for example columns = {{ text = "{column}" }}, or put them together: '
            f'template = "{{text}}\\n\\n{{{column}}}".',
        )
    context = take_context(rest, stem)
    if not context and not isinstance(text, str):
        return None
    named = next((c for c in row if c not in rest and c != column), "")
    rest["text"] = f"{context}{stem.strip()}"
    found = answer_object(rest) or several_answers(rest)
    name = f"a question with its {named}" if named else f"question from {column!r}"
    return Shaped(name, found.row if found else rest)


def _is_in(text: str, other: str) -> bool:
    return text.strip() in other
