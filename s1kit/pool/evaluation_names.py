"""Evaluation sets by name: those that ship as hashes, and those that are read from the Hub when asked for.

GPQA's authors ask that its questions be not published, and LiveCodeBench grows: neither ships. GPQA needs an
account that accepted its terms.
"""

from __future__ import annotations

from importlib import resources
from typing import NamedTuple


class HubSet(NamedTuple):
    """Where an evaluation set's questions are on the Hugging Face Hub."""

    hub: str
    revision: str
    files: list[str]
    column: str


ON_THE_HUB = {
    "gpqa-diamond": HubSet(
        "Idavidrein/gpqa", "633f5ee89ab8ad4522a9f850766b73f62147ffdd", ["gpqa_diamond.csv"], "Question"
    ),
    "livecodebench": HubSet(
        "livecodebench/code_generation_lite",
        "5c923977ac2edd278a385f2d78179ead9450fb63",
        ["test.jsonl", "test2.jsonl", "test3.jsonl", "test4.jsonl"],
        "question_content",
    ),
}
"""Sets that the s1 release compared with (data/collect_data.py) and that are not shipped."""


def shipped_sets() -> list[str]:
    """Names of the sets in `hashes/`."""
    folder = resources.files("s1kit.pool") / "hashes"
    names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    return sorted(name.removesuffix(".parquet") for name in names if name.endswith(".parquet"))


def builtin_sets() -> list[str]:
    """Every name that `collect.against` knows."""
    return sorted([*shipped_sets(), *ON_THE_HUB, "tiny"])
