"""The state of one server: its backend, limits, running requests and counters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from s1kit.serve.admission import Admission
from s1kit.serve.decoding import Backend
from s1kit.serve.ending import RunningRequests
from s1kit.serve.metrics import Metrics
from s1kit.serve.refusals import Refusal
from s1kit.serve.tracing import Tracer


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one server, on choices, bodies, silence and callers."""

    max_running: int = 256
    """Choices decoded at once."""
    max_waiting: int = 512
    """Choices that wait for a place; more are refused with 429."""
    max_body_bytes: int = 8 << 20
    is_lenient: bool = False
    """Unknown fields are listed in the reply (`s1kit.ignored`) and not refused."""
    default_budget: int | None = None
    """Most thinking tokens where a request states none; None: the room there is."""
    ping_seconds: float = 15.0
    """Longest silence in a stream."""
    allowed_hosts: tuple[str, ...] | None = None
    """Names in the Host header that are answered; None: any. Keeps web pages of others away from a private server."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of web pages that may call (CORS); `*` is any."""
    request_seconds: float | None = None
    """Longest time for one request, its wait for a place included; None: no limit."""


@dataclass(slots=True)
class Server:
    """The state of one application."""

    backend: Backend
    limits: Limits
    efforts: Mapping[str, int]
    api_keys: Mapping[str, str]
    """Accepted keys by the name that the log shows; empty: none is asked for."""
    examples: tuple[str, ...] = ()
    """Questions that the playground offers."""
    aliases: tuple[str, ...] = ()
    """Other names that requests may call the model by."""
    tracer: Tracer | None = None
    metrics: Metrics = field(default_factory=Metrics)
    running: RunningRequests = field(default_factory=RunningRequests)
    streams: set[asyncio.Task[None]] = field(default_factory=set)
    """Requests being answered."""
    is_draining: bool = False
    """Set at shutdown: what runs may finish, nothing new begins."""
    is_aborting: bool = False
    """Set when the time to finish is over: what still runs is failed."""
    admission: Admission = field(init=False)
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.admission = Admission(self.limits.max_running, self.limits.max_waiting)

    def drain(self) -> None:
        """Begin to shut down."""
        self.is_draining = True

    def abort(self) -> None:
        """Fail what still runs, each with a last event or an error reply."""
        self.is_draining = self.is_aborting = True
        for task in list(self.streams):
            task.cancel()


def check_model(server: Server, model: str | None) -> None:
    names = (server.backend.model, *server.aliases)
    if model is not None and model not in names:
        raise Refusal(
            404,
            f"the model {model!r} is not served here. Served: {', '.join(names)}.",
            param="model",
            code="model_not_found",
        )
