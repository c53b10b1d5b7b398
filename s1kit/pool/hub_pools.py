"""Pools by name, as data sets on the Hub: the paper's sixteen sources (`s1`) and the README's pool (`math`).

The tables `s1_sources.toml` and `math_sources.toml` have each data set's files, columns, filters, licence and the
commit it was pinned to. Data sets move, close and change: one that cannot be read is said, and a run goes on without
it where `optional` is set.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from s1kit.errors import InputError, nearest
from s1kit.recipe import Source

POOLS = ("s1", "math")


@cache
def _table(pool: str) -> list[dict[str, Any]]:
    text = (resources.files("s1kit.pool") / f"{pool}_sources.toml").read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = tomllib.loads(text)["source"]
    return rows


def pool_sources(pool: str, optional: bool = False, hub_folder: str = "", only: Sequence[str] = ()) -> list[Source]:
    """The sources of a pool, or those of the names in `only`, in the table's order.

    A data set that lies in `hub_folder` under the names of the table's `local` is read from there. Raises InputError
    for a name that the pool does not have.
    """
    names = [row["name"] for row in _table(pool)]
    for name in only:
        if name not in names:
            raise InputError(
                f"the pool {pool!r} has no source {name!r}", where="collect.sources.only", fix=nearest(name, names)
            )
    rows = [row for row in _table(pool) if not only or row["name"] in only]
    return [source for row in rows for source in _sources_of(row, optional, hub_folder)]


def _sources_of(row: Mapping[str, Any], optional: bool, hub_folder: str) -> list[Source]:
    local = [Path(hub_folder) / name for name in row.get("local", [])] if hub_folder else []
    if local and all(path.is_file() for path in local):
        return [Source(path=str(path), licence=row["licence"], num=row.get("num")) for path in local]
    return [
        Source(
            hub=hub,
            files=row["files"],
            revision=row.get("revision") or row.get("revisions", {}).get(hub, ""),
            columns=row.get("columns", {}),
            template=row.get("template", ""),
            keep=row.get("keep", {}),
            shuffle_options=row.get("shuffle_options", False),
            num=row.get("num"),
            name=row["name"],
            licence=row["licence"],
            optional=optional,
        )
        for hub in row.get("hubs") or [row["hub"]]
    ]


def paper_counts() -> dict[str, int]:
    """Questions a source in the paper's table of the 59K pool; they sum to 59,029."""
    return {row["name"]: row["num_paper"] for row in _table("s1")}


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
