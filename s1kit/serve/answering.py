"""From a request to its reply, one object a request.

read and check the body   reading, dial       400, 401, 404, 413, 415
render and fit            jobs                400
find a place              admission           429, 503 while shutting down
decode                    choices, a backend  499 when the client leaves; 502, 504 from an upstream
reply                     replies             whole, or as events
"""

from __future__ import annotations

import asyncio
import secrets
import time
from functools import partial
from typing import Any

from s1kit.serve import logs
from s1kit.serve.authentication import check_caller, request_id
from s1kit.serve.bodies import ReadBody, read_body_as
from s1kit.serve.choices import AnyReply, RequestDecoder
from s1kit.serve.decoding import Job
from s1kit.serve.http import (
    ClientLeft,
    EventStream,
    Receive,
    Scope,
    Send,
    check_media,
    header,
    read_body,
    send_json,
    send_whole,
    while_connected,
)
from s1kit.serve.jobs import ParsedRequest
from s1kit.serve.messages_reply import MessagesReply
from s1kit.serve.refusals import Refusal
from s1kit.serve.replies import ID_PREFIXES, PING, Choice, Endpoint, HttpReply
from s1kit.serve.responses import ResponsesBody
from s1kit.serve.responses_reply import ResponsesReply
from s1kit.serve.state import RunningRequest, Server, check_model
from s1kit.serve.tracing import Span

_LARGE_BODY = 1 << 11
"""Bytes above which a body is parsed, rendered and tokenised in a thread."""


class Generate:
    """An endpoint that generates, as an ASGI application of its own: it watches its client."""

    def __init__(self, server: Server, endpoint: Endpoint) -> None:
        self._server = server
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        one = _OneRequest(self._server, self._endpoint, scope, receive, send)
        await one.run()


