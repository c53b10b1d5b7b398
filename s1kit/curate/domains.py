"""The domain of a question: one of the subjects that the paper uses, MSC two-digit classes and the sciences.

`source` takes the source's word for it, `offline` counts keywords and needs no model, anything else is a model
reference that is asked (see `labelling`).
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from itertools import pairwise
from typing import Any, NamedTuple

from s1kit.records import Question

UNKNOWN = "unknown"


class _Keywords(NamedTuple):
    """Compiled keywords, each with the indices of the domains it belongs to."""

    words: dict[str, list[int]]
    phrases: dict[tuple[str, str], list[int]]
    beginnings: dict[str, list[int]]
    lengths: tuple[int, ...]
    """Number of characters compared."""


_WORD = re.compile(r"\\?[a-z]+(?:['/-][a-z]+)*")
_FORMULA = re.compile(r"\$[^$]*\w[^$]*\$|\w\s*[-+*/=^]\s*\w")


@cache
def _table() -> dict[str, list[str]]:
    text = (resources.files("s1kit.curate") / "keywords.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@cache
def _keywords() -> _Keywords:
    found = _Keywords({}, {}, {}, ())
    for number, keywords in enumerate(_table().values()):
        for keyword in keywords:
            words = tuple(keyword.split()[-2:])
            if len(words) == 2:
                found.phrases.setdefault((words[0], words[1].rstrip("*")), []).append(number)
            elif keyword.endswith("*"):
                found.beginnings.setdefault(keyword[:-1], []).append(number)
            else:
                found.words.setdefault(keyword, []).append(number)
    return found._replace(lengths=tuple(sorted({len(b) for b in found.beginnings})))


def domains() -> list[str]:
    """The labels: MSC2020 two-digit classes as far as the paper uses them, with their numbers, and the sciences."""
    return list(_table())


def by_source(question: Question) -> str:
    """The domain that the source states; where it states none, the source's own name.

    >>> by_source(Question(text="?", source="tiny/add")), by_source(Question(text="?", metadata={"subject": "Algebra"}))
    ('tiny/add', 'Algebra')
    """
    stated = question.domain or question.metadata.get("subject") or question.metadata.get("subfield")
    return str(stated or question.source or UNKNOWN)


def by_keywords(question: Question) -> str:
    """The domain of which a question has most different keywords; without any, algebra for a formula, else `unknown`.

    Ties go to the domain with more hits in all, then to the later one, which is the more special one.

    >>> by_keywords(Question(text="A triangle has angles in the ratio 1:2:3. Find its area."))
    '51 Geometry'
    """
    table = _keywords()
    kinds: Counter[int] = Counter()
    hits: Counter[int] = Counter()
    spoken = _WORD.findall(question.text.lower())
    for word, times in Counter(spoken).items():
        for number in table.words.get(word, ()):
            kinds[number] += 1
            hits[number] += times
        for length in table.lengths:
            for number in table.beginnings.get(word[:length], ()) if length <= len(word) else ():
                kinds[number] += 1
                hits[number] += times
    for pair in set(pairwise(spoken)):
        for number in table.phrases.get(pair, ()):
            kinds[number] += 1
            hits[number] += 1
    if kinds:
        return domains()[max(kinds, key=lambda number: (kinds[number], hits[number], number))]
    return "08 Algebraic systems" if _FORMULA.search(question.text) else UNKNOWN


def keyword_domains(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`domain` of each row with a `text`, by keywords: a shard's function (see `s1kit.executors`)."""
    return [{"domain": by_keywords(Question(text=row["text"]))} for row in rows]
