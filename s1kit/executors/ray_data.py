"""Batches on a Ray cluster, through Ray Data; a local cluster is started when there is none."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from s1kit.errors import MissingExtra
from s1kit.executors.protocol import BatchFunction, Rows

WAVE = 256
"""Batches handed to Ray at a time: the driver holds no more of the pool than that."""


class RayExecutor:
    """`processes` bounds the tasks at work; 1 leaves it to the cluster."""

    def __init__(self, processes: int = 1) -> None:
        # Ray reports how it is used to its makers unless told not to.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise MissingExtra("executor=ray", "ray[data]", extra="ray") from error
        self._ray = ray
        self._concurrency = processes if processes > 1 else None
        if not ray.is_initialized():
            ray.init(num_cpus=processes if processes > 1 else None, include_dashboard=False, log_to_driver=False)

    def map(
        self, function: BatchFunction, batches: Iterable[Sequence[Mapping[str, Any]]], settings: Mapping[str, Any]
    ) -> Iterator[Rows]:
        """One result a batch, in order."""
        wave: list[dict[str, Any]] = []
        for batch in batches:
            # Free-form rows travel as JSON: columns of mixed types have no Arrow schema.
            wave.append({"number": len(wave), "rows": json.dumps(list(batch))})
            if len(wave) == WAVE:
                yield from self._run(function, wave, settings)
                wave = []
        if wave:
            yield from self._run(function, wave, settings)

    def _run(self, function: BatchFunction, wave: list[dict[str, Any]], settings: Mapping[str, Any]) -> Iterator[Rows]:
        def work(row: dict[str, Any]) -> dict[str, Any]:
            return {"number": row["number"], "rows": json.dumps(function(json.loads(row["rows"]), **settings))}

        self._ray.data.DataContext.get_current().enable_progress_bars = False  # `collect` shows its own
        done = self._ray.data.from_items(wave).map(work, concurrency=self._concurrency)
        for row in sorted(done.take_all(), key=lambda r: int(r["number"])):
            yield json.loads(row["rows"])
