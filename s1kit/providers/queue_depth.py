"""vLLM takes every request and lets it wait inside, without a 429: its `/metrics` say how many do."""

from __future__ import annotations

import asyncio
import re

from s1kit.providers.catalog import Model
from s1kit.providers.chat import Problem
from s1kit.providers.http import Http
from s1kit.providers.throttle import Throttle

SECONDS_BETWEEN = 2.0

_GAUGE = re.compile(r"^vllm:num_requests_(waiting|running)(?:\{[^}]*\})?\s+([0-9.e+]+)\s*$", re.MULTILINE)


async def watch_queue(http: Http, model: Model, throttle: Throttle) -> None:
    """Tell the throttle of the server's queue as long as it has one to tell of. Ends quietly when it has none."""
    url = model.base_url.removesuffix("/v1") + "/metrics"
    while True:
        try:
            text = (await http.get(url)).raw.decode("utf-8", "replace")
        except Problem:
            return
        depth = queue_depth(text)
        if depth is None:
            return
        throttle.queue_seen(*depth)
        await asyncio.sleep(SECONDS_BETWEEN)


def queue_depth(metrics: str) -> tuple[int, int] | None:
    """Requests waiting and running, summed over the engines behind one server; None where there is no such gauge.

    >>> queue_depth('vllm:num_requests_waiting{model_name="m"} 3.0\\nvllm:num_requests_running{model_name="m"} 8.0')
    (3, 8)
    """
    sums = {"waiting": 0.0, "running": 0.0}
    gauges = _GAUGE.findall(metrics)
    for name, value in gauges:
        sums[name] += float(value)
    return (int(sums["waiting"]), int(sums["running"])) if gauges else None
