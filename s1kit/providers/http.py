"""One HTTP request to a provider: a reply, or a `Problem` that says whether asking again can help.

It does not retry, wait, journal or count money; `client` does.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from s1kit.providers.chat import Problem, ProblemKind
from s1kit.providers.connection import Connections
from s1kit.providers.keys import Secret
from s1kit.providers.limit_headers import seconds_in

if TYPE_CHECKING:
    import aiohttp


@dataclass(frozen=True)
class Answer:
    """A reply with status 2xx."""

    body: dict[str, Any] | None
    """None when the body is no JSON object."""
    raw: bytes
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
        self._tls: ssl.SSLContext | None = None
        self._connections: Connections | None = None
        """None where a proxy is in between."""
        self._session: aiohttp.ClientSession | None = None
        """For what `Connections` leaves out; opened when there is some."""

    async def __aenter__(self) -> Http:
        # `trust_env` of aiohttp would look for proxies and a .netrc in a thread, twice a request.
        self._proxy = _proxy(self._base_url)
        self._tls = _tls() if self._base_url.startswith("https") else None
        if self._proxy is None:
            self._connections = Connections(self.root, self._headers, self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connections is not None:
            self._connections.close()
            self._connections = None
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def root(self) -> str:
        """Scheme and host, without the path."""
        scheme, _, rest = self._base_url.partition("://")
        return f"{scheme}://{rest.partition('/')[0]}"

    async def upload(self, path: str, fields: Mapping[str, str], name: str, data: bytes) -> Answer:
        """A file and fields as multipart/form-data."""
        import aiohttp

        form = aiohttp.FormData()
        for field, value in fields.items():
            form.add_field(field, value)
        form.add_field("file", data, filename=name, content_type="application/jsonl")
        return await self._send_by_aiohttp("POST", self._base_url + path, form, {})

    async def post(self, path: str, body: bytes, on_arrival: Callable[[], None] | None = None) -> Answer:
        """JSON to a path below the base URL. `on_arrival` is called as soon as a reply with status 2xx is whole."""
        return await self.send("POST", path, body, _JSON, on_arrival)

    async def get(self, path: str) -> Answer:
        return await self.send("GET", path, b"", {})

    async def send(
        self,
        method: str,
        path: str,
        data: bytes,
        headers: Mapping[str, str],
        on_arrival: Callable[[], None] | None = None,
    ) -> Answer:
        """Raises Problem for everything that is not a whole reply with status 2xx."""
        url = path if "://" in path else self._base_url + path
        if self._connections is None or not url.startswith(self.root + "/"):
            return await self._send_by_aiohttp(method, url, data, headers)
        with self._problems():
            async with asyncio.timeout(self._timeout_seconds):
                status, seen, raw = await self._connections.request(
                    method, url[len(self.root) :], data, headers, on_arrival
                )
        return self._answer(status, raw, seen)

    async def _send_by_aiohttp(self, method: str, url: str, data: Any, headers: Mapping[str, str]) -> Answer:
        with self._problems():
            async with self._open_session().request(
                method, url, data=data, headers=headers, allow_redirects=method == "GET"
            ) as response:
                raw = await response.read()
        return self._answer(response.status, raw, _lower(response.headers))

    def _open_session(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=self._tls or True),
                headers=self._headers,
                # A model thinks for minutes without a byte; only the whole has a limit.
                timeout=aiohttp.ClientTimeout(total=self._timeout_seconds, sock_connect=30.0),
                proxy=self._proxy,
                auto_decompress=True,
            )
        return self._session

    @contextmanager
    def _problems(self) -> Iterator[None]:
        """What goes wrong on the way, as a Problem. aiohttp's own errors are known only once it is imported."""
        aiohttp = sys.modules.get("aiohttp")
        faults = (OSError, aiohttp.ClientError) if aiohttp is not None else (OSError,)
        try:
            yield
        except TimeoutError as error:
            raise Problem("timeout", f"no reply within {self._timeout_seconds:g} s") from error
        except faults as error:
            raise Problem("connection", self._hide(f"{type(error).__name__}: {error}")) from error

    async def lines(self, path: str) -> AsyncIterator[bytes]:
        """The lines of a large body, a piece in memory at a time. Raises Problem as `send` does."""
        url = path if "://" in path else self._base_url + path
        rest = b""
        with self._problems():
            async with self._open_session().get(url) as response:
                if not 200 <= response.status < 300:
                    raw = await response.read()
                    raise self._problem(response.status, _parse(raw), raw, _lower(response.headers))
                async for piece in response.content.iter_any():
                    *whole, rest = (rest + piece).split(b"\n")
                    for line in whole:
                        yield line
        if rest.strip():
            yield rest

    def _answer(self, status: int, raw: bytes, headers: Mapping[str, str]) -> Answer:
        parsed = _parse(raw)
        if 200 <= status < 300:
            return Answer(parsed, raw, headers)
        raise self._problem(status, parsed, raw, headers)

    def _problem(self, status: int, body: Any, raw: bytes, headers: Mapping[str, str]) -> Problem:
        text = _message(body) or " ".join(raw[:300].decode("utf-8", "replace").split()) or "no explanation"
        return Problem(
            problem_kind(status, body), self._hide(text)[:500], status=status, retry_after=retry_after(headers, body)
        )

    def _hide(self, text: str) -> str:
        return self._secret.hide_in(text)


