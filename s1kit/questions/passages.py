"""The passage that a question is about, in whatever form a row holds it."""

from __future__ import annotations

from typing import Any

from s1kit.questions.raw_rows import Shaped
from s1kit.questions.references import answer_object, several_answers

CONTEXTS = ("context", "passage", "article", "body", "background", "narrative", "puzzle", "story", "paragraphs")
"""Names of the passage that a question is about; `body` of SVAMP and ASDiv, the last of MuSR, ZebraLogic, CoQA and
MuSiQue."""


def take_context(rest: dict[str, Any], stem: str) -> str:
    """The passage that a question is about, taken out of the other columns; empty where there is none."""
    for column in [column for name in CONTEXTS for column in rest if str(column).casefold() == name]:
        passage = _passage(rest[column])
        if passage.strip():
            del rest[column]
            return "" if passage.strip() in stem else f"{passage.strip()}\n\n"
    return ""


def _passage(value: Any) -> str:
    """The text of a passage: one text, or paragraphs under their titles (PubMedQA, HotpotQA, MuSiQue)."""
    if isinstance(value, str):
        return value
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
    """BoolQ as SuperGLUE has it: a passage, a question, and whether it is so as 0 or 1."""
    if type(row.get("label")) is not int or row["label"] not in (-1, 0, 1) or not row.get("passage"):
        return None
    rest = {key: value for key, value in row.items() if key != "label"}
    shaped = with_context(rest | ({} if row["label"] < 0 else {"answer": bool(row["label"])}))
    return shaped and Shaped(f"{shaped.name}, yes or no by label", shaped.row)


def with_context(row: dict[str, Any]) -> Shaped | None:
    """A question in a column of that name, and its passage in another."""
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
    found = answer_object(rest) or several_answers(rest)
    return Shaped(f"a question about a {named}", found.row if found else rest)
