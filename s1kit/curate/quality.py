r"""Rules that look at one trace and answer with the reason to drop it, or None.

A rule is a function of a trace; a set of rules is a list. Their names are what a recipe's `curate.quality` holds.

    >>> from s1kit.records import Question, Trace
    >>> question = Question(text="See ![Image](a.png)")
    >>> trace = Trace(question=question, teacher="t", thinking="hm", answer="4", thinking_tokens=1)
    >>> first_reason(rules_of(["s1"]), trace)
    DropReason(reason='image_reference', evidence='![Image]')
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from s1kit.errors import InputError, nearest
from s1kit.extensions import load_extension
from s1kit.grade.extract import final_answer
from s1kit.records import Trace


class DropReason(NamedTuple):
    """The reason to drop a row, and the text that shows it."""

    reason: str
    evidence: str = ""


Rule = Callable[[Trace], DropReason | None]

_STARRED_NUMBER = re.compile(r"\*\*(?=.*\d)[^\s\]]*\*\*")
_PART = re.compile(r"p([1-9]\d{0,2})\.")
_IMAGE = re.compile(r"\.(?:png|jpe?g|gif|svg)\b|\\includegraphics|<img\b|\[IMAGE|<image", re.IGNORECASE)
_FIGURE = re.compile(r"\b(?:the|this)\s+(?:figure|diagram|picture|image)\s+(?:below|above|shown)", re.IGNORECASE)


def reply(trace: Trace) -> DropReason | None:
    """The teacher's reply failed: s1's "API errors". A reply cut at its length is none; see `truncated`."""
    if trace.finish_reason in ("stop", "length"):
        return None
    return DropReason(f"reply:{trace.finish_reason}", trace.note)


def format_s1(trace: Trace) -> DropReason | None:
    """The rules of s1 on a question's text (its data/filter.ipynb, cell 7), exactly.

    A question with `[asy]` is dropped, except one of AIME, which then passes the other rules, too. Dropped is also one
    with `![Image]`, with `p1.` to `p999.`, or with a number between double asterisks.
    """
    text = trace.question.text
    if "[asy]" in text:
        return None if "AIME" in trace.question.source else DropReason("asymptote_figure", "[asy]")
    if "![Image]" in text:
        return DropReason("image_reference", "![Image]")
    if part := _PART.search(text):
        return DropReason("part_of_a_list", part.group())
    if starred := _STARRED_NUMBER.search(text):
        return DropReason("starred_number", starred.group())
    return None


def truncated(trace: Trace) -> DropReason | None:
    """The reply reached its output limit and is incomplete."""
    return DropReason("truncated", f"...{trace.thinking[-60:]}") if trace.finish_reason == "length" else None


def no_thinking(trace: Trace) -> DropReason | None:
    """The thinking is empty or white space."""
    return None if trace.thinking.strip() else DropReason("no_thinking", trace.answer[:60])


def no_answer(trace: Trace) -> DropReason | None:
    """The answer is empty or white space, and no tool is called."""
    return None if trace.answer.strip() or trace.tool_calls else DropReason("no_answer", f"...{trace.thinking[-60:]}")


def no_final_answer(trace: Trace) -> DropReason | None:
    """The answer has no final answer that a grader could compare."""
    if not trace.tool_calls and final_answer(trace.answer, trace.question.text) is None:
        return DropReason("no_final_answer", trace.answer[-80:])
    return None


def loop(trace: Trace) -> DropReason | None:
    """The thinking repeats itself: one long line four times, or its end is a period repeated over 200 characters."""
    lines = Counter(line.strip() for line in trace.thinking.split("\n") if len(line.strip()) >= 40)
    if lines and (most := lines.most_common(1)[0])[1] >= 4:
        return DropReason("loop", f"{most[1]} times: {most[0][:80]}")
    tail = trace.thinking[-1200:]
    for period in range(1, 201):
        span = max(200, 4 * period)
        if len(tail) >= span + period and tail[-span:] == tail[-span - period : -period]:
            return DropReason("loop", f"ends in repeats of {tail[-period:]!r:.80}")
    if counted := _counts_on(trace.thinking[-8000:]):
        return DropReason("loop", f"ends in repeats with a counter: {counted[:80]}")
    return None


_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_DIGITS = re.compile(r"\d+")

MIN_COUNTED = 20
"""Repeats with a counter from which on they are a loop. Trying cases one by one is none: its results differ, too."""


def _counts_on(text: str) -> str:
    """The sentence that a text ends in over and over, its numbers the same or one more each time; empty without."""
    parts = [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]
    masked = [_DIGITS.sub("#", part) for part in parts]
    numbers = [[int(digits[:18]) for digits in _DIGITS.findall(part)] for part in parts]
    for period in range(1, 5):
        # The last one may be broken off.
        at, counted = len(parts) - 2, 0
        while at >= period and masked[at] == masked[at - period]:
            steps = {b - a for a, b in zip(numbers[at - period], numbers[at], strict=True)}
            if not steps <= {0, 1}:
                break
            counted += 1 in steps
            at -= 1
        length = len(parts) - 2 - at
        if length >= period * MIN_COUNTED and counted * 2 * period >= length:
            return parts[-2]
    return ""


def language_mix(trace: Trace) -> DropReason | None:
    """Over 5 % of the trace's letters are of another script than the question's main one. Greek is mathematics."""
    main = _scripts(trace.question.text).most_common(1)
    if not main:
        return None
    scripts = _scripts(trace.thinking + trace.answer)
    others = {name: count for name, count in scripts.items() if name not in (main[0][0], "GREEK")}
    share = sum(others.values()) / max(1, sum(scripts.values()))
    return DropReason("language_mix", f"{share:.0%} {', '.join(sorted(others))}") if share > 0.05 else None


def image_reference(trace: Trace) -> DropReason | None:
    """The question refers to an image, which a text model does not get."""
    found = _IMAGE.search(trace.question.text)
    if found is None and "[asy]" not in trace.question.text:
        found = _FIGURE.search(trace.question.text)
    return DropReason("image_reference", found.group()) if found else None


def wrong_answer(trace: Trace) -> DropReason | None:
    """The verifier of `distill.until_correct` said that the answer is wrong."""
    return DropReason("wrong_answer", trace.answer[-80:]) if trace.verdict == "wrong" else None


def minority_answer(trace: Trace) -> DropReason | None:
    """No more than half of the replies to the question, of all teachers and draws, state this trace's final answer."""
    agreed = trace.agreement
    if agreed is None or 2 * agreed.num_same > agreed.num_replies:
        return None
    return DropReason("minority_answer", f"{agreed.num_same} of {agreed.num_replies}: {trace.answer[-60:]}")