class _OneRequest:
    """The way of one request. Nothing of it is shared with another."""

    def __init__(self, server: Server, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        self._server, self._endpoint = server, endpoint
        self._scope, self._receive, self._raw_send = scope, receive, send
        self._id = secrets.token_hex(12)
        """The id of the reply."""
        self._request_id = request_id(scope) or self._id
        self._started = time.monotonic()
        self._has_begun = False
        self._is_stream = False
        self._status = 200
        self._reply: AnyReply | None = None
        self._log: dict[str, Any] = {}
        self._span: Span | None = None

    async def run(self) -> None:
        """Answer, whatever happens; then count and log it."""
        self._span = self._start_span()
        limit = asyncio.timeout(self._deadline())
        try:
            async with limit:
                await self._answer()
        except TimeoutError:
            if not limit.expired():
                raise
            what = "the request took longer than its time limit. Ask for less, or raise the limit."
            await self._refuse(Refusal(504, what, code="deadline_exceeded"))
        except Refusal as refusal:
            await self._refuse(refusal)
        except ClientLeft:
            self._status = 499
            self._server.metrics.cancelled.add()
        except asyncio.CancelledError:
            if not self._server.is_aborting:
                raise
            await self._refuse(_shutting_down())
        finally:
            self._account(time.monotonic() - self._started)

    def _deadline(self) -> float | None:
        """Seconds that the request may take: the server's limit, or less where the client says so."""
        given = header(self._scope, b"x-request-timeout")
        limits = [self._server.limits.request_seconds]
        if given:
            try:
                limits.append(max(float(given), 0.001))
            except ValueError:
                self._log |= {"ignored_timeout": given}
        return min((limit for limit in limits if limit is not None and limit == limit), default=None)

    def _start_span(self) -> Span | None:
        tracer = self._server.tracer
        if tracer is None:
            return None
        return tracer.start(f"s1kit {self._endpoint}", {"traceparent": header(self._scope, b"traceparent")})

    async def _answer(self) -> None:
        server = self._server
        key = check_caller(self._scope, server.api_keys, server.limits.allowed_hosts, needs_key=True)
        self._log = {"key": key}
        if server.is_draining:
            raise _shutting_down()
        check_media(self._scope)
        body = await read_body(self._scope, self._receive, server.limits.max_body_bytes)
        # Templates and tokenizers take seconds over megabytes, and 5 ms over the worst 2 KiB; nobody waits for that.
        is_large = len(body) > _LARGE_BODY
        read, asked = await asyncio.to_thread(self._parse, body) if is_large else self._parse(body)
        with server.admission.admit(len(asked.jobs)):
            await self._work(read, asked)

    def _parse(self, raw: bytes) -> tuple[ReadBody, ParsedRequest]:
        read = read_body_as(self._endpoint, raw, self._server.limits.is_lenient)
        check_model(self._server, read.body.model)
        self._log |= {"user": logs.hashed(read.body.user), "n": read.body.n}
        return read, read.jobs(self._server)

    async def _work(self, read: ReadBody, asked: ParsedRequest) -> None:
        server = self._server
        server.metrics.prompt_tokens.add(asked.prompt_tokens)
        self._is_stream = bool(read.body.stream)
        self._reply = reply = self._new_reply(read, asked)
        decoding = RequestDecoder(server, reply, self._started)
        answer = self._stream if self._is_stream else self._whole
        work = partial(answer, decoding, reply, asked.jobs)
        task = asyncio.ensure_future(while_connected(work, self._receive))
        server.streams.add(task)
        running = RunningRequest(self._log["key"], reply.choices)
        try:
            with server.running.listed((self._id, ID_PREFIXES[self._endpoint] + self._id, self._request_id), running):
                await task
        finally:
            server.streams.discard(task)

    def _new_reply(self, read: ReadBody, asked: ParsedRequest) -> AnyReply:
        # The last event of a streamed response repeats all of its text.
        keeps_text = not self._is_stream or self._endpoint == "responses"
        choices = [
            Choice(
                i,
                shows_thinking=asked.dial.shows_thinking,
                tools=asked.tools.reader() if asked.tools is not None else None,
                wants_one_call=asked.wants_one_call,
                wants_logprobs=asked.wants_logprobs,
                is_streamed=not keeps_text,
                budget=_applied(job),
                stop=job.stop,
                probes=job.probes if job.is_auto else None,
                ignored=read.ignored,
            )
            for i, job in enumerate(asked.jobs)
        ]
        model = self._server.backend.model
        if self._endpoint == "messages":
            stop = asked.jobs[0].plan.request.stop
            return MessagesReply(model, choices, asked.prompt_tokens, self._id, stop)
        if isinstance(read.given, ResponsesBody):
            return ResponsesReply(model, choices, asked.prompt_tokens, self._id, read.given.shape)
        options = read.body.stream_options
        usage = options is not None and options.include_usage
        so_far = options is not None and usage and options.continuous_usage_stats
        return HttpReply(self._endpoint, model, choices, asked.prompt_tokens, usage, so_far, self._id)

    async def _whole(self, decoding: RequestDecoder, reply: AnyReply, jobs: list[Job]) -> None:
        await decoding.run(jobs)
        self._has_begun = True
        await send_json(self._raw_send, 200, reply.whole(), self._headers)

    async def _stream(self, decoding: RequestDecoder, reply: AnyReply, jobs: list[Job]) -> None:
        async with EventStream(self._send, self._headers, PING, self._server.limits.ping_seconds) as stream:
            await decoding.run(jobs, stream)
            await stream.send(reply.tail())

    async def _send(self, message: Any) -> None:
        self._has_begun = True
        await self._raw_send(message)

    @property
    def _headers(self) -> dict[str, str]:
        return {"x-request-id": self._request_id}

    async def _refuse(self, refusal: Refusal) -> None:
        """An error reply, or, when the stream has begun, an error as its last event."""
        self._status = refusal.status
        self._log |= {"param": refusal.param, "code": refusal.code}
        if refusal.status in (502, 504) or (refusal.code or "").startswith("upstream"):
            self._server.metrics.upstream_errors.add(kind=refusal.code or "upstream")
        if not self._has_begun:
            await send_whole(
                self._raw_send, refusal.status, refusal.encoded(), "application/json", refusal.headers | self._headers
            )
            return
        assert self._reply is not None
        event = self._reply.failed(refusal)
        await self._raw_send({"type": "http.response.body", "body": event, "more_body": False})

    def _account(self, seconds: float) -> None:
        """Counters, one line in the log, and the end of the span where tracing is on."""
        server, reply = self._server, self._reply
        server.metrics.requests.add(endpoint=self._endpoint, status=str(self._status))
        server.metrics.request_seconds.observe(seconds)
        tallies = [choice.tally for choice in reply.choices] if reply is not None else []
        thinking_tokens = sum(t.thinking_tokens for t in tallies)
        num_waits = sum(t.num_waits for t in tallies)
        if self._span is not None:
            self._span.set_attributes(
                {
                    "http.response.status_code": self._status,
                    "gen_ai.request.model": server.backend.model,
                    "gen_ai.usage.input_tokens": reply.prompt_tokens if reply is not None else 0,
                    "gen_ai.usage.output_tokens": sum(t.completion_tokens for t in tallies),
                    "s1kit.thinking_tokens": thinking_tokens,
                    "s1kit.num_waits": num_waits,
                    "s1kit.request_id": self._request_id,
                }
            )
            self._span.end()
        logs.log(
            "request",
            id=self._request_id,
            endpoint=self._endpoint,
            status=self._status,
            seconds=round(seconds, 4),
            stream=self._is_stream,
            prompt_tokens=reply.prompt_tokens if reply is not None else None,
            thinking_tokens=thinking_tokens,
            answer_tokens=sum(t.answer_tokens for t in tallies),
            num_waits=num_waits,
            forced_tokens=sum(t.forced_tokens for t in tallies),
            ending=",".join(str(t.end.ending) for t in tallies if t.end is not None) or None,
            **self._log,
        )


def _applied(job: Job) -> dict[str, int] | None:
    """The budget that holds, for the reply; None where the model does not think."""
    plan, budget = job.plan, job.plan.budget
    if not plan.thinks:
        return None
    found = {
        "max_thinking_tokens": budget.max_tokens,
        "min_thinking_tokens": budget.min_tokens,
        "num_waits": budget.num_waits,
    }
    return found if plan.lowered_from is None else found | {"lowered_from": plan.lowered_from}


def _shutting_down() -> Refusal:
    return Refusal(503, "the server is shutting down.", code="shutting_down", headers={"Retry-After": "5"})
