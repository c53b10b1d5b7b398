"""One HTTP request to a provider: a reply with status 2xx, or a `Problem`.

It does not retry, wait, journal or count money; `client` does. The key goes with each request to the origin of the base
URL and nowhere else: not to a proxy, not after a redirect (none is followed), not to another scheme, host or port.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from s1kit.providers.bodies import error_message, parse_body
from s1kit.providers.chat import Assembler, Problem
from s1kit.providers.connections import Sending, certificates, open_session, origin, usable_proxy
from s1kit.providers.credentials import Credentials
from s1kit.providers.incoming import IncomingBody
from s1kit.providers.keys import Secret, SecretHeaders
from s1kit.providers.rate_limits import retry_after
from s1kit.providers.signs import kind_of_status

if TYPE_CHECKING:
    import aiohttp

MAX_BODY_BYTES = 2**28
"""A reply beyond this is an error, not a reason to run out of memory."""
SECONDS_TO_CONNECT = 30.0
FIRST_SECONDS_TO_CONNECT = 4.0
"""Before a server has answered once: a wrong address is to be named soon."""
SECONDS_FOR_THE_END = 1.0
"""After the last event of a stream: then the connection is given up."""
_JSON = {"Content-Type": "application/json"}
GATEWAY_TIMEOUTS = {408, 499, 504, 520, 524}
"""A gateway gave up waiting; the provider behind it may finish, and charge."""


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

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str],
        secret: Secret,
        timeout_seconds: float,
        credentials: Credentials | None = None,
        *,
        by_proxy: bool = True,
    ) -> None:
        self._base_url = base_url
        self._by_proxy = by_proxy
        self._credentials = credentials
        self._headers = SecretHeaders(headers)
        self._secret = secret
        self._timeout_seconds = timeout_seconds
        self._proxy: str | None = None
        self._has_answered = False
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Http:
        """Raises InputError for a proxy that cannot be used, or would see the key, and for a bad SSL_CERT_FILE."""
        if self._base_url.startswith("https"):
            certificates()
        if self._by_proxy:
            self._proxy = usable_proxy(self._base_url, has_key=bool(self._secret))
        if self._proxy is not None:
            password = urlsplit(self._proxy).password or ""
            self._secret = self._secret.also(password, unquote(password))
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
        """The text without the key, tokens, and the proxy's password."""
        return self._hidden.hide_in(text)

    @property
    def _hidden(self) -> Secret:
        """All that must not be shown: the key, and the tokens of an account as they are renewed."""
        return self._secret.also(*self._credentials.secrets) if self._credentials is not None else self._secret

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
        return await self._send("POST", path, body, _JSON)

    async def stream(self, path: str, body: bytes, assembler: Assembler) -> Answer:
        """JSON to a path that may answer with a stream; the answer is the body that the stream amounts to.

        Raises Problem with `partial` where the stream is cut after the model has begun to write.
        """
        incoming: IncomingBody | None = None
        sending = Sending()
        # Raised after the handler: an error of the network holds headers and the proxy's address, and would stay at it.
        problem: Problem | None = None
        try:
            async with await self._request("POST", path, body, _JSON, sending) as response:
                seen = _lower(response.headers)
                is_good = 200 <= response.status < 300
                incoming = IncomingBody(assembler, seen.get("content-type", ""), may_stream=is_good)
                async for piece in _pieces(response):
                    if incoming.feed(piece):
                        await _read_out(response)
                        break
        except Exception as error:  # noqa: BLE001 - raised again where it is no problem of the network
            problem = self._problem_of(error, sending)
        if problem is not None:
            if incoming is None:
                raise problem
            return self._in_spite_of(problem, incoming, seen, is_good=is_good)
        assert incoming is not None
        self._has_answered = True
        if not is_good:
            raise self._problem(response.status, incoming.raw, seen)
        incoming.end()
        return self._streamed(incoming, seen)

    def _in_spite_of(
        self, problem: Problem, incoming: IncomingBody, seen: Mapping[str, str], *, is_good: bool
    ) -> Answer:
        """The answer where it lacks nothing but the end that the server announced. Raises the problem otherwise."""
        raw = self._hidden.hide_in_bytes(incoming.raw)
        if is_good and not incoming.has_events and (whole := parse_body(raw)) is not None:
            return Answer(whole, raw, seen)
        if is_good and incoming.is_whole:
            self._has_answered = True
            return self._streamed(incoming, seen)
        problem.partial, problem.raw = self._without_key(incoming.partial), problem.raw or raw
        raise problem

    def _streamed(self, incoming: IncomingBody, seen: Mapping[str, str]) -> Answer:
        """The answer that a body amounts to. Raises Problem for a stream that lacks a part of it."""
        if not incoming.has_events:  # a server that does not stream, or a page of a proxy
            raw = self._hidden.hide_in_bytes(incoming.raw)
        elif not incoming.is_whole:
            text = "the stream ended before the reply was whole"
            raise Problem("connection", text, may_be_charged=True, partial=self._without_key(incoming.partial))
        else:
            raw = self._hidden.hide_in_bytes(to_json(incoming.assembled))
        return Answer(parse_body(raw), raw, seen)

    def _without_key(self, partial: dict[str, Any] | None) -> dict[str, Any] | None:
        return None if partial is None else parse_body(self._hidden.hide_in_bytes(to_json(partial)))

    async def get(self, path: str) -> Answer:
        return await self._send("GET", path, None, {})

    async def send(self, method: str, path: str, data: bytes, headers: Mapping[str, str]) -> Answer:
        """Raises Problem for everything that is not a whole reply with status 2xx."""
        return await self._send(method, path, data, headers)

    async def lines(self, path: str) -> AsyncIterator[bytes]:
        """The lines of a large body, the key hidden, a piece in memory at a time. Raises Problem as `send` does."""
        rest = b""
        sending = Sending()
        problem: Problem | None = None
        try:
            async with await self._request("GET", path, None, {}, sending) as response:
                if not 200 <= response.status < 300:
                    raw = b"".join([piece async for piece in _pieces(response)])
                    raise self._problem(response.status, raw, _lower(response.headers))
                async for piece in response.content.iter_any():
                    *whole, rest = (rest + piece).split(b"\n")
                    for line in whole:
                        yield self._hidden.hide_in_bytes(line)
                    if len(rest) > MAX_BODY_BYTES:
                        raise Problem("server", f"a line of the results is longer than {MAX_BODY_BYTES >> 20} MiB")
        except Exception as error:  # noqa: BLE001 - raised again where it is no problem of the network
            problem = self._problem_of(error, sending)
        if problem is not None:
            raise problem
        if rest.strip():
            yield self._hidden.hide_in_bytes(rest)

    async def _send(self, method: str, path: str, data: Any, headers: Mapping[str, str]) -> Answer:
        sending = Sending()
        problem: Problem | None = None
        try:
            async with await self._request(method, path, data, headers, sending) as response:
                raw = b"".join([piece async for piece in _pieces(response)])
        except Exception as error:  # noqa: BLE001 - raised again where it is no problem of the network
            problem = self._problem_of(error, sending)
        if problem is not None:
            raise problem
        self._has_answered = True
        seen = _lower(response.headers)
        if not 200 <= response.status < 300:
            raise self._problem(response.status, raw, seen)
        raw = self._hidden.hide_in_bytes(raw)
        return Answer(parse_body(raw), raw, seen)

    async def connect(self) -> None:
        """Open a connection, with TLS and through the proxy where there is one. Raises Problem when that fails.

        What is sent over it is at most the head of a request for nothing, without a key.
        """
        from aiohttp import TraceConfig

        opened, trace = asyncio.Event(), TraceConfig()

        async def note(*_: object) -> None:
            opened.set()

        trace.on_connection_create_end.append(note)
        self._session = open_session(self._base_url, [trace])
        asking = asyncio.create_task(self._send("HEAD", "/", None, {}))
        waiting = asyncio.create_task(opened.wait())
        try:
            await asyncio.wait([asking, waiting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (asking, waiting):
                task.cancel()
            _, failed = await asyncio.gather(waiting, asking, return_exceptions=True)
        if not opened.is_set() and isinstance(failed, Exception):
            raise failed

    async def _request(
        self, method: str, path: str, data: Any, headers: Mapping[str, str], sending: Sending
    ) -> aiohttp.client._RequestContextManager:
        url = path if "://" in path else self._base_url + path
        if not path.startswith("/") and origin(url) != origin(self._base_url):
            raise Problem("server", f"the provider points to another host, {urlsplit(url).netloc}")
        from yarl import URL

        target: str | URL = url
        if self._credentials is not None:
            body = data if isinstance(data, bytes) else b""
            headers = {**headers, **await self._credentials.headers(method, url, body)}
            target = URL(url, encoded=True)  # as it was signed
        connect = SECONDS_TO_CONNECT if self._has_answered else FIRST_SECONDS_TO_CONNECT
        return self._open_session().request(
            method,
            target,
            data=sending.body(data) if isinstance(data, bytes) else data,
            headers=SecretHeaders({**self._headers, **headers}),
            allow_redirects=False,
            proxy=self._proxy,
            proxy_headers={},
            timeout=_timeout(self._timeout_seconds, connect),
        )

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = open_session(self._base_url)
        return self._session

    def _problem_of(self, error: Exception, sending: Sending) -> Problem:
        """What went wrong on the way, as a Problem. Raises the error itself where it is none of the network's."""
        import aiohttp

        match error:
            case Problem():
                return error
            case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
                return Problem("certificate", self.hide(str(error))[:500])
            case aiohttp.ClientConnectorError():
                return Problem("unreachable", self.hide(str(error))[:500])
            case aiohttp.ClientHttpProxyError():
                text = self.hide(f"the proxy answered {error.status} {error.message}")[:500]
                return Problem("proxy" if error.status in (401, 403, 407) else "connection", text)
            case TimeoutError():
                text = f"no reply within {self._timeout_seconds:g} s" if sending.has_begun else "no connection in time"
                return Problem("timeout", text, may_be_charged=sending.has_begun)
            case OSError() | aiohttp.ClientError() | ValueError():
                text = self.hide(f"{type(error).__name__}: {error}")[:500]
                return Problem("connection", text, may_be_charged=sending.has_begun)
        raise error

    def _problem(self, status: int, raw: bytes, headers: Mapping[str, str]) -> Problem:
        body = parse_body(raw)
        text = raw[:100_000].decode("utf-8", "replace")
        if 300 <= status < 400:
            target = urlsplit(headers.get("location", "")).netloc
            text = f"the server redirects to {target or 'another path'}; redirects are not followed"
        # Hidden before it is cut: a key across the cut would show its first half.
        text = " ".join(self.hide(error_message(body) or text).split())[:500] or "no explanation"
        wait = retry_after(headers, body)
        return Problem(
            kind_of_status(status, body, text, wait),
            text,
            status=status,
            retry_after=wait,
            may_be_charged=status in GATEWAY_TIMEOUTS,
            raw=self._hidden.hide_in_bytes(raw),
        )


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The body as it comes. Raises Problem when it is longer than any reply."""
    size = 0
    while piece := await response.content.readany():
        size += len(piece)
        if size > MAX_BODY_BYTES:
            raise Problem("server", f"the reply is longer than {MAX_BODY_BYTES >> 20} MiB", status=response.status)
        yield piece


async def _read_out(response: aiohttp.ClientResponse) -> None:
    """What follows the last event: the end of the body, after which the connection is used again, or nothing at all."""
    with suppress(TimeoutError):
        async with asyncio.timeout(SECONDS_FOR_THE_END):
            async for _ in _pieces(response):
                pass


@cache
def _timeout(total: float, connect: float) -> aiohttp.ClientTimeout:
    """The time limits of a request: for connecting and for the whole; none for silence, in which a model may think."""
    import aiohttp

    return aiohttp.ClientTimeout(total=total, connect=connect)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def to_json(value: Any) -> bytes:
    """JSON in UTF-8; a text with lone surrogates, which UTF-8 cannot hold, is escaped instead."""
    try:
        return json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value).encode("ascii")
