"""The options of `s1kit serve`; the command line and `s1kit.serve.serve` fill them in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from s1kit.serve.logs import LogFormat


@dataclass(frozen=True, slots=True)
class Options:
    """The settings of a server; `s1kit serve` has a flag for each."""

    model: str = "tiny"
    upstream: str | None = None
    """Base URL of a completions server; the model is then decoded there."""
    upstream_model: str | None = None
    """The model's name there; None: the only one it lists."""
    upstream_kind: str = "auto"
    upstream_key_env: str | None = None
    """Name of the environment variable that holds the upstream's key."""
    upstream_timeout: float = 60.0
    """Longest silence of the upstream, in seconds."""
    reconnect: bool = False
    """An upstream that has become another model is served as that, not refused."""
    tokenizer: str | None = None
    """Folder or Hub id; None: the upstream model's name is one."""
    format: str | None = None
    """Thinking format; None: found from the model's folder or tokenizer."""
    template: Sequence[str] = ()
    """Switches passed to the chat template, each `key=value`."""
    name: str | None = None
    """The model's name on the wire; None: the model reference, or the upstream's name for it."""
    context: int | None = None
    """Tokens that prompt, thinking and answer may take together; None: what the model or the upstream says."""
    host: str = "127.0.0.1"
    port: int = 8000
    uds: str | None = None
    """Path of a Unix socket to listen at, in the place of host and port."""
    api_key: Sequence[str] = ()
    """Accepted keys; empty: that of S1KIT_API_KEY, else none is asked for."""
    api_keys_file: str | None = None
    """File of lines `name:key`; the name of a request's key is in the log."""
    alias: Sequence[str] = ()
    """Other names that requests may call the model by."""
    allow_origin: Sequence[str] = ()
    """Origins of web pages that may call (CORS); `*`: any."""
    allow_host: Sequence[str] = ()
    """Host names that are answered, besides loopback ones on a loopback address; empty: any beyond it."""
    root_path: str = ""
    """Path prefix that a proxy in front takes off, e.g. `/dial`."""
    tls_cert: str | None = None
    tls_key: str | None = None
    otel: bool = False
    """One OpenTelemetry span a request."""
    effort: Sequence[str] = ()
    """`name=tokens`."""
    effort_map: str | None = None
    lenient: bool = False
    """Unknown fields are listed in the reply, not refused."""
    default_budget: int | None = None
    auto: str | None = None
    """A file of `s1kit calibrate`, or a checkpoint folder that holds one: when thinking is left under `budget: "auto"`,
    and where a request states nothing about its thinking."""
    max_running: int = 256
    max_waiting: int = 512
    max_body: int = 8 << 20
    max_header: int = 1 << 16
    max_headers: int = 100
    """Header fields of one request."""
    max_connections: int = 4096
    header_timeout: float = 20.0
    """Seconds to send a header."""
    body_timeout: float = 60.0
    """Seconds to send a body."""
    request_timeout: float | None = None
    """Seconds that one request may take; None: no limit."""
    grace: float = 30.0
    log: LogFormat = "text"
