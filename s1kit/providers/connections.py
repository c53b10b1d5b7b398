"""How a provider is reached: proxies, TLS, name look-ups, and connections that stay open while a model thinks."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from inspect import signature
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from s1kit.errors import InputError

if TYPE_CHECKING:
    import aiohttp

KEEPALIVE_SECONDS = 30
"""A model may think for ten minutes without a byte; TCP keep-alive keeps firewalls and NATs from forgetting it."""
_PORTS = {"http": 80, "https": 443}


def open_session(base_url: str, traces: Sequence[aiohttp.TraceConfig] = ()) -> aiohttp.ClientSession:
    """Connections for one origin, with no headers of the session's own: aiohttp would send those to the proxy too."""
    import aiohttp

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0,
            ssl=certificates() if base_url.startswith("https") else True,
            socket_factory=_socket_with_keepalive,
            resolver=aiohttp.ThreadedResolver(cast(Any, _Lookup())),
        ),
        auto_decompress=True,
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=list(traces),
        **_lengths(),
    )


MAX_HEADER_BYTES = 2**17
"""One line of a reply's head; policies and cookies of gateways are long, and aiohttp's own limit is 8 KiB."""


@cache
def _lengths() -> dict[str, Any]:
    """The limits of a reply's head, as far as this aiohttp has them."""
    import aiohttp

    known = signature(aiohttp.ClientSession.__init__).parameters
    limits = {"max_line_size": MAX_HEADER_BYTES, "max_field_size": MAX_HEADER_BYTES, "max_headers": 1000}
    return {name: limit for name, limit in limits.items() if name in known}


class Sending:
    """Whether a request's body was written to its connection: from then on it may be charged."""

    __slots__ = ("has_begun",)

    def __init__(self) -> None:
        self.has_begun = False

    def body(self, data: bytes) -> Any:
        """The data as a body that says when it is written."""
        return _noting_payload()(data, self)


@cache
def _noting_payload() -> Any:
    # aiohttp's tracing tells it too, at the price of a dozen objects a request.
    from aiohttp.payload import BytesPayload

    class NotingPayload(BytesPayload):
        def __init__(self, data: bytes, sending: Sending) -> None:
            super().__init__(data)
            self._sending = sending

        async def write(self, writer: Any) -> None:
            self._sending.has_begun = True
            await super().write(writer)

        async def write_with_length(self, writer: Any, content_length: int | None) -> None:
            self._sending.has_begun = True
            await super().write_with_length(writer, content_length)

    return NotingPayload


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of a URL."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    return parts.scheme, (parts.hostname or "").lower(), port or _PORTS.get(parts.scheme)


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for an address: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY but not NO_PROXY.

    Raises InputError for a proxy that is not an http(s) URL. An address of this machine is reached directly.
    """
    scheme, host, port = origin(url)
    if host in ("localhost", "::1") or host.startswith("127."):
        return None
    if proxy_bypass(host) or proxy_bypass(f"{host}:{port}"):
        return None
    proxies = getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy:
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    if urlsplit(proxy).scheme not in ("http", "https") or not urlsplit(proxy).hostname:
        shown = proxy.rpartition("@")[2]
        raise InputError(
            f"the proxy {shown!r} cannot be used",
            where=f"{scheme.upper()}_PROXY",
            fix="Name an http or https proxy, for example http://proxy.example:3128.",
        )
    return proxy


def usable_proxy(base_url: str, *, has_key: bool) -> str | None:
    """The proxy for requests to a base URL. Raises InputError for one that would see the key, too."""
    proxy = proxy_for(base_url)
    if proxy is not None and has_key and base_url.startswith("http://"):
        raise InputError(
            f"the proxy for http://{urlsplit(base_url).netloc} would see the key, because the base URL is not https",
            where="distill.base_url",
            fix="Use an https URL, or put the host into NO_PROXY.",
        )
    return proxy


class _Lookup:
    """Name look-ups in threads that nobody waits for: a resolver may be silent for a minute, and the event loop's own
    threads are joined when it closes."""

    async def getaddrinfo(self, *where: Any, **options: Any) -> Any:
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Any] = loop.create_future()

        def settle(result: Any, error: OSError | None) -> None:
            if not found.done():
                found.set_exception(error) if error else found.set_result(result)

        def look_up() -> None:
            result, problem = None, None
            try:
                result = socket.getaddrinfo(*where, **options)
            except OSError as error:
                problem = error
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(settle, result, problem)

        threading.Thread(target=look_up, name="resolver", daemon=True).start()
        return await found

    async def getnameinfo(self, *where: Any) -> Any:
        return await asyncio.get_running_loop().getnameinfo(*where)


def _socket_with_keepalive(address: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), KEEPALIVE_SECONDS)
    return made


def certificates() -> ssl.SSLContext:
    """The trusted certificates: of the file in SSL_CERT_FILE, else certifi's, else the system's. Raises InputError."""
    if named := os.environ.get("SSL_CERT_FILE"):
        try:
            return ssl.create_default_context(cafile=named)
        except (OSError, ssl.SSLError) as error:  # OpenSSL itself would pass over it and trust nobody
            raise InputError(
                f"the certificates in {named} cannot be read: {error.strerror or error}",
                where="SSL_CERT_FILE",
                fix="Name a readable file of certificates in PEM, or unset it.",
            ) from error
    # Some Pythons come without certificates; certifi is there wherever httpx is.
    if find_spec("certifi") is not None:
        import certifi

        return ssl.create_default_context(cafile=certifi.where())
    return ssl.create_default_context()
