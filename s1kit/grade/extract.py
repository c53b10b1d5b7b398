r"""The final answer of a text: what is boxed, what follows "Final Answer:", the last number of a short reply.

>>> final_answer(r"So we add, \boxed{\frac{1}{2}}. Done.").text
'\\frac{1}{2}'
>>> final_answer("It is 7.").text
'7'
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_LENGTH = 400
"""Characters of a final answer at most; a longer one is an argument, not an answer. Boxed ones may be longer."""

SHORT = 200
"""Characters of a reply that is read as a whole when nothing marks its answer."""


class Found(NamedTuple):
    """A final answer and how it was found."""

    text: str
    how: str


_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)|\\boxed\s+(?=[^\s{])")
_STATED = re.compile(
    # Leads follow one another: "Final Answer: The final answer is 3" is how Minerva's prompt has models end.
    r"(?:(?:final\s+answer|the\s+(?:correct\s+|final\s+)?answer|answer)\s*(?:\*\*\s*)?(?:is\s*:|is|:|=)\s*(?:\*\*\s*)?)+"
    r"(?P<rest>[^\n]*)",
    re.IGNORECASE,
)
_HASHES = re.compile(r"^####\s*(?P<rest>[^\n]+)", re.MULTILINE)
_LAST_LINE = re.compile(r"^A:[ \t]*(?P<rest>[^\n]+)\s*\Z", re.MULTILINE)
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?(?![\w])")
_MATHS = re.compile(r"\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_HEDGE = re.compile(r"\b(?:not sure|don'?t know|cannot|can't|unable|no answer)\b", re.IGNORECASE)


def final_answer(text: str, question: str = "") -> Found | None:
    """The final answer that a text states, or None when it states none.

    The last non-empty box wins, then GSM8K's "####", the last "Final Answer:" or "answer is", a last line "A: ...";
    a short text without any of them is read as a whole. A box that the text only repeats from the question does not
    count.
    """
    if len(question) > 20:
        text = text.replace(question.strip(), " ")
    if "\\" in text and (boxes := [box for box in find_boxes(text) if _says_something(box)]):
        return Found(boxes[-1].strip(), "boxed")
    lowered = text.lower()
    for pattern, how, mark in ((_HASHES, "####", "####"), (_STATED, "stated", "nswer"), (_LAST_LINE, "stated", "a:")):
        if mark in lowered and (found := _last_stated(pattern, text)):
            return Found(found, how)
    if len(text.strip()) <= SHORT and not _HEDGE.search(text):
        return _whole(text.strip())
    return None


def _says_something(box: str) -> bool:
    return bool(box.strip(" \t\n.,")) and box.strip() not in ("...", r"\ldots", r"\dots", "your answer", "answer")


def find_boxes(text: str) -> list[str]:
    r"""What stands in each `\boxed{...}`, outermost, braces balanced; an unclosed box gives nothing.

    >>> find_boxes(r"\boxed{\sqrt{2}} and \boxed 3")
    ['\\sqrt{2}', '3']
    """
    boxes, at = [], 0
    closings = _closings(text) if _BOX.search(text) else {}
    while match := _BOX.search(text, at):
        start = match.end()
        if text[start] != "{":
            end = start + 1
            boxes.append(text[start:end])
        else:
            end = closings.get(start, -1)
            if end < 0:
                at = start + 1
                continue
            boxes.append(text[start + 1 : end])
        at = end
    return boxes


def _closings(text: str) -> dict[int, int]:
    """Where each brace that is closed is closed; one pass, however many boxes are left open."""
    opened: list[int] = []
    closings: dict[int, int] = {}
    for match in _BRACE.finditer(text):
        if match.group() == "{":
            opened.append(match.start())
        elif match.group() == "}" and opened:
            closings[opened.pop()] = match.start()
    return closings


_BRACE = re.compile(r"\\[{}\\]|[{}]")


def _last_stated(pattern: re.Pattern[str], text: str) -> str:
    for match in reversed(list(pattern.finditer(text))):
        stated = match["rest"].strip()
        if not stated:
            # "Final Answer:" on a line of its own; the answer is on the next.
            stated = text[match.end() :].strip().split("\n", 1)[0].strip()
        stated = _first_sentence(stated)
        if stated and len(stated) <= MAX_LENGTH:
            return stated
    return ""


def _first_sentence(text: str) -> str:
    """What is stated, without the words that lead to it and the sentences after it."""
    if maths := _MATHS.match(text):
        rest = text[maths.end() :].strip(" .*")
        return text[: maths.end()] if not rest or rest[0].isupper() else text.rstrip(" .*")
    end = re.search(r"\.(?:\s+[A-Z]|\s*$)|\s*<\|", text)
    return (text[: end.start()] if end else text).strip(" *")


def _whole(text: str) -> Found | None:
    if not text:
        return None
    spans = [span.strip() for match in _MATHS.finditer(text) for span in match.groups() if span]
    words = text.split()
    if len(words) <= 3 or (spans and len(spans[-1]) + 4 >= len(text)):
        whole = text if not spans else spans[-1]
        if (number := _NUMBER.findall(text)) and len(words) > 1 and not spans and not _looks_like_maths(text):
            return Found(number[-1], "last number")
        return Found(whole.rstrip(".") or whole, "whole")
    if spans:
        return Found(spans[-1], "last formula")
    if numbers := _NUMBER.findall(text):
        return Found(numbers[-1], "last number")
    return Found(text.rstrip("."), "whole") if len(words) <= 12 else None


def _looks_like_maths(text: str) -> bool:
    return bool(re.search(r"[\\^_=<>+*/(]|\s-\s|\d[a-zA-Z]\b", text))
