"""The card of a data set of samples: who wrote the traces, under which terms, and where the questions come from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from s1kit.records import Sample

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""The Hub's size categories."""

# fmt: off
LICENCES = frozenset((
    "afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bsd", "bsd-2-clause", "bsd-3-clause",
    "bsd-3-clause-clear", "bsl-1.0", "c-uda", "cc", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0",
    "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0",
    "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0",
    "cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0", "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0",
    "eupl-1.1", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "isc", "lgpl", "lgpl-2.1", "lgpl-3.0", "lgpl-lr", "lppl-1.3c",
    "mit", "mpl-2.0", "ms-pl", "ncsa", "odbl", "odc-by", "ofl-1.1", "openrail", "osl-3.0", "pddl", "postgresql",
    "unlicense", "wtfpl", "zlib",
))
# fmt: on
"""Identifiers that the Hub takes as a licence of text and code (huggingface/hub-docs, repositories-licenses)."""
_OTHER_NAMES = {"cc0": "cc0-1.0", "public-domain": "pddl", "apache": "apache-2.0"}


def licence_identifier(name: str) -> str:
    """The Hub's identifier of a licence as sources write it; empty where the Hub has none.

    >>> licence_identifier("CC BY-SA 4.0"), licence_identifier("Apache License 2.0"), licence_identifier("own terms")
    ('cc-by-sa-4.0', 'apache-2.0', '')
    """
    words = re.split(r"[\s_-]+", name.lower().strip())
    found = "-".join(word for word in words if word not in ("the", "license", "licence", "version"))
    found = _OTHER_NAMES.get(found, found)
    return found if found in LICENCES else ""


def dataset_card(name: str, samples: Sequence[Sample], acknowledged: str = "") -> str:
    """The README.md of the data set `name`, with the metadata block that the Hub validates.

    `acknowledged` is the recipe's reason for using traces whose teacher's terms forbid or are unknown.
    Where the questions have no one licence that the Hub knows, the card refers to LICENSE.md: `licence_text`.
    """
    teachers = Counter((s.trace.teacher, s.trace.terms) for s in samples)
    licence = _only_licence(samples)
    size = next((text for bound, text in SIZES if len(samples) < bound), "1M<n<10M")
    lines = [
        "---",
        f"license: {licence or 'other'}",
        *([] if licence else ["license_name: by-source", "license_link: LICENSE.md"]),
        "task_categories: [text-generation]",
        "language: [en]",
        f"size_categories: [{size}]",
        "tags: [s1kit, reasoning, distillation]",
        "configs:",
        "- config_name: default",
        "  data_files: samples-*.parquet",
        "---",
        "",
        f"# {name}",
        "",
        f"{len(samples):,} questions with a teacher's thinking and answer, selected by "
        "[s1kit](https://github.com/s1kit/s1kit) after s1: Simple test-time scaling (arXiv 2501.19393). "
        "Columns: `trace.question.text`, `trace.thinking`, `trace.answer`, `picked_by`.",
        "",
        "| teacher | may its output train a model? | samples |",
        "|---|---|---|",
        *[f"| {teacher} | {terms} | {num} |" for (teacher, terms), num in teachers.most_common()],
        "",
        *([f"Used nevertheless because: {acknowledged}", ""] if acknowledged else []),
        *_licence_table(samples),
        "",
        "Traces are kept as the teacher wrote them; some are wrong.",
        "",
    ]
    return "\n".join(lines)


def licence_text(samples: Sequence[Sample]) -> str:
    """The LICENSE.md of samples whose questions have no one licence that the Hub knows; empty where they have."""
    if _only_licence(samples):
        return ""
    said = "The questions come from sources with licences of their own, each of which holds for its rows:"
    return "\n".join(["# Licences", "", said, "", *_licence_table(samples), ""])


def _only_licence(samples: Sequence[Sample]) -> str:
    known = {licence_identifier(s.trace.question.licence or "") for s in samples}
    return known.pop() if len(known) == 1 else ""


def _licence_table(samples: Sequence[Sample]) -> list[str]:
    sources = Counter((s.trace.question.source or "unknown", s.trace.question.licence or "unknown") for s in samples)
    rows = [f"| {source} | {licence} | {num} |" for (source, licence), num in sources.most_common()]
    return ["| source of the questions | licence | samples |", "|---|---|---|", *rows]
