"""One HTTP request to a provider: a reply with status 2xx, or a `Problem`.

It does not retry, wait, journal or count money; `client` does. The key goes with each request to the origin of the base
URL and nowhere else: not to a proxy, not after a redirect (none is followed), not to another scheme, host or port.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from s1kit.errors import InputError
from s1kit.providers.chat import Problem
from s1kit.providers.classify import error_message, kind_of_status, parse_body, retry_after
from s1kit.providers.keys import Secret

if TYPE_CHECKING:
    import aiohttp

MAX_BODY_BYTES = 2**28
"""A reply beyond this is an error, not a reason to run out of memory."""
SECONDS_TO_CONNECT = 30.0
FIRST_SECONDS_TO_CONNECT = 4.0
"""Before a server has answered once: a wrong address is to be named soon."""
KEEPALIVE_SECONDS = 30
"""A model may think for ten minutes without a byte; TCP keep-alive keeps firewalls and NATs from forgetting it."""
GATEWAY_TIMEOUTS = {408, 499, 504, 520, 524}
"""A gateway gave up waiting; the provider behind it may finish, and charge."""
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Answer:
    """A reply with status 2xx."""

    body: dict[str, Any] | None
    """None when the body is no JSON object."""
    raw: bytes
    """As it came, with the key hidden."""
    headers: Mapping[str, str]
    """Names in lower case."""


class Http:
    """Connections to one provider, kept open. An async context manager."""

    def __init__(self, base_url: str, headers: Mapping[str, str], secret: Secret, timeout_seconds: float) -> None:
        self._base_url = base_url
        self._headers = dict(headers)
        self._secret = secret
        self._timeout_seconds = timeout_seconds
        self._proxy: str | None = None
        self._has_answered = False
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Http:
        """Raises InputError for a proxy that cannot be used, or that would see the key."""
        self._proxy = proxy_for(self._base_url)
        if self._proxy is not None:
            password = urlsplit(self._proxy).password or ""
            self._secret = self._secret.also(password, unquote(password))
            if self._base_url.startswith("http://") and self._secret:
                raise InputError(
                    f"the proxy for {self.root} would see the key, because the base URL is not https",
                    where="distill.base_url",
                    fix="Use an https URL, or put the host into NO_PROXY.",
                )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def root(self) -> str:
        """Scheme and host, without the path."""
        scheme, _, rest = self._base_url.partition("://")
        return f"{scheme}://{rest.partition('/')[0]}"

    def hide(self, text: str) -> str:
        """The text without the key and the proxy's password."""
        return self._secret.hide_in(text)

    async def upload(self, path: str, fields: Mapping[str, str], name: str, data: bytes) -> Answer:
        """A file and fields as multipart/form-data."""
        import aiohttp

        form = aiohttp.FormData()
        for field, value in fields.items():
            form.add_field(field, value)
        form.add_field("file", data, filename=name, content_type="application/jsonl")
        return await self._send("POST", path, form, {})

    async def post(self, path: str, body: bytes) -> Answer:
        """JSON to a path below the base URL."""
        return await self._send("POST", path, body, {"Content-Type": "application/json"})

    async def get(self, path: str) -> Answer:
        return await self._send("GET", path, None, {})

    async def send(self, method: str, path: str, data: bytes, headers: Mapping[str, str]) -> Answer:
        """Raises Problem for everything that is not a whole reply with status 2xx."""
        return await self._send(method, path, data, headers)

    async def lines(self, path: str) -> AsyncIterator[bytes]:
        """The lines of a large body, a piece in memory at a time. Raises Problem as `send` does."""
        rest = b""
        trace = SimpleNamespace(was_sent=False)
        with self._problems(trace):
            async with self._request("GET", path, None, {}, trace) as response:
                if not 200 <= response.status < 300:
                    raw = await response.read()
                    raise self._problem(response.status, raw, _lower(response.headers))
                async for piece in response.content.iter_any():
                    *whole, rest = (rest + piece).split(b"\n")
                    for line in whole:
                        yield line
        if rest.strip():
            yield rest

    async def _send(self, method: str, path: str, data: Any, headers: Mapping[str, str]) -> Answer:
        trace = SimpleNamespace(was_sent=False)
        with self._problems(trace):
            async with self._request(method, path, data, headers, trace) as response:
                raw = await self._read(response)
        self._has_answered = True
        seen = _lower(response.headers)
        if not 200 <= response.status < 300:
            raise self._problem(response.status, raw, seen)
        raw = self._secret.hide_in_bytes(raw)
        return Answer(parse_body(raw), raw, seen)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        pieces, size = [], 0
        async for piece in response.content.iter_any():
            pieces.append(piece)
            size += len(piece)
            if size > MAX_BODY_BYTES:
                raise Problem("server", f"the reply is longer than {MAX_BODY_BYTES >> 20} MiB", status=response.status)
        return b"".join(pieces)

    def _request(
        self, method: str, path: str, data: Any, headers: Mapping[str, str], trace: SimpleNamespace
    ) -> aiohttp.client._RequestContextManager:
        url = path if "://" in path else self._base_url + path
        if origin(url) != origin(self._base_url):
            raise Problem("server", f"the provider points to another host, {urlsplit(url).netloc}")
        import aiohttp

        connect = SECONDS_TO_CONNECT if self._has_answered else FIRST_SECONDS_TO_CONNECT
        return self._open_session().request(
            method,
            url,
            data=data,
            headers={**self._headers, **headers},
            allow_redirects=False,
            proxy=self._proxy,
            proxy_headers={},
            # A model thinks for minutes without a byte; only the whole has a limit.
            timeout=aiohttp.ClientTimeout(total=self._timeout_seconds, connect=connect),
            trace_request_ctx=trace,
        )

    def _open_session(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:

            async def was_sent(_: Any, context: Any, __: Any) -> None:
                context.trace_request_ctx.was_sent = True

            tracing = aiohttp.TraceConfig()
            tracing.on_request_headers_sent.append(was_sent)
            # No headers of the session's own: aiohttp would send those to the proxy too.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,
                    ssl=_tls() if self._base_url.startswith("https") else True,
                    socket_factory=_socket_with_keepalive,
                    resolver=aiohttp.ThreadedResolver(cast(Any, _Lookup())),
                ),
                auto_decompress=True,
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[tracing],
            )
        return self._session

    @contextmanager
    def _problems(self, trace: SimpleNamespace) -> Iterator[None]:
        """What goes wrong on the way, as a Problem."""
        import aiohttp

        try:
            yield
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise Problem("certificate", self.hide(str(error))[:500]) from None
        except aiohttp.ClientConnectorError as error:
            raise Problem("unreachable", self.hide(str(error))[:500]) from None
        except aiohttp.ClientHttpProxyError as error:
            text = f"the proxy answered {error.status} {error.message}"
            raise Problem("proxy" if error.status in (401, 403, 407) else "connection", self.hide(text)[:500]) from None
        except TimeoutError:
            text = f"no reply within {self._timeout_seconds:g} s" if trace.was_sent else "no connection in time"
            raise Problem("timeout", text, may_be_charged=trace.was_sent) from None
        except (OSError, aiohttp.ClientError, ValueError) as error:
            text = self.hide(f"{type(error).__name__}: {error}")[:500]
            raise Problem("connection", text, may_be_charged=trace.was_sent) from None

    def _problem(self, status: int, raw: bytes, headers: Mapping[str, str]) -> Problem:
        body = parse_body(raw)
        text = raw[:100_000].decode("utf-8", "replace")
        if 300 <= status < 400:
            target = urlsplit(headers.get("location", "")).netloc
            text = f"the server redirects to {target or 'another path'}; redirects are not followed"
        # Hidden before it is cut: a key across the cut would show its first half.
        text = " ".join(self.hide(error_message(body) or text).split())[:500] or "no explanation"
        return Problem(
            kind_of_status(status, body, text),
            text,
            status=status,
            retry_after=retry_after(headers, body),
            may_be_charged=status in GATEWAY_TIMEOUTS,
        )


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


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _socket_with_keepalive(address: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), KEEPALIVE_SECONDS)
    return made


def _tls() -> ssl.SSLContext:
    # Some Pythons come without certificates; certifi is there wherever httpx is.
    if find_spec("certifi") is not None and "SSL_CERT_FILE" not in os.environ:
        import certifi

        return ssl.create_default_context(cafile=certifi.where())
    return ssl.create_default_context()


def to_json(value: Any) -> bytes:
    """JSON in UTF-8; a text with lone surrogates, which UTF-8 cannot hold, is escaped instead."""
    try:
        return json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value).encode("ascii")
