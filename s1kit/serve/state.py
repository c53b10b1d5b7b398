"""The state of one server: its backend, limits and counters, and the requests that run, whose thinking can be ended."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from s1kit.serve.admission import Admission
from s1kit.serve.decoding import Backend
from s1kit.serve.metrics import Metrics
from s1kit.serve.refusals import Refusal
from s1kit.serve.replies import Choice
from s1kit.serve.tracing import Tracer


@dataclass(slots=True)
class RunningRequest:
    """A request that runs, as others may act on it: they can end its thinking."""

    key: str | None
    """The name of the key that it came with."""
    choices: Sequence[Choice]

    def stop_thinking(self) -> int:
        """End the thinking of its choices; returns how many were thinking, or had yet to begin."""
        thinking = [choice for choice in self.choices if choice.is_thinking]
        for choice in thinking:
            choice.stop.ask()
        return len(thinking)


@dataclass(slots=True)
class RunningRequests:
    """The requests that run, by each of the ids that a client can know."""

    _by_id: defaultdict[str, list[RunningRequest]] = field(default_factory=lambda: defaultdict(list))

    @contextmanager
    def listed(self, ids: Iterable[str], request: RunningRequest) -> Iterator[None]:
        """Let the request be found by these ids meanwhile. Clients choose `x-request-id`, so two may have the same."""
        names = set(ids)
        for name in names:
            self._by_id[name].append(request)
        try:
            yield
        finally:
            for name in names:
                self._by_id[name].remove(request)
                if not self._by_id[name]:
                    del self._by_id[name]

    def names(self) -> Sequence[str]:
        """The ids of all that run."""
        return tuple(self._by_id)

    def find(self, name: str) -> Sequence[RunningRequest]:
        """The requests of this id."""
        return tuple(self._by_id.get(name, ()))

    def stop_thinking(self, name: str, key: str | None) -> int:
        """End the thinking of every request of this id and key; returns the number of choices.

        Raises Refusal: 404 where no such request runs, 409 where none of its choices is thinking.
        """
        found = [request for request in self.find(name) if request.key == key]
        if not found:
            raise Refusal(
                404,
                f"no request {name!r} is running under this key. Give the id of its reply, or its x-request-id.",
                param="id",
                code="unknown_request",
            )
        stopped = sum([request.stop_thinking() for request in found])
        if not stopped:
            raise Refusal(409, f"the request {name!r} is answering already.", param="id", code="not_thinking")
        return stopped


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
