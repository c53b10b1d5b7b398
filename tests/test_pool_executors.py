"""The same rows from one process, from several, and from Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from s1kit.errors import InputError
from s1kit.executors import Rows, load_executor
from s1kit.pool.collect import collect
from s1kit.recipe import Recipe
from s1kit.stage import open_run


def double(rows: Rows, factor: int) -> Rows:
    return [{"n": row["n"] * factor} for row in rows]


BATCHES = [[{"n": n} for n in range(first, first + 5)] for first in range(0, 60, 5)]


def test_results_come_in_the_order_of_the_batches() -> None:
    for processes in (1, 2):
        done = list(load_executor("local", processes).map(double, BATCHES, {"factor": 2}))
        assert [row["n"] for rows in done for row in rows] == list(range(0, 120, 2))


def collected(folder: Path, monkeypatch: pytest.MonkeyPatch, **config: Any) -> dict[str, bytes]:
    monkeypatch.setattr("s1kit.pool.reading.BATCH", 100)
    pool = {"sources": [{"builtin": "tiny", "num": 500}], "decontaminate": "strict", "against": ["tiny"]}
    recipe = Recipe.model_validate({"name": "test", "collect": pool | config})
    stage = collect(recipe, open_run(folder, recipe.name, recipe.model_dump()))
    return {p.name: p.read_bytes() for p in stage.folder.glob("*.parquet")}


def test_several_processes_collect_the_same_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = collected(tmp_path / "one", monkeypatch)
    assert collected(tmp_path / "two", monkeypatch, processes=2) == one


def test_ray_collects_the_same_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    try:
        one = collected(tmp_path / "one", monkeypatch)
        assert collected(tmp_path / "ray", monkeypatch, executor="ray", processes=2) == one
    finally:
        ray.shutdown()


def test_an_unknown_executor_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean local"):
        load_executor("locall")
