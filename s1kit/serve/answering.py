"""From a request to its reply, one object a request.

read and check the body   fields, dial        400, 401, 404, 413, 415
render and fit            jobs                400
find a place              admission           429, 503 while shutting down
decode                    a backend           499 when the client leaves; 502, 504 from an upstream
reply                     replies             whole, or as events
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any, Literal

from s1kit.serve import logs
from s1kit.serve.bodies import read_as
from s1kit.serve.callers import check_caller, request_id
from s1kit.serve.decoding import End, Job, thinking_part
from s1kit.serve.ending import RunningRequest
from s1kit.serve.fields import ChatBody, CompletionBody
from s1kit.serve.http import (
    ClientLeft,
    EventStream,
    Receive,
    Scope,
    Send,
    header,
    read_body,
    send_json,
    send_whole,
    while_connected,
)
from s1kit.serve.jobs import ParsedRequest, parse_chat, parse_completion
from s1kit.serve.messages import MessagesBody, MessagesReply
from s1kit.serve.refusals import Refusal
from s1kit.serve.replies import ID_PREFIXES, PING, Choice, Endpoint, HttpReply
from s1kit.serve.responses import ResponsesBody, ResponsesReply, in_responses_names
from s1kit.serve.state import Server, check_model
from s1kit.serve.tracing import Span

_LARGE_BODY = 1 << 11
"""Bytes above which a body is parsed, rendered and tokenised in a thread."""


AnyReply = HttpReply | MessagesReply | ResponsesReply


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
        self._is_summary = False
        self._log: dict[str, Any] = {}
        self._span: Span | None = None
        self._ignored: tuple[str, ...] = ()
        self._saw_thinking = self._saw_answer = False

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
            self._account()

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
        kind = header(self._scope, b"content-type").partition(";")[0].strip().lower()
        if kind != "application/json":
            # A web page of somebody else can send other types without asking first.
            raise Refusal(415, f"the body is of type {kind or 'nothing'}. Send content-type: application/json.")
        body = await read_body(self._scope, self._receive, server.limits.max_body_bytes)
        # Templates and tokenizers take seconds over megabytes, and 5 ms over the worst 2 KiB; nobody waits for that.
        is_large = len(body) > _LARGE_BODY
        asked, parsed = await asyncio.to_thread(self._parse, body) if is_large else self._parse(body)
        with server.admission.admit(len(asked.jobs)):
            await self._work(asked, parsed)

    async def _work(self, asked: ParsedRequest, parsed: ChatBody | CompletionBody) -> None:
        server = self._server
        server.metrics.prompt_tokens.add(asked.prompt_tokens)
        self._is_stream = bool(parsed.stream)
        self._reply = self._new_reply(asked, parsed)
        work = self._stream(asked.jobs) if self._is_stream else self._whole(asked.jobs)
        task = asyncio.ensure_future(while_connected(work, self._receive))
        server.streams.add(task)
        running = RunningRequest(self._log["key"], self._reply.choices)
        try:
            with server.running.listed((self._id, ID_PREFIXES[self._endpoint] + self._id, self._request_id), running):
                await task
        finally:
            server.streams.discard(task)

    def _parse(self, raw: bytes) -> tuple[ParsedRequest, ChatBody | CompletionBody]:
        server = self._server
        default, is_lenient = server.limits.default_budget, server.limits.is_lenient
        if self._endpoint == "completions":
            completion, self._ignored = read_as(CompletionBody, raw, is_lenient)
            self._note(completion)
            return parse_completion(completion, server.backend, server.efforts, default), completion
        if self._endpoint == "chat":
            body, self._ignored = read_as(ChatBody, raw, is_lenient)
            self._note(body)
            return parse_chat(body, server.backend, server.efforts, default), body
        given: MessagesBody | ResponsesBody
        if self._endpoint == "messages":
            given, self._ignored = read_as(MessagesBody, raw, is_lenient)
        else:
            given, self._ignored = response, _ = read_as(ResponsesBody, raw, is_lenient)
            self._is_summary = response.reasoning is not None and response.reasoning.summary is not None
        try:
            body, _ = read_as(ChatBody, json.dumps(given.as_chat()).encode())
            self._note(body)
            return parse_chat(body, server.backend, server.efforts, default), body
        except Refusal as refusal:
            raise (in_responses_names(refusal) if self._endpoint == "responses" else refusal) from refusal

    def _note(self, body: ChatBody | CompletionBody) -> None:
        check_model(self._server, body.model)
        self._log |= {"user": logs.hashed(body.user), "n": body.n}

    def _new_reply(self, asked: ParsedRequest, body: ChatBody | CompletionBody) -> AnyReply:
        # The last event of a streamed response repeats all of its text.
        keeps_text = not self._is_stream or self._endpoint == "responses"
        choices = [
            Choice(
                i,
                asked.dial.shows_thinking,
                asked.tools.reader() if asked.tools is not None else None,
                asked.wants_logprobs,
                not keeps_text,
                _applied(job),
                job.stop,
                job.probes if job.is_auto else None,
                self._ignored,
            )
            for i, job in enumerate(asked.jobs)
        ]
        model = self._server.backend.model
        if self._endpoint == "messages":
            stop = asked.jobs[0].plan.request.stop
            return MessagesReply(model, choices, asked.prompt_tokens, self._id, stop)
        if self._endpoint == "responses":
            return ResponsesReply(model, choices, asked.prompt_tokens, self._id, self._is_summary)
        usage = body.stream_options is not None and body.stream_options.include_usage
        return HttpReply(self._endpoint, model, choices, asked.prompt_tokens, usage, self._id)

    async def _whole(self, jobs: list[Job]) -> None:
        reply = self._reply
        assert reply is not None
        await _together([self._decode(job, choice) for job, choice in zip(jobs, reply.choices, strict=True)])
        self._has_begun = True
        await send_json(self._raw_send, 200, reply.whole(), self._headers)

    async def _stream(self, jobs: list[Job]) -> None:
        reply = self._reply
        assert reply is not None
        async with EventStream(self._send, self._headers, PING, self._server.limits.ping_seconds) as stream:
            works = [self._decode(job, choice, stream) for job, choice in zip(jobs, reply.choices, strict=True)]
            await _together(works)
            await stream.send(reply.tail())

    async def _send(self, message: Any) -> None:
        self._has_begun = True
        await self._raw_send(message)

    async def _decode(self, job: Job, choice: Choice, stream: EventStream | None = None) -> None:
        """Decode one choice in its place; sends its events as they come where a stream is given."""
        reply = self._reply
        assert reply is not None
        async with self._server.admission.place(), aclosing(self._server.backend.decode(job)) as news:
            async for new in news:
                if not job.has_answer and not isinstance(new, End):
                    new, is_over = thinking_part(new)
                else:
                    is_over = False
                if isinstance(new, End):
                    event = self._end(job, choice, new, stream)
                elif stream is None:
                    for delta in new:
                        choice.take(delta)
                    event = ""
                else:
                    event = "".join([reply.chunk(choice, delta) for delta in new])
                    if is_over:
                        event += self._end(job, choice, End(None, "length"), stream)
                self._note_first(choice)
                if stream is not None and event:
                    await stream.send(event.encode())
                if is_over:
                    if stream is None:
                        self._end(job, choice, End(None, "length"), stream)
                    return

    def _end(self, job: Job, choice: Choice, end: End, stream: EventStream | None) -> str:
        """Account for the end of a choice; its last event where it is streamed."""
        reply = self._reply
        assert reply is not None
        if not job.has_answer:
            is_spent = job.stop.is_asked or choice.tally.thinking_tokens >= job.plan.budget.max_tokens
            seam: Literal["ids", "text"] = getattr(self._server.backend, "seam", "ids")
            end = End("cut_off" if is_spent else "closed", "length", seam)
        event = ""
        if stream is not None:
            event = reply.last_chunk(choice, end)
        else:
            choice.finish(end)
        self._server.metrics.count_choice(choice.tally)
        return event

    def _note_first(self, choice: Choice) -> None:
        if not self._saw_thinking and choice.tally.thinking_tokens:
            self._saw_thinking = True
            self._server.metrics.first_thinking.observe(time.monotonic() - self._started)
        if not self._saw_answer and choice.tally.answer_tokens:
            self._saw_answer = True
            self._server.metrics.first_answer.observe(time.monotonic() - self._started)

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

    def _account(self) -> None:
        seconds = time.monotonic() - self._started
        server, metrics = self._server, self._server.metrics
        metrics.requests.add(endpoint=self._endpoint, status=str(self._status))
        metrics.request_seconds.observe(seconds)
        tallies = [c.tally for c in self._reply.choices] if self._reply is not None else []
        if self._span is not None:
            self._span.set_attributes(
                {
                    "http.response.status_code": self._status,
                    "gen_ai.request.model": server.backend.model,
                    "gen_ai.usage.input_tokens": self._reply.prompt_tokens if self._reply is not None else 0,
                    "gen_ai.usage.output_tokens": sum(t.completion_tokens for t in tallies),
                    "s1kit.thinking_tokens": sum(t.thinking_tokens for t in tallies),
                    "s1kit.num_waits": sum(t.num_waits for t in tallies),
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
            prompt_tokens=self._reply.prompt_tokens if self._reply is not None else None,
            thinking_tokens=sum(t.thinking_tokens for t in tallies),
            answer_tokens=sum(t.answer_tokens for t in tallies),
            num_waits=sum(t.num_waits for t in tallies),
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


async def _together(works: Sequence[Any]) -> None:
    """All of them; the first failure cancels the others."""
    if len(works) == 1:
        await works[0]
        return
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
