"""Starting and stopping: options to a backend and an application, uvicorn around it, and a shutdown that is polite.

On the first signal nothing new begins and streams may finish within `grace` seconds; then what still runs is failed,
each with an error of its own. A second signal does that at once.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import uvicorn

from s1kit.errors import InputError
from s1kit.serve import logs
from s1kit.serve.app import make_app
from s1kit.serve.connections import ConnectionLimits, bounded_protocol
from s1kit.serve.decoding import Backend
from s1kit.serve.dial import read_efforts
from s1kit.serve.options import Options
from s1kit.serve.state import Limits, Server

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def run(options: Options) -> None:
    """Serve until a signal. Raises InputError for options that cannot be, and where the port is taken."""
    _check(options)
    if not all(key.strip() for key in options.api_key) or os.environ.get("S1KIT_API_KEY", "x").strip() == "":
        raise InputError(
            "the API key is empty, which would let everybody in",
            where="--api-key" if options.api_key else "S1KIT_API_KEY",
            fix="Give a key, or leave it out (or unset the variable) to ask for none.",
        )
    if not 0 <= options.port <= 65535:
        raise InputError(f"--port is {options.port}", where="--port", fix="Give 0 (any that is free) to 65535.")
    logs.set_up(options.log)
    efforts = read_efforts(Path(options.effort_map) if options.effort_map else None, tuple(options.effort))
    limits = _limits(options)
    keys = tuple(options.api_key) or tuple(k for k in (os.environ.get("S1KIT_API_KEY"),) if k)
    listener = _listen(options.host, options.port)
    with listener:
        asyncio_run = asyncio.run
        if sys.platform != "win32":
            import uvloop

            asyncio_run = uvloop.run
        asyncio_run(_serve(options, limits, efforts, keys, listener))


async def _serve(
    options: Options, limits: Limits, efforts: dict[str, int], keys: Sequence[str], listener: socket.socket
) -> None:
    backend = await make_backend(options)
    app = make_app(backend, limits, efforts, keys, examples=_examples(options))
    config = uvicorn.Config(
        app,
        http=bounded_protocol(ConnectionLimits()),
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
    address, port = listener.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    logs.log("serving", url=f"http://{shown}:{port}/", model=backend.model, upstream=options.upstream)
    await server.serve(sockets=[listener])


class _PoliteServer(uvicorn.Server):
    """Uvicorn, with time to finish and a clean failure for what does not."""

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
        self.should_exit = True


async def make_backend(options: Options) -> Backend:
    """The engine or the upstream that the options name. Raises InputError and MissingExtra."""
    if options.upstream:
        from s1kit.serve.connect import connect

        return await connect(options)
    from s1kit.engines import Engine, load_engine
    from s1kit.serve.local import Local

    given = {"format": options.format, "context_tokens": options.context}
    engine: Engine = load_engine(options.model, **{k: v for k, v in given.items() if v is not None})
    return Local(engine, options.name or options.model)


def _examples(options: Options) -> tuple[str, ...]:
    """Questions to try, for the models that ship with the package: they know only a small world."""
    if options.upstream or options.model not in ("tiny", "tiny-base"):
        return ()
    from s1kit.tiny.questions import held_out_questions

    return tuple(question.text for question in held_out_questions(8, seed=0, split="development"))


def _limits(options: Options) -> Limits:
    return Limits(
        max_running=options.max_running,
        max_waiting=options.max_waiting,
        max_body_bytes=options.max_body,
        is_lenient=options.lenient,
        default_budget=options.default_budget,
        allowed_hosts=LOOPBACK if options.host in LOOPBACK else None,
    )


def _check(options: Options) -> None:
    """Raises InputError on a number that cannot be."""
    least = {"max_running": 1, "max_waiting": 0, "max_body": 1, "grace": 0, "upstream_timeout": 0.001, "context": 1}
    for name, smallest in {**least, "default_budget": -1}.items():
        value = getattr(options, name)
        if value is not None and value < smallest:
            flag = "--" + name.replace("_", "-")
            raise InputError(f"{flag} is {value}", where=flag, fix=f"Give {smallest} or more.")


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket; InputError where there is none to be had."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(2048)
        except OSError:
            listener.close()
            raise
    except (OSError, OverflowError) as error:
        raise InputError(
            f"cannot listen on {host}:{port}: {error}",
            where="--host, --port",
            fix="Choose another, or stop who has it.",
        ) from error
    return listener
