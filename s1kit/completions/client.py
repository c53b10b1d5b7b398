"""HTTP transport to one completions server.

Waiting has deadlines of our own: a socket timeout is reset by every byte (pings, empty deltas, a header a second) and
does not fire at all where the HTTP library waits on a malformed chunk. So `silent_seconds` bounds each wait for a
*token*, whatever else arrives.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import aiohttp

from s1kit.completions.failure import FailureKind, ServerFailed
from s1kit.completions.stream import MAX_EVENT_BYTES, Chunk, StreamReader, read_reply

_STATUSES: dict[int, tuple[FailureKind, str]] = {
    400: ("refused", "refuses the request"),
    413: ("refused", "refuses the request"),
    422: ("refused", "refuses the request"),
    401: ("unauthorised", "does not accept the key that it was given"),
    403: ("unauthorised", "does not accept the key that it was given"),
    404: ("unknown_model", "does not know the model or has no /v1/completions"),
    429: ("full", "is full"),
    503: ("full", "is full or not ready"),
    529: ("full", "is full or not ready"),
}

_CONNECT_SECONDS = 10.0
_DRAIN_SECONDS = 1.0
_DRAIN_READS = 8


class CompletionsServer:
    """An OpenAI-style server at a base URL, with or without `/v1` at its end."""

    def __init__(self, url: str, key: str | None = None, silent_seconds: float = 60.0) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self.silent_seconds = silent_seconds
        self._key = key
        self._session: aiohttp.ClientSession | None = None
        self._draining: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Close all connections, those of abandoned streams included."""
        for task in tuple(self._draining):
            task.cancel()
        await asyncio.gather(*self._draining, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, path: str, seconds: float = 10.0) -> bytes:
        """GET a small document; returns its body. Raises ServerFailed."""
        with self._failures(seconds):
            async with (
                asyncio.timeout(seconds),
                self._get_session().get(self.url + path, headers=self._headers, allow_redirects=False) as response,
            ):
                if response.status != 200:
                    raise await self._status_failure(response, f" at {path}")
                return await _read_all(response)

    async def get_json(self, path: str) -> Any:
        """GET a small JSON document. Raises ServerFailed."""
        return self._json(await self.get(path))

    async def complete(self, body: Mapping[str, Any]) -> Any:
        """POST a completion that is not streamed; returns its JSON. Raises ServerFailed."""
        with self._failures(self.silent_seconds):
            async with asyncio.timeout(self.silent_seconds), await self._post(body) as response:
                if response.status != 200:
                    raise await self._status_failure(response)
                return self._json(await _read_all(response))

    async def stream(self, body: Mapping[str, Any], in_events: bool = True) -> AsyncGenerator[Chunk, None]:
        """The chunks of one completion; the last has a `finish`. Closing the iterator closes the connection.

        `in_events`: False asks for one JSON object, which is one chunk; a server that answers so where events were
        asked for is understood too. Raises ServerFailed.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.silent_seconds
        with self._failures(self.silent_seconds), ExitStack() as stack:
            is_over = False
            async with asyncio.timeout_at(deadline):
                response = await self._post({**body, "stream": True} if in_events else body)
                stack.callback(lambda: self._let_go(response, is_over))
                if response.status != 200:
                    raise await self._status_failure(response)
                if response.content_type != "text/event-stream":
                    chunk = await self._read_whole(response)
                    is_over = True
            if is_over:
                yield chunk
                return
            reader, content = StreamReader(), response.content
            silence = stack.enter_context(closing(_Silence(loop, content, deadline, self.silent_seconds)))
            while not is_over:
                data = await content.readany()
                chunk = reader.feed(data) if data else reader.end()
                is_over = chunk.finish is not None
                if chunk.text or chunk.ids or is_over:  # and not a ping, usage or an empty delta
                    silence.deadline = math.inf
                    yield chunk
                    silence.deadline = loop.time() + self.silent_seconds
                elif loop.time() > silence.deadline:
                    raise TimeoutError
                if (reader.is_done or not data) and not is_over:
                    raise ServerFailed("died", f"the server {self.url} ended the stream before the completion did")

    @contextmanager
    def _failures(self, seconds: float) -> Iterator[None]:
        """Turn what is raised into ServerFailed with the server's name; `seconds`: the longest wait."""
        try:
            yield
        except ServerFailed as failure:
            raise self.named(failure) from failure.__cause__
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._failure(error, seconds) from error

    def _let_go(self, response: aiohttp.ClientResponse, is_over: bool) -> None:
        """Keep the connection of a completion that is over, and close that of one that is left."""
        if not is_over:
            response.close()
        elif response.content.at_eof():
            response.release()
        else:
            # What follows (usage, [DONE]) must be read before the connection can be used again; nobody waits for it.
            task = asyncio.ensure_future(_drain(response))
            self._draining.add(task)
            task.add_done_callback(lambda done: self._drained(done, response))

    def _drained(self, task: asyncio.Task[None], response: aiohttp.ClientResponse) -> None:
        # Also of a task that was cancelled before it began. Does nothing after a release.
        response.close()
        self._draining.discard(task)

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"} if self._key else {}

    def _get_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
                read_bufsize=1 << 18,
                # A redirect or a cookie from an inference server is a mistake; environment proxies would be a surprise.
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def _post(self, body: Mapping[str, Any]) -> aiohttp.ClientResponse:
        data, url = json.dumps(body).encode(), self.url + "/v1/completions"
        headers = self._headers | {"Content-Type": "application/json", "Accept": "text/event-stream"}
        try:
            return await self._get_session().post(url, data=data, headers=headers, allow_redirects=False)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            # A kept connection that the server has closed in the meantime looks like this; nothing was decoded yet.
            return await self._get_session().post(url, data=data, headers=headers, allow_redirects=False)

    async def _read_whole(self, response: aiohttp.ClientResponse) -> Chunk:
        """The chunk of a reply that came as one body: JSON, or events of another content type. Raises ServerFailed."""
        kind, chunk = response.content_type, Chunk()
        body = await _read_all(response)
        if body.removeprefix(b"\xef\xbb\xbf").startswith((b"data:", b"event:", b":")):
            # Events that a proxy gave another content type.
            chunk = StreamReader().feed(body + b"\n\n")
            if chunk.finish is None:
                raise ServerFailed("died", f"the server {self.url} ended the stream before the completion did")
            return chunk
        try:
            found = self._json(body)
        except ServerFailed as failure:
            what = f"the server {self.url} sent {kind}, neither an event stream nor JSON"
            raise ServerFailed("nonsense", what, said=failure.said) from failure
        read_reply(found, chunk)
        if chunk.finish is None:
            said = self._shown(body)
            raise ServerFailed("nonsense", f"the server {self.url} sent a reply that is no completion", said=said)
        return chunk

    async def _status_failure(self, response: aiohttp.ClientResponse, at: str = "") -> ServerFailed:
        status = response.status
        try:
            said = self._scrubbed(error_message((await response.content.read(2000)).decode("utf-8", "replace")))
        except aiohttp.ClientError:
            said = ""
        response.close()
        kind, what = _STATUSES.get(status, ("failed", "failed"))
        retry = response.headers.get("Retry-After", "")
        return ServerFailed(
            kind,
            f"the server {self.url} {what} (status {status}{at})" + (f": {said}" if kind == "refused" else ""),
            said=said,
            retry_seconds=int(retry) if retry.isascii() and retry.isdigit() and len(retry) < 6 else None,
        )

    def _json(self, body: bytes) -> Any:
        try:
            return json.loads(body.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise ServerFailed(
                "nonsense", f"the server {self.url} did not answer with JSON", said=self._shown(body)
            ) from error

    def named(self, failure: ServerFailed) -> ServerFailed:
        """The failure with the server's address in its message, and without the key."""
        if self.url in str(failure):
            return failure
        message = f"the server {self.url} cannot be used: {failure}"
        said, retry = self._scrubbed(failure.said), failure.retry_seconds
        return ServerFailed(failure.kind, self._scrubbed(message), said=said, retry_seconds=retry)

    def _failure(self, error: Exception, seconds: float) -> ServerFailed:
        match error:
            case TimeoutError() if not isinstance(error, aiohttp.ConnectionTimeoutError):
                return ServerFailed("silent", f"the server {self.url} sent no token for {seconds:g} s")
            case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
                return ServerFailed("down", f"the server {self.url} cannot be reached", said=str(error))
            case aiohttp.InvalidURL():
                return ServerFailed("down", f"{self.url} is not a URL")
        what = f"the server {self.url} broke the connection ({type(error).__name__})"
        return ServerFailed("died", what, said=self._scrubbed(str(error)))

    def _shown(self, body: bytes) -> str:
        return self._scrubbed(body[:300].decode("utf-8", "replace"))

    def _scrubbed(self, text: str) -> str:
        return text.replace(self._key, "<key>") if self._key else text


class _Silence:
    """Ends the wait for a stream's next bytes at a deadline that may move later without touching the timer.

    The timer, when it fires early, is armed again for the deadline of then: one timer a stream rather than one a read.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, content: aiohttp.StreamReader, deadline: float, seconds: float
    ) -> None:
        self.deadline = deadline
        """In the loop's time. Infinite while nobody waits, as the reader of the stream is not the server's to blame."""
        self._loop, self._content, self._seconds = loop, content, seconds
        self._timer = loop.call_at(deadline, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        if now >= self.deadline:
            self._content.set_exception(TimeoutError())
        else:
            # No deadline that is set from now on is nearer than that.
            self._timer = self._loop.call_at(min(self.deadline, now + self._seconds), self._look)

    def close(self) -> None:
        self._timer.cancel()


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read a stream to its end, if that is near, and release its connection."""
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            for _ in range(_DRAIN_READS):
                if not await response.content.readany() and response.content.at_eof():
                    response.release()
                    return
    except (aiohttp.ClientError, TimeoutError, OSError):
        return


async def _read_all(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for data in response.content.iter_any():
        body += data
        if len(body) > MAX_EVENT_BYTES:
            response.close()
            raise ServerFailed("nonsense", f"a reply of more than {MAX_EVENT_BYTES} bytes came")
    return bytes(body)


def error_message(text: str) -> str:
    """What an error body says in words, at most 500 characters."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text[:500]
    if isinstance(found, dict):
        error = found.get("error", found)
        return str(error.get("message", error) if isinstance(error, dict) else error)[:500]
    return text[:500]
