"""The application: its routes. What happens between a request for tokens and its reply is in `answering`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from s1kit import __version__
from s1kit.serve import page
from s1kit.serve.answering import Generate
from s1kit.serve.authentication import check_caller, named
from s1kit.serve.counting import count_input_tokens, count_tokens, detokenize, tokenize
from s1kit.serve.decoding import Backend
from s1kit.serve.dial import EFFORTS
from s1kit.serve.logs import log
from s1kit.serve.openapi import document
from s1kit.serve.refusals import Refusal
from s1kit.serve.state import Limits, Server, check_model
from s1kit.serve.tracing import Tracer


def make_app(
    backend: Backend,
    limits: Limits | None = None,
    efforts: Mapping[str, int] | None = None,
    api_keys: Mapping[str, str] | Sequence[str] = (),
    examples: Sequence[str] = (),
    aliases: Sequence[str] = (),
    tracer: Tracer | None = None,
) -> Starlette:
    """The ASGI application around a backend. `app.state.server` holds its state; it closes the backend at its end.

    `api_keys` are keys, or names to keys; `examples` are questions that the playground offers; `aliases` are other
    names of the model.
    """
    server = Server(
        backend,
        limits or Limits(),
        dict(efforts or EFFORTS),
        named(api_keys),
        tuple(examples),
        tuple(alias for alias in dict.fromkeys(aliases) if alias != backend.model),
        tracer,
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        server.abort()
        if server.streams:
            await asyncio.wait(server.streams, timeout=5)
        await backend.close()

    def answer(handler: Callable[[Server, Request], Any], needs_key: bool = True) -> Any:
        return _guarded(server, handler, needs_key)

    routes = [
        Route("/v1/chat/completions", Generate(server, "chat"), methods=["POST"]),
        Route("/v1/completions", Generate(server, "completions"), methods=["POST"]),
        Route("/v1/messages", Generate(server, "messages"), methods=["POST"]),
        Route("/v1/responses", Generate(server, "responses"), methods=["POST"]),
        Route("/v1/messages/count_tokens", answer(count_tokens), methods=["POST"]),
        Route("/v1/responses/input_tokens", answer(count_input_tokens), methods=["POST"]),
        Route("/tokenize", answer(tokenize), methods=["POST"]),
        Route("/detokenize", answer(detokenize), methods=["POST"]),
        Route("/v1/requests/{id:path}/stop_thinking", _stopping(server), methods=["POST"]),
        Route("/version", answer(_version, needs_key=False), methods=["GET"]),
        Route("/v1/models", answer(_models), methods=["GET"]),
        Route("/v1/models/{model:path}", answer(_model), methods=["GET"]),
        Route("/health", answer(_health, needs_key=False), methods=["GET"]),
        Route("/metrics", answer(_metrics), methods=["GET"]),
        Route("/openapi.json", answer(_openapi, needs_key=False), methods=["GET"]),
        Route("/", answer(_page, needs_key=False), methods=["GET"]),
        Route("/page/{name:path}", answer(_page_part, needs_key=False), methods=["GET"]),
    ]
    # Also with a slash at the end: the redirect that Starlette would send names a scheme that a proxy may have changed.
    routes += [Route(f"{r.path}/", r.endpoint, methods=["POST"]) for r in routes if "POST" in (r.methods or ())]
    app = Starlette(
        routes=routes, lifespan=lifespan, exception_handlers={404: _not_found, 405: _wrong_method, 500: _bug}
    )
    app.router.redirect_slashes = False
    app.state.server = server
    if server.limits.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=server.limits.allowed_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "retry-after"],
            # A page of the internet asks first whether a server on the user's own machine wants to be called.
            allow_private_network=True,
        )
    return app


def _stopping(server: Server) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        try:
            key = check_caller(request.scope, server.api_keys, server.limits.allowed_hosts, needs_key=True)
            name = request.path_params["id"]
            stopped = server.running.stop_thinking(name, key)
        except Refusal as refusal:
            return JSONResponse(refusal.body(), refusal.status, refusal.headers)
        log("thinking stopped", id=name, key=key, choices=stopped)
        return JSONResponse({"id": name, "stopped": stopped})

    return endpoint


def _guarded(server: Server, handler: Callable[[Server, Request], Any], needs_key: bool) -> Any:
    async def endpoint(request: Request) -> Response:
        try:
            check_caller(request.scope, server.api_keys, server.limits.allowed_hosts, needs_key)
            result = handler(server, request)
            response: Response = await result if asyncio.iscoroutine(result) else result
        except Refusal as refusal:
            return JSONResponse(refusal.body(), refusal.status, refusal.headers)
        return response

    return endpoint


async def _not_found(request: Request, _: Exception) -> Response:
    paths = (
        "/v1/chat/completions, /v1/completions, /v1/messages, /v1/responses, /tokenize, /detokenize, "
        "/v1/requests/{id}/stop_thinking, /version, /v1/models, /health, /metrics"
    )
    refusal = Refusal(404, f"there is no {request.url.path} here. There are: {paths}.", code="unknown_path")
    return JSONResponse(refusal.body(), refusal.status)


async def _bug(request: Request, error: Exception) -> Response:
    log("bug", level=40, path=request.url.path, error=type(error).__name__)
    refusal = Refusal(500, "something is wrong in the server itself; its log says what.", code="bug")
    return JSONResponse(refusal.body(), 500)


async def _wrong_method(request: Request, error: Exception) -> Response:
    refusal = Refusal(405, f"{request.url.path} does not take {request.method}.", code="wrong_method")
    return JSONResponse(refusal.body(), 405, getattr(error, "headers", None))


def _model_card(server: Server, name: str | None = None) -> dict[str, Any]:
    return {
        "id": name or server.backend.model,
        "object": "model",
        "created": server.created,
        # Anthropic's names for the same.
        "type": "model",
        "display_name": name or server.backend.model,
        "created_at": datetime.fromtimestamp(server.created, UTC).isoformat(),
        "owned_by": "s1kit",
        "max_model_len": server.backend.context_tokens,
        "s1kit": {
            "thinking_format": server.backend.tokens.format.name,
            "wait": server.backend.tokens.format.wait,
            "closing_phrase": server.backend.tokens.format.closing_phrase,
            "reasoning_effort": dict(server.efforts),
            "default_thinking_token_budget": server.limits.default_budget,
            "features": sorted(server.backend.features),
            "examples": list(server.examples),
        },
    }


def _models(server: Server, _: Request) -> Response:
    names = (server.backend.model, *server.aliases)
    cards = [_model_card(server, name) for name in names]
    # OpenAI's list is whole; Anthropic's says so in pages.
    page = {"has_more": False, "first_id": names[0], "last_id": names[-1]}
    return JSONResponse({"object": "list", "data": cards} | page)


def _model(server: Server, request: Request) -> Response:
    if not request.path_params["model"]:
        return _models(server, request)
    check_model(server, request.path_params["model"])
    return JSONResponse(_model_card(server, request.path_params["model"]))


async def _health(server: Server, _: Request) -> Response:
    busy = {"running": server.admission.running, "waiting": server.admission.waiting}
    if server.is_draining:
        return JSONResponse({"status": "shutting down"} | busy, 503)
    trouble = await server.backend.check()
    return JSONResponse({"status": trouble or "ok", "model": server.backend.model} | busy, 503 if trouble else 200)


def _version(_: Server, __: Request) -> Response:
    return JSONResponse({"version": __version__})


def _metrics(server: Server, _: Request) -> Response:
    server.metrics.in_flight.set(server.admission.running)
    server.metrics.waiting.set(server.admission.waiting)
    return PlainTextResponse(server.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _openapi(server: Server, _: Request) -> Response:
    return JSONResponse(document((server.backend.model, *server.aliases)))


def _page(_: Server, __: Request) -> Response:
    return page.part("index.html")


def _page_part(_: Server, request: Request) -> Response:
    found = page.part(request.path_params["name"])
    if found.status_code == 404:
        raise Refusal(404, "there is no such part of the page.", code="unknown_path")
    return found
