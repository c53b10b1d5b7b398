"""The options of `s1kit serve`, which the command line or `s1kit.serve.serve` fills in, and the checks of them."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from s1kit.engines.references import Reference, scheme_of
from s1kit.errors import InputError
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


def check(options: Options) -> None:
    """Raises InputError for options that conflict, and for what no server or no request could ever match."""
    _check_numbers(options)
    _check_names(options)
    if not all(key.strip() for key in options.api_key) or os.environ.get("S1KIT_API_KEY", "x").strip() == "":
        raise InputError(
            "the API key is empty, which would let everybody in",
            where="--api-key" if options.api_key else "S1KIT_API_KEY",
            fix="Give a key, or leave it out (or unset the variable) to ask for none.",
        )
    if not 0 <= options.port <= 65535:
        raise InputError(f"--port is {options.port}", where="--port", fix="Give 0 (any that is free) to 65535.")
    own = Options()
    if options.uds is not None and (options.host, options.port) != (own.host, own.port):
        raise InputError(
            "an address and a Unix socket are named, and the server listens at one",
            where="--uds, --host, --port",
            fix="Leave --uds or the others out.",
        )


def _check_numbers(options: Options) -> None:
    """Raises InputError on a number that cannot be."""
    least = {"max_running": 1, "max_waiting": 0, "max_body": 1, "grace": 0, "upstream_timeout": 0.001, "context": 1}
    seconds = dict.fromkeys(("header_timeout", "body_timeout", "request_timeout"), 0.1)
    more = {"max_header": 1024, "max_connections": 1, "max_headers": 1, "default_budget": -1}
    for name, smallest in {**least, **seconds, **more}.items():
        value = getattr(options, name)
        if value is not None and not smallest <= value < math.inf:
            flag = "--" + name.replace("_", "-")
            raise InputError(f"{flag} is {value}", where=flag, fix=f"Give {smallest} or more.")


def _check_names(options: Options) -> None:
    """Raises InputError on a name, origin, prefix or key that no request could ever match."""
    wrong: list[tuple[str, str, str]] = [
        ("--allow-origin", origin, "Give scheme://host[:port] as browsers send it, without a path, or *.")
        for origin in options.allow_origin
        if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s]+|null", origin)
    ]
    wrong += [
        ("--allow-host", host, "Give a name alone, without scheme, port and path.")
        for host in options.allow_host
        if not re.fullmatch(r"[^\s/:\[\]]+|[0-9a-fA-F:.]+", host)
    ]
    wrong += [
        (
            "--api-key",
            "(not shown)",
            "Give one without blanks around it or line breaks in it, which no header can hold.",
        )
        for key in options.api_key
        if key.strip() and (key != key.strip() or not key.isprintable())
    ]
    names = [("--alias", name) for name in options.alias] + [("--name", name) for name in (options.name,)]
    wrong += [(flag, name, "Give a name.") for flag, name in names if name is not None and not name.strip()]
    if options.root_path and not options.root_path.startswith("/"):
        wrong.append(("--root-path", options.root_path, f"Write /{options.root_path}."))
    for flag, value, fix in wrong:
        raise InputError(f"{flag} {value!r} would match no request", where=flag, fix=fix)


def refuse_idle(options: Options) -> None:
    """Raises InputError for a model beside an upstream, and for options of an upstream where there is none."""
    own = Options()
    if options.upstream and options.model != own.model:
        raise InputError(
            f"the model {options.model!r} stands beside the upstream {options.upstream!r}",
            where="--model, --upstream",
            fix="Leave one of them out; --upstream-model says which of the server's models is meant.",
        )
    if options.upstream or scheme_of(options.model) == "completions":
        return
    for name in ("upstream_model", "upstream_kind", "upstream_key_env", "upstream_timeout", "reconnect", "tokenizer"):
        if getattr(options, name) != getattr(own, name):
            flag = "--" + name.replace("_", "-")
            raise InputError(
                f"{flag} has no effect on {options.model}, which is decoded in this process",
                where=flag,
                fix="Leave it out, or name the server with --upstream.",
            )


_FLAG_OF = {
    "kind": "upstream_kind",
    "timeout": "upstream_timeout",
    "tokenizer": "tokenizer",
    "context_tokens": "context",
    "format": "format",
}
"""Options of a `completions:` reference, and their names on the command line."""


def as_upstream(options: Options, reference: Reference) -> Options:
    """`--model completions:<base URL>#<model>` is another way to write `--upstream`.

    Raises InputError where the reference and an option say different things, and for an option of the reference that
    only batches have.
    """
    url, _, model = reference.target.partition("#")
    stated = reference.options
    for name, field in _FLAG_OF.items():
        given = getattr(options, field)
        if name in stated and given not in (getattr(Options(), field), stated[name]):
            flag = "--" + field.replace("_", "-")
            raise InputError(
                f"the reference states {name}={stated[name]}, and {flag} is {given}",
                where=options.model,
                fix="Leave one of them out.",
            )
    if model and options.upstream_model not in (None, model):
        raise InputError(
            f"the reference names the model {model!r}, and --upstream-model is {options.upstream_model!r}",
            where=options.model,
            fix="Leave one of them out.",
        )
    for name in ("max_batch", "num_parallel"):
        if name in stated:
            raise InputError(
                f"{name} has no effect on a server, whose requests come from outside",
                where=options.model,
                fix="Leave it out; --max-running limits how many are under way.",
            )
    return replace(
        options,
        upstream=url,
        upstream_model=model or options.upstream_model,
        upstream_kind=stated.get("kind", options.upstream_kind),
        upstream_timeout=stated.get("timeout", options.upstream_timeout),
        tokenizer=stated.get("tokenizer", options.tokenizer),
        context=stated.get("context_tokens", options.context),
        format=stated.get("format", options.format),
        template=(*options.template, *(f"{k}={v}" for k, v in stated.get("template", {}).items())),
    )
