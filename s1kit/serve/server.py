"""Start-up and graceful shutdown: makes backend and application from the options, and runs uvicorn around them.

On the first signal nothing new begins and streams may finish within `grace` seconds; then what still runs is failed,
each with an error of its own. A second signal does that at once.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

import uvicorn

from s1kit.adaptive.rule import load_rule
from s1kit.engines.references import read_reference, read_switches
from s1kit.errors import InputError
from s1kit.serve import logs
from s1kit.serve.app import make_app
from s1kit.serve.authentication import KeyFile, named
from s1kit.serve.connections import ConnectionLimits, bounded_protocol, listen, listening_at, shown
from s1kit.serve.decoding import Backend
from s1kit.serve.dial import read_efforts
from s1kit.serve.options import Options, as_upstream, check, refuse_idle
from s1kit.serve.state import Limits, Server
from s1kit.serve.tracing import OpenTelemetry

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def run(options: Options) -> None:
    """Serve until a signal. Raises InputError for options that conflict, and where the port is in use."""
    check(options)
    logs.set_up(options.log)
    efforts = read_efforts(Path(options.effort_map) if options.effort_map else None, tuple(options.effort))
    limits = _limits(options)
    keys = named(tuple(options.api_key) or tuple(k for k in (os.environ.get("S1KIT_API_KEY"),) if k))
    if options.api_keys_file is not None:
        keys = KeyFile(Path(options.api_keys_file), keys if options.api_key else None)
    _check_tls(options)
    with listening_at(Path(options.uds)) if options.uds else listen(options.host, options.port) as listener:
        asyncio_run = asyncio.run
        if sys.platform != "win32":
            import uvloop

            asyncio_run = uvloop.run
        asyncio_run(_serve(options, limits, efforts, keys, listener))


async def _serve(
    options: Options, limits: Limits, efforts: dict[str, int], keys: Mapping[str, str], listener: socket.socket
) -> None:
    backend = await make_backend(options)
    tracer = _tracer(options)
    app = make_app(backend, limits, efforts, keys, _examples(options), options.alias, tracer)
    connections = ConnectionLimits(
        options.max_header,
        options.header_timeout,
        options.body_timeout,
        options.max_connections,
        max_headers=options.max_headers,
    )
    config = uvicorn.Config(
        app,
        http=bounded_protocol(connections),
        root_path=options.root_path.rstrip("/"),
        ssl_certfile=options.tls_cert,
        ssl_keyfile=options.tls_key,
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        date_header=False,
        h11_max_incomplete_event_size=1 << 16,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(options.grace) + 10,
    )
    server = _PoliteServer(config, app.state.server, options.grace)
    _keep_from_collection()
    if (options.api_keys_file or options.tls_cert) and sys.platform != "win32":
        _on_hangup(lambda: _read_again(options, keys, config))
    address = shown(listener, is_tls=options.tls_cert is not None)
    logs.log("serving", url=address, model=backend.model, upstream=options.upstream)
    try:
        await server.serve(sockets=[listener])
    finally:
        if tracer is not None:
            await asyncio.to_thread(tracer.close)


def _on_hangup(work: Callable[[], None]) -> None:
    """Do `work` at the signal SIGHUP, which only the main thread can be told of."""
    if threading.current_thread() is threading.main_thread():
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, work)


def _read_again(options: Options, keys: Mapping[str, str], config: uvicorn.Config) -> None:
    """Read the files of keys and of TLS again. One that cannot be used changes nothing, and the log says why."""
    if isinstance(keys, KeyFile):
        keys.read_again()
    if options.tls_cert is None or not config.loaded or config.ssl is None:
        return
    try:
        _check_tls(options)
    except InputError as error:
        logs.log("the certificate stays as it was", level=30, why=str(error))
    else:
        config.ssl.load_cert_chain(options.tls_cert, options.tls_key)
        logs.log("the certificate was read again")


class _PoliteServer(uvicorn.Server):
    """uvicorn with a graceful shutdown: requests may finish for a while, the rest get an error reply."""

    def __init__(self, config: uvicorn.Config, state: Server, grace: float) -> None:
        super().__init__(config)
        self._state, self._grace = state, grace

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # The signal is not noted for uvicorn to raise again: a server that was told to stop and did has not failed.
        loop = asyncio.get_running_loop()
        if self._state.is_draining:
            loop.call_soon_threadsafe(self._state.abort)
        else:
            self._state.drain()
            logs.log("shutting down", running=len(self._state.streams), grace_seconds=self._grace)
            loop.call_soon_threadsafe(loop.call_later, self._grace, self._state.abort)
        loop.call_soon_threadsafe(self._exit_when_idle)

    def _exit_when_idle(self) -> None:
        """Stop listening once nothing runs: until then `/health` says 503, and how many are left."""
        if self._state.streams and not self._state.is_aborting:
            asyncio.get_running_loop().call_later(0.05, self._exit_when_idle)
        else:
            self.should_exit = True


async def make_backend(options: Options) -> Backend:
    """The engine or the upstream that the options name. Raises InputError and MissingExtra."""
    reference = read_reference(options.model)
    refuse_idle(options)
    if not options.upstream and reference.scheme == "completions":
        options = as_upstream(options, reference)
    if options.upstream and options.auto:
        raise InputError(
            "an exit rule needs an engine in this process, and --upstream names a server",
            where="--auto",
            fix="Leave it out, or serve the model with --model.",
        )
    rule = load_rule(Path(options.auto)) if options.auto is not None else None
    if options.upstream:
        from s1kit.serve.connect_upstream import connect

        return await connect(options)
    from s1kit.engines import Engine, load_engine
    from s1kit.engines.interface import close_engine
    from s1kit.progress import results_only
    from s1kit.serve.local import Local

    given = {"format": options.format, "context_tokens": options.context}
    stated = {name: value for name, value in given.items() if value is not None}
    logs.log("loading", model=options.model)
    with results_only():
        engine: Engine = load_engine(options.model, template=read_switches(options.template), **stated)
    try:
        return Local(engine, options.name or options.model, rule)
    except InputError:
        close_engine(engine)
        raise


def _examples(options: Options) -> tuple[str, ...]:
    """Questions to try, for the models that ship with the package: they know only a small world."""
    if options.upstream or options.model not in ("tiny", "tiny-base"):
        return ()
    from s1kit.tiny.questions import held_out_questions

    return tuple(question.text for question in held_out_questions(8, seed=0, split="development"))


def _limits(options: Options) -> Limits:
    # No web page can call a socket in the file system, so that any name may stand in Host there.
    local = LOOPBACK if options.host in LOOPBACK and options.uds is None else ()
    return Limits(
        max_running=options.max_running,
        max_waiting=options.max_waiting,
        max_body_bytes=options.max_body,
        is_lenient=options.lenient,
        default_budget=options.default_budget,
        allowed_hosts=(*local, *(name.lower() for name in options.allow_host)) or None,
        allowed_origins=tuple(options.allow_origin),
        request_seconds=options.request_timeout,
    )


def _check_tls(options: Options) -> None:
    """Raises InputError where one of the two files is missing or they do not belong together."""
    if options.tls_cert is None and options.tls_key is None:
        return
    if options.tls_cert is None or options.tls_key is None:
        raise InputError("TLS needs two files", where="--tls-cert, --tls-key", fix="Give both.")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(options.tls_cert, options.tls_key)
    except (OSError, ValueError) as error:
        raise InputError(
            f"the certificate or its key cannot be used: {error}",
            where="--tls-cert, --tls-key",
            fix="Give PEM files that belong together.",
        ) from error


def _keep_from_collection() -> None:
    """Exempt what is loaded by now from garbage collection.

    With PyTorch and transformers loaded a full collection takes 0.3 to 0.7 s, in which nobody is answered; a thousand
    connections opened at once are enough to start one.
    """
    gc.collect()
    gc.freeze()


def _tracer(options: Options) -> OpenTelemetry | None:
    return OpenTelemetry() if options.otel else None