_JSON = {"Content-Type": "application/json"}


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def to_json(value: Any) -> bytes:
    """JSON in UTF-8; a text with lone surrogates, which UTF-8 cannot hold, is escaped instead."""
    try:
        return json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value).encode("ascii")


def problem_kind(status: int, body: Any) -> ProblemKind:
    """What a status says about asking again.

    Retriable: 408, 409, 425, 429 and 5xx. An empty account is told by OpenAI as 429 and cannot be waited out; a wrong
    key is told by Gemini as 400.
    """
    code = json.dumps(body)[:4000] if body is not None else ""
    match status:
        case 403 if "flagged" in code:  # OpenRouter: this question, not this key
            return "request"
        case 401 | 403 | 407:
            return "key"
        case 402:
            return "credit"
        case 404:
            return "model"
        case 429:
            return "credit" if "insufficient_quota" in code else "rate"
        case 408:
            return "timeout"
        case 409 | 425:
            return "server"
        case 400 if "API_KEY_INVALID" in code or "API key not valid" in code:
            return "key"
        case _ if status >= 500:
            return "server"
        case _ if 300 <= status < 400:
            return "model"
        case _:
            return "request"


def retry_after(headers: Mapping[str, str], body: Any) -> float | None:
    """Seconds a server asks to wait: `retry-after-ms`, `Retry-After` (seconds or a date), or Gemini's RetryInfo."""
    if (text := headers.get("retry-after-ms")) and (milliseconds := seconds_in(text)) is not None:
        return milliseconds / 1000.0
    if text := headers.get("retry-after", "").strip():
        if (seconds := seconds_in(text)) is not None:
            return seconds
        try:
            return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
        except (ValueError, TypeError):
            return None
    error = body.get("error") if isinstance(body, dict) else None
    for detail in (error.get("details") or []) if isinstance(error, dict) else []:
        if isinstance(detail, dict) and isinstance(detail.get("retryDelay"), str):
            return seconds_in(detail["retryDelay"])
    return None


def _parse(raw: bytes) -> Any:
    try:
        try:
            value = json.loads(raw.decode("utf-8"))
        except ValueError:  # UTF-16, a byte order mark, lone surrogates: `loads` knows them, but takes twice as long
            value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    # Gemini and some gateways wrap an error into a list of one.
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, dict) else None


def _message(body: Any) -> str:
    error = body.get("error", body) if isinstance(body, dict) else None
    if isinstance(error, str):
        return error
    if isinstance(error, dict):
        for name in ("message", "detail", "msg"):
            if isinstance(error.get(name), str):
                return str(error[name])
    return ""


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for an address."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)


def _tls() -> ssl.SSLContext:
    # Some Pythons come without certificates; certifi is there wherever httpx is.
    if find_spec("certifi") is not None and "SSL_CERT_FILE" not in os.environ:
        import certifi

        return ssl.create_default_context(cafile=certifi.where())
    return ssl.create_default_context()