SETS: dict[str, tuple[Rule, ...]] = {
    "s1": (reply, format_s1),
    "complete": (reply, truncated, no_thinking, no_answer, no_final_answer, loop),
}
"""Sets of rules by name; `s1` is what the paper did, `complete` what a trainer of complete traces expects."""

RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        *(reply, format_s1, truncated, no_thinking, no_answer, no_final_answer, loop),
        *(language_mix, image_reference, wrong_answer, minority_answer),
    )
}
"""Every rule by name."""


def rules_of(names: Iterable[str]) -> list[Rule]:
    """The rules that a recipe names, each once, in order. Raises InputError for an unknown name."""
    rules: dict[Rule, None] = {}
    for name in names:
        if name not in SETS and name not in RULES:
            if (own := load_extension(name, "quality", "curate.quality")) is not None:
                rules[own] = None
                continue
            raise InputError(
                f"there is no quality rule {name!r}", where="curate.quality", fix=nearest(name, [*SETS, *RULES])
            )
        rules |= dict.fromkeys(SETS.get(name) or (RULES[name],))
    return list(rules)


def first_reason(rules: Sequence[Rule], trace: Trace) -> DropReason | None:
    """The first reason to drop a trace, or None when it passes them all."""
    return next((drop for rule in rules if (drop := rule(trace)) is not None), None)


def _scripts(text: str) -> Counter[str]:
    """Counts of letters by Unicode script; long texts are sampled."""
    letters = Counter(c for c in text[:20000] if c.isalpha())
    scripts: Counter[str] = Counter()
    for letter, count in letters.items():
        scripts[unicodedata.name(letter, "?").split()[0]] += count
    return scripts
