"""`s1kit serve`: an OpenAI-compatible server with a thinking dial, and a playground.

http -> answering -> fields, dial -> jobs -> a backend (local, upstream) -> replies -> http
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["make_app", "serve"]


def make_app(*args: Any, **kwargs: Any) -> Starlette:
    """The ASGI application around a backend; see `s1kit.serve.app.make_app`. Raises MissingExtra."""
    _check_installed()
    from s1kit.serve.app import make_app as make

    return make(*args, **kwargs)


def serve(**options: Any) -> None:
    """Serve until interrupted; the options are the fields of `s1kit.serve.options.Options`. Raises InputError."""
    _check_installed()
    from s1kit.serve.options import Options
    from s1kit.serve.server import run

    run(Options(**options))


def _check_installed() -> None:
    from importlib.util import find_spec

    from s1kit.errors import MissingExtra

    for package in ("starlette", "uvicorn", "aiohttp"):
        if find_spec(package) is None:
            raise MissingExtra("serving", package, extra="serve")
