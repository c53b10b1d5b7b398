"""The state of one server: its backend, its limits, who runs, what was counted; and whom it answers at all."""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from s1kit.serve.admission import Admission
from s1kit.serve.decoding import Backend
from s1kit.serve.http import Scope, header
from s1kit.serve.metrics import Metrics
from s1kit.serve.refusals import Refusal


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server takes on."""

    max_running: int = 256
    """Choices decoded at once."""
    max_waiting: int = 512
    """Choices that wait for a place; more are told to come back."""
    max_body_bytes: int = 8 << 20
    is_lenient: bool = False
    """Unknown fields are listed in the reply (`s1kit.ignored`) and not refused."""
    default_budget: int | None = None
    """Most thinking tokens where a request states none; None: the room there is."""
    ping_seconds: float = 15.0
    """Longest silence in a stream."""
    allowed_hosts: tuple[str, ...] | None = None
    """Names in the Host header that are answered; None: any. Keeps web pages of others away from a private server."""


@dataclass(slots=True)
class Server:
    """The state of one application."""

    backend: Backend
    limits: Limits
    efforts: Mapping[str, int]
    api_keys: tuple[str, ...]
    examples: tuple[str, ...] = ()
    """Questions that the playground offers."""
    metrics: Metrics = field(default_factory=Metrics)
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


def check_caller(server: Server, scope: Scope, needs_key: bool) -> None:
    """Raises Refusal for a strange host name, or a missing or wrong key."""
    allowed = server.limits.allowed_hosts
    host = re.sub(r":\d*$", "", header(scope, b"host")).strip("[]").lower()
    if allowed is not None and host not in allowed:
        raise Refusal(403, f"this server does not answer to the name {host!r}. Start it with --host to serve others.")
    if needs_key and server.api_keys:
        scheme, _, given = header(scope, b"authorization").partition(" ")
        if not given:
            scheme, given = "bearer", header(scope, b"x-api-key")  # Anthropic's clients
        is_known = any(hmac.compare_digest(given.strip().encode(), key.encode()) for key in server.api_keys)
        if scheme.lower() != "bearer" or not is_known:
            what = "the API key is wrong." if given else "this server wants an API key."
            raise Refusal(
                401,
                f"{what} Send the header Authorization: Bearer <key>.",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )


def check_model(server: Server, model: str | None) -> None:
    if model is not None and model != server.backend.model:
        raise Refusal(
            404,
            f"the model {model!r} is not served here. Served: {server.backend.model}.",
            param="model",
            code="model_not_found",
        )
