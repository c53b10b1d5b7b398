"""The paper's pool as sources: sixteen names, from the table `s1_sources.toml`.

Hub data sets move, close and change; what the release read in January 2025 may be gone. A source that cannot be read
is said, and a run goes on without it where `optional` is set.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from s1kit.recipe import Source


@cache
def _table() -> list[dict[str, Any]]:
    text = (resources.files("s1kit.pool") / "s1_sources.toml").read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = tomllib.loads(text)["source"]
    return rows


def s1_sources(optional: bool) -> list[Source]:
    """One source a data set, subset and split of the table, in its order."""
    return [
        Source(
            hub=row["hub"],
            subset=subset,
            split=split,
            columns=row["columns"],
            template=row.get("template", ""),
            keep=row.get("keep", {}),
            shuffle_options=row.get("shuffle_options", False),
            num=row.get("num"),
            name=row["name"],
            licence=row["licence"],
            optional=optional,
        )
        for row in _table()
        for subset in row.get("subsets", [""])
        for split in row.get("splits", ["train"])
    ]


def paper_counts() -> dict[str, int]:
    """Questions a source in the paper's table of the 59K pool; they sum to 59,029."""
    counts: dict[str, int] = {}
    for row in _table():
        counts[row["name"]] = counts.get(row["name"], 0) + row["num_paper"]
    return counts


def against_paper(read: Mapping[str, int], kept: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Questions read, dropped and kept a source, beside the paper's count; empty when no source is of the paper."""
    paper = paper_counts()
    if not paper.keys() & read.keys():
        return {}
    return {
        name: {
            "paper": num,
            "read": read.get(name, 0),
            "dropped": read.get(name, 0) - kept.get(name, 0),
            "kept": kept.get(name, 0),
        }
        for name, num in paper.items()
    }
