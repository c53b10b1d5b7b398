"""The card of a data set of samples: who wrote the traces, under which terms, and where the questions come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from s1kit.records import Sample

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""The Hub's size categories."""

LICENCES = {"apache-2.0": "apache-2.0", "mit": "mit", "cc by 4.0": "cc-by-4.0", "cc-by-4.0": "cc-by-4.0",
            "cc by-sa 4.0": "cc-by-sa-4.0", "cc-by-sa-4.0": "cc-by-sa-4.0", "cc0": "cc0-1.0"}  # fmt: skip
"""Licence names as sources write them, in lower case, to the identifiers that the Hub knows."""


def dataset_card(name: str, samples: Sequence[Sample], acknowledged: str = "") -> str:
    """The README.md of the data set `name`, with the metadata block that the Hub validates.

    `acknowledged` is the recipe's reason for using traces whose teacher's terms forbid or are unknown.
    """
    teachers = Counter((s.trace.teacher, s.trace.terms) for s in samples)
    sources = Counter((s.trace.question.source or "unknown", s.trace.question.licence or "unknown") for s in samples)
    known = {LICENCES.get(licence.lower(), "") for _, licence in sources}
    licence = known.pop() if len(known) == 1 else ""
    size = next((text for bound, text in SIZES if len(samples) < bound), "1M<n<10M")
    lines = [
        "---",
        f"license: {licence or 'other'}",
        *([] if licence else ["license_name: see-card"]),
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
        "| source of the questions | licence | samples |",
        "|---|---|---|",
        *[f"| {source} | {licence} | {num} |" for (source, licence), num in sources.most_common()],
        "",
        "Traces are kept as the teacher wrote them; some are wrong.",
        "",
    ]
    return "\n".join(lines)
