"""One streamed completion from another server, over HTTP: what is sent, what comes back, and what can go wrong.

Knows nothing about thinking. Every failure is a Refusal that names the address: 502 for a server that is down, dies or
talks nonsense, 504 for one that is silent, 429 for one that is full.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from pydantic_core import from_json

from s1kit.serve.decoding import TokenLogprob
from s1kit.serve.refusals import Refusal

_MOST_LINE = 8 << 20
"""Bytes of one event; a longer one is nonsense."""


@dataclass(slots=True)
class Piece:
    """New text and ids of one completion, from one network read."""

    text: str = ""
    ids: array[int] = field(default_factory=lambda: array("q"))
    num_events: int = 0
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    """vLLM: the id or string that stopped it; None for end of sequence."""
    logprobs: list[TokenLogprob] = field(default_factory=list)


class CompletionsServer:
    """An OpenAI-style `/v1/completions` endpoint."""

    def __init__(self, url: str, key: str | None, silent_seconds: float, connect_seconds: float = 5.0) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds, sock_read=silent_seconds)
        self._silent_seconds = silent_seconds
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
                timeout=self._timeout,
                headers=self._headers,
                read_bufsize=1 << 18,
                # A redirect or a cookie from an inference server is a mistake; environment proxies would be a surprise.
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def get_json(self, path: str, seconds: float = 5.0) -> Any:
        """A small JSON document. Raises Refusal."""
        try:
            timeout = aiohttp.ClientTimeout(total=seconds)
            async with self.session.get(self.url + path, timeout=timeout, allow_redirects=False) as response:
                if response.status != 200:
                    raise Refusal(502, f"the upstream {self.url} answered {path} with status {response.status}.")
                return json.loads(await response.read())
        except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
            raise self._refusal(error) from error

    async def count_tokens(self, body: Mapping[str, Any]) -> int | None:
        """How many tokens the server reads a prompt as, if it says so; one is completed for it. Raises Refusal."""
        try:
            async with await self._post({**body, "max_tokens": 1}) as response:
                if response.status != 200:
                    await self._check(response)
                found = json.loads(await response.read())
                usage = found.get("usage") if isinstance(found, dict) else None
                return usage.get("prompt_tokens") if isinstance(usage, dict) else None
        except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
            raise self._refusal(error) from error

    async def stream(self, body: Mapping[str, Any]) -> AsyncGenerator[Piece, None]:
        """The pieces of one completion; the last has a `finish_reason`. Closing the iterator closes the connection.

        Raises Refusal.
        """
        try:
            response = await self._post(body)
            async with response:
                await self._check(response)
                async with aclosing(self._pieces(response)) as pieces:
                    async for piece in pieces:
                        yield piece
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._refusal(error) from error

    async def _post(self, body: Mapping[str, Any]) -> aiohttp.ClientResponse:
        data, url = json.dumps(body).encode(), self.url + "/v1/completions"
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        try:
            return await self.session.post(url, data=data, headers=headers, allow_redirects=False)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            # A kept connection that the server has closed in the meantime looks like this; nothing was decoded yet.
            return await self.session.post(url, data=data, headers=headers, allow_redirects=False)

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        """Raises Refusal unless this is an event stream."""
        kind = response.content_type
        if response.status == 200 and kind == "text/event-stream":
            return
        said = _message((await response.content.read(2000)).decode("utf-8", "replace"))
        if response.status == 200:
            raise Refusal(502, f"the upstream {self.url} sent {kind}, not an event stream: {said}", code="upstream")
        if response.status in (429, 503):
            retry = response.headers.get("Retry-After", "1")
            raise Refusal(
                429,
                f"the upstream {self.url} is full (status {response.status}): {said}",
                code="upstream_full",
                headers={"Retry-After": retry if retry.isdigit() else "1"},
            )
        if response.status in (400, 413, 422):
            raise Refusal(400, f"the upstream {self.url} refuses the request: {said}", code="upstream_refused")
        raise Refusal(502, f"the upstream {self.url} answered with status {response.status}: {said}", code="upstream")

    async def _pieces(self, response: aiohttp.ClientResponse) -> AsyncGenerator[Piece, None]:
        held = b""
        async for data in response.content.iter_any():
            lines = (held + data).split(b"\n")
            held = lines.pop()
            if len(held) > _MOST_LINE:
                raise Refusal(502, f"the upstream {self.url} sent an event of more than {_MOST_LINE} bytes.")
            piece = Piece()
            for line in lines:
                if line.startswith(b"data:") and not self._read_event(line[5:].strip(), piece):
                    break
            if piece.num_events:
                yield piece
            if piece.finish_reason is not None:
                # What may follow (usage, [DONE]) is read, so that the connection can be used again.
                await response.content.readany() if not response.content.at_eof() else None
                return
        raise Refusal(502, f"the upstream {self.url} ended the stream in the middle.", code="upstream_died")

    def _read_event(self, data: bytes, piece: Piece) -> bool:
        """Add one event to a piece; False at the end of the stream. Raises Refusal on what cannot be read."""
        if data == b"[DONE]":
            return False
        try:
            event = from_json(data)
            if "error" in event:
                raise Refusal(502, f"the upstream {self.url} failed: {_message(data.decode())}", code="upstream")
            for choice in event["choices"]:
                piece.text += choice["text"]
                piece.ids.extend(choice.get("token_ids") or ())
                piece.num_events += 1
                if choice.get("logprobs"):
                    piece.logprobs += _logprobs(choice["logprobs"])
                if choice.get("finish_reason") is not None:
                    piece.finish_reason = choice["finish_reason"]
                    # SGLang calls it matched_stop.
                    piece.stop_reason = choice.get("stop_reason", choice.get("matched_stop"))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            shown = data[:200].decode("utf-8", "replace")
            raise Refusal(502, f"the upstream {self.url} sent an event that cannot be read: {shown}") from error
        return True

    def _refusal(self, error: Exception) -> Refusal:
        match error:
            case TimeoutError() if not isinstance(error, aiohttp.ConnectionTimeoutError):
                what = f"the upstream {self.url} was silent for {self._silent_seconds:g} s."
                return Refusal(504, what, code="upstream_silent")
            case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
                return Refusal(502, f"the upstream {self.url} cannot be reached: {error}.", code="upstream_down")
            case ValueError():
                return Refusal(502, f"the upstream {self.url} did not answer with JSON.", code="upstream")
        return Refusal(502, f"the upstream {self.url} broke the connection: {error}.", code="upstream_died")


def _logprobs(found: Mapping[str, Any]) -> list[TokenLogprob]:
    tops = found.get("top_logprobs") or [None] * len(found["tokens"])
    return [
        TokenLogprob(token, logprob if logprob is not None else 0.0, tuple((top or {}).items()))
        for token, logprob, top in zip(found["tokens"], found["token_logprobs"], tops, strict=True)
    ]


def _message(text: str) -> str:
    """The human part of an error body."""
    try:
        found = json.loads(text)
    except ValueError:
        return text[:500]
    if isinstance(found, dict):
        error = found.get("error", found)
        if isinstance(error, dict):
            return str(error.get("message", error))[:500]
        return str(error)[:500]
    return text[:500]
