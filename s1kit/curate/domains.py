"""What a question is about: one of the subjects that the paper uses, MSC two-digit classes and the sciences.

`source` takes the source's word for it, `offline` counts keywords and needs no model, anything else is a model
reference that is asked (see `labelling`).
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from functools import cache
from importlib import resources

from s1kit.records import Question

UNKNOWN = "unknown"


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    """One expression a domain, from `keywords.toml`, the more general domains first."""
    text = (resources.files("s1kit.curate") / "keywords.toml").read_text(encoding="utf-8")
    words: dict[str, list[str]] = tomllib.loads(text)
    return {domain: re.compile("|".join(alternatives), re.IGNORECASE) for domain, alternatives in words.items()}


def domains() -> list[str]:
    """The labels: MSC2020 two-digit classes as far as the paper uses them, with their numbers, and the sciences."""
    return list(_patterns())


def by_source(question: Question) -> str:
    """The domain that the source states; where it states none, the source's own name.

    >>> by_source(Question(text="?", source="tiny/add")), by_source(Question(text="?", metadata={"subject": "Algebra"}))
    ('tiny/add', 'Algebra')
    """
    stated = question.domain or question.metadata.get("subject") or question.metadata.get("subfield")
    return str(stated or question.source or UNKNOWN)


def by_keywords(question: Question) -> str:
    """The domain whose keywords a question has most kinds of; `unknown` when it has none.

    Ties go to the domain with more hits in all, then to the later one, which is the more special one.

    >>> by_keywords(Question(text="A triangle has angles in the ratio 1:2:3. Find its area."))
    '51 Geometry'
    """
    scores: list[tuple[int, int, int]] = []
    for number, pattern in enumerate(_patterns().values()):
        if hits := Counter(hit.lower() for hit in pattern.findall(question.text)):
            scores.append((len(hits), hits.total(), number))
    return domains()[max(scores)[2]] if scores else UNKNOWN
