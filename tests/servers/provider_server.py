"""A server that speaks every provider's wire format, and fails as real ones do, on demand.

One process stands in for OpenAI (also DeepSeek, OpenRouter, vLLM), Gemini and Anthropic, online and in batches. The
reply to a question depends on nothing but the question, so two runs can be compared. The official clients are pointed
at it first (test_provider_servers.py): what they accept is the wire, not our reading of it.

    with ProviderServer() as server:
        server.faults = fail_first(2, Fault(status=429, retry_after="0.05"))
        openai.OpenAI(base_url=server.openai, api_key="k")
"""

from __future__ import annotations

import argparse
import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from tests.servers.provider_streams import chat_events, content_events, message_events, response_events
from tests.servers.threaded import in_thread

KEY = "test-key-7f3a"


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request."""

    status: int = 200
    retry_after: str | None = None
    body: str | None = None
    """The body in place of the reply."""
    content_type: str = "application/json"
    seconds: float = 0.0
    """Wait before answering."""
    cut: bool = False
    """Break off in the middle of the body."""
    whole: bool = False
    """Answer without a stream, whatever was asked for."""
    change: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    """Changes a good reply into another."""


Faults = Callable[[int, str], Fault | None]
"""From the number of the request, from 0, and the question, to what goes wrong."""


def no_faults(number: int, question: str) -> Fault | None:
    return None


def fail_first(num: int, fault: Fault) -> Faults:
    return lambda number, question: fault if number < num else None


def thinking_of(question: str) -> str:
    return f"Let me see: {question}\nWait, is that all? Yes."


def answer_of(question: str) -> str:
    return f"The answer to {question!r} is {len(question)}."


def words(text: str) -> int:
    return len(text.split())


@dataclass
class _Batch:
    id: str
    requests: dict[str, dict[str, Any]]
    model: str = ""
    tag: str = ""
    created: float = field(default_factory=time.time)
    polls: int = 0
    is_refused: bool = False
    expired: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)


class ProviderServer:
    """Runs in a thread of its own while it is entered."""

    def __init__(self, port: int = 0) -> None:
        self.faults: Faults = no_faults
        self.answered: Counter[str] = Counter()
        """Questions to the number of whole replies each got, online."""
        self.num_requests = 0
        self.in_flight = self.most_in_flight = 0
        self.headers: dict[str, str] = {}
        """Added to every online reply, e.g. rate limits."""
        self.key = KEY
        self.refuses: Callable[[dict[str, Any]], str | None] = lambda body: None
        """From a request's body to the reason to refuse it with 400."""
        self.num_streamed = 0
        self.seconds_between_events = 0.0
        self.metrics: str | None = None
        self.polls_until_done = 1
        self.expire: Callable[[int, str], bool] = lambda round, question: False
        """Which requests of which batch, from 0, expire."""
        self.bad: Callable[[str], bool] = lambda question: False
        """Which requests a batch refuses for what they are."""
        self.shuffle_results = False
        self.lose_next_creation = False
        """Take the next batch but cut the connection instead of answering."""
        self.busy_next_creation = False
        """Take the next batch but answer 503."""
        self.num_downloads_to_fail = 0
        """Result files that are answered with 503, or cut in the middle, in turn."""
        self.change_job: Callable[[dict[str, Any]], Any] = lambda job: job
        """Changes what a look at a batch job is told."""
        self.change_results: Callable[[str], str] = lambda text: text
        """Changes a file of results."""
        self.gone = ""
        """What is not found: `job` or `results`."""
        self.num_not_found = 10**9
        """So many times; what is gone is there again afterwards."""
        self.uploads_to_refuse: list[int] = []
        """Statuses that the next uploads and submissions are answered with."""
        self.uploads_to_cut = 0
        """Uploads and submissions of which part is read before the connection breaks."""
        self.queue_limit = 10**9
        """Requests that may wait in OpenAI's batch queue; a job beyond fails."""
        self.batches: dict[str, _Batch] = {}
        self.files: dict[str, bytes] = {}
        self._uploads: dict[str, str] = {}
        self._port = port
        self._running = ExitStack()

    # ---- where it listens -------------------------------------------------------------------------------------------

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def openai(self) -> str:
        return f"{self.root}/openai/v1"

    @property
    def compatible(self) -> str:
        return f"{self.root}/vllm/v1"

    @property
    def gemini(self) -> str:
        return f"{self.root}/v1beta"

    @property
    def anthropic(self) -> str:
        return f"{self.root}/anthropic/v1"

    def __enter__(self) -> ProviderServer:
        self._running.enter_context(in_thread(self._serving()))
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._port, backlog=1024).start()
        self._port = runner.addresses[0][1]
        yield
        await runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=512 * 2**20)
        prefixes = ("/openai/v1", "/openai-responses/v1", "/vllm/v1", "/deepseek/v1", "/openrouter/v1")
        for prefix in prefixes:
            app.router.add_post(prefix + "/chat/completions", self._chat)
            app.router.add_post(prefix + "/responses", self._responses)
            app.router.add_post(prefix + "/files", self._openai_upload)
            app.router.add_get(prefix + "/files/{id}/content", self._openai_file)
            app.router.add_post(prefix + "/batches", self._openai_create)
            app.router.add_get(prefix + "/batches", self._openai_list)
            app.router.add_get(prefix + "/batches/{id}", self._openai_batch)
        for version in ("/v1beta", "/v1"):  # the reference documents the first, the newest client uses the second
            app.router.add_post(version + "/models/{call}", self._gemini)
            app.router.add_post("/upload" + version + "/files", self._gemini_upload)
            app.router.add_get(version + "/batches/{id}", self._gemini_batch)
            app.router.add_get(version + "/files/{id}", self._gemini_file)
        app.router.add_get("/v1beta/batches", self._gemini_list)
        app.router.add_get("/download/v1beta/files/{id}", self._gemini_file)
        app.router.add_post("/upload/go/{id}", self._gemini_upload_bytes)
        app.router.add_post("/anthropic/v1/messages", self._messages)
        app.router.add_post("/anthropic/v1/messages/batches", self._anthropic_create)
        app.router.add_get("/anthropic/v1/messages/batches", self._anthropic_list)
        app.router.add_get("/anthropic/v1/messages/batches/{id}", self._anthropic_batch)
        app.router.add_get("/anthropic/v1/messages/batches/{id}/results", self._anthropic_results)
        app.router.add_get("/vllm/metrics", self._metrics)
        return app

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(status=404) if self.metrics is None else web.Response(text=self.metrics)

    # ---- online -----------------------------------------------------------------------------------------------------

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {self.key}" and request.path.startswith("/openai"):
            return openai_error(401, "Incorrect API key provided: " + request.headers.get("Authorization", "")[7:])
        body = await request.json()
        question = body["messages"][-1]["content"]
        dialect = request.path.split("/")[1]
        if (reason := self.refuses(body)) is not None:
            return openai_error(400, reason)
        with_usage = bool((body.get("stream_options") or {}).get("include_usage") or body.get("usage"))
        events = (lambda reply: chat_events(reply, with_usage)) if body.get("stream") else None
        return await self._answer(request, question, lambda: chat_completion(body, dialect), openai_error, events)

    async def _responses(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {self.key}" and request.path.startswith("/openai"):
            return openai_error(401, "Incorrect API key provided: " + request.headers.get("Authorization", "")[7:])
        body = await request.json()
        if (reason := self.refuses(body)) is not None:
            return openai_error(400, reason)
        events = response_events if body.get("stream") else None
        shows_all = request.path.startswith("/vllm")
        return await self._answer(request, question_in(body), lambda: response(body, shows_all), openai_error, events)

    async def _gemini(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("x-goog-api-key") != self.key:
            return gemini_error(400, "API key not valid. Please pass a valid API key.", "API_KEY_INVALID")
        model, _, verb = request.match_info["call"].partition(":")
        body = await request.json()
        if verb == "batchGenerateContent":
            return await self._gemini_create(model, body)
        question = body["contents"][-1]["parts"][-1]["text"]
        events = content_events if verb == "streamGenerateContent" else None
        assert events is None or request.query["alt"] == "sse"
        return await self._answer(request, question, lambda: generated_content(body, model), gemini_error, events)

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        # The reference documents x-api-key; the newest client sends the key as a bearer.
        if self.key not in (request.headers.get("x-api-key"), request.headers.get("Authorization", "")[7:]):
            return anthropic_error(401, "invalid x-api-key")
        assert request.headers["anthropic-version"] in ("2023-06-01", "2026-10-21")
        body = await request.json()
        content = body["messages"][-1]["content"]
        question = content if isinstance(content, str) else content[0]["text"]
        events = message_events if body.get("stream") else None
        return await self._answer(request, question, lambda: message(body), anthropic_error, events)

    async def _answer(
        self,
        request: web.Request,
        question: str,
        make: Callable[[], dict[str, Any]],
        error: Callable[..., web.Response],
        events: Callable[[dict[str, Any]], Iterator[bytes]] | None = None,
    ) -> web.StreamResponse:
        number = self.num_requests
        self.num_requests += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            fault = self.faults(number, question) or Fault()
            if fault.seconds:
                await asyncio.sleep(fault.seconds)
            if fault.status != 200:
                if fault.content_type == "text/html":
                    response = web.Response(status=fault.status, text=fault.body, content_type=fault.content_type)
                else:
                    response = error(fault.status, fault.body or f"fault {fault.status}")
                if fault.retry_after is not None:
                    response.headers["Retry-After"] = fault.retry_after
                return response
            reply = make()
            if fault.change is not None:
                reply = fault.change(reply)
            if events is not None and fault.body is None and not fault.whole:
                self.num_streamed += 1
                return await self._stream(request, question, list(events(reply)), is_cut=fault.cut)
            text = json.dumps(reply) if fault.body is None else fault.body
            if fault.cut:
                return await cut_off(request, text)
            self.answered[question] += 1
            return web.Response(text=text, content_type=fault.content_type, headers=self.headers)
        finally:
            self.in_flight -= 1

    async def _stream(
        self, request: web.Request, question: str, events: list[bytes], *, is_cut: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **self.headers})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for each in events[: len(events) // 2] if is_cut else events:
            await response.write(each)
            if self.seconds_between_events:
                await asyncio.sleep(self.seconds_between_events)
        if is_cut:
            assert request.transport is not None
            request.transport.close()
            return response
        self.answered[question] += 1
        await response.write_eof()
        return response

    async def _perhaps_cut(self, request: web.Request) -> None:
        """Break an upload off in the middle where one is to be cut."""
        if self.uploads_to_cut:
            self.uploads_to_cut -= 1
            await request.content.read(64)
            assert request.transport is not None
            request.transport.abort()
            raise ConnectionResetError

    # ---- OpenAI's batches -------------------------------------------------------------------------------------------

    async def _openai_upload(self, request: web.Request) -> web.Response:
        if self.uploads_to_refuse:
            return openai_error(self.uploads_to_refuse.pop(0), "not now")
        await self._perhaps_cut(request)
        form = await request.post()
        assert form["purpose"] == "batch"
        data = form["file"].file.read()  # type: ignore[union-attr]
        id = f"file-{len(self.files)}"
        self.files[id] = data
        return web.json_response(
            {
                "id": id,
                "object": "file",
                "bytes": len(data),
                "created_at": int(time.time()),
                "filename": form["file"].filename,  # type: ignore[union-attr]
                "purpose": "batch",
                "status": "processed",
            }
        )

    async def _openai_create(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        assert body["completion_window"] == "24h"
        rows = [json.loads(line) for line in self.files[body["input_file_id"]].splitlines()]
        assert all(row["url"] == body["endpoint"] in ("/v1/chat/completions", "/v1/responses") for row in rows)
        tag = (body.get("metadata") or {}).get("s1kit", "")
        batch = self._new_batch("batch_", {row["custom_id"]: row["body"] for row in rows}, tag=tag)
        queued = [b for b in self.batches.values() if not b.is_refused and b.polls < self.polls_until_done]
        batch.is_refused = sum(len(b.requests) for b in queued) > self.queue_limit
        if self.lose_next_creation:
            self.lose_next_creation = False
            return await cut_off(request, json.dumps(self._openai_state(batch)))
        if self.busy_next_creation:
            self.busy_next_creation = False
            return openai_error(503, "busy")
        return web.json_response(self._openai_state(batch))

    async def _openai_list(self, request: web.Request) -> web.Response:
        data = [self._openai_state(batch) for batch in reversed(self.batches.values())]
        return web.json_response({"object": "list", "data": data, "has_more": False})

    async def _openai_batch(self, request: web.Request) -> web.Response:
        batch = self.batches[request.match_info["id"]]
        batch.polls += 1
        return self._job(self._openai_state(batch))

    def _openai_state(self, batch: _Batch) -> dict[str, Any]:
        is_done = batch.polls >= self.polls_until_done
        status = "in_progress" if not is_done else "expired" if batch.expired else "completed"
        bad = batch.expired | batch.failed
        out = {
            "id": batch.id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "errors": None,
            "input_file_id": "file-0",
            "completion_window": "24h",
            "status": status,
            "output_file_id": None,
            "error_file_id": None,
            "created_at": int(batch.created),
            "request_counts": {
                "total": len(batch.requests),
                "completed": len(batch.requests) - len(bad) if is_done else 0,
                "failed": len(bad) if is_done else 0,
            },
            "metadata": {"s1kit": batch.tag},
        }
        if batch.is_refused:
            text = "Enqueued token limit reached for m in organization o. Limit: 90,000 enqueued tokens."
            error = {"code": "token_limit_exceeded", "message": text, "param": None, "line": None}
            out |= {"status": "failed", "errors": {"object": "list", "data": [error]}}
        elif is_done:
            out["output_file_id"], out["error_file_id"] = f"{batch.id}-out", f"{batch.id}-err" if bad else None
        return out

    async def _openai_file(self, request: web.Request) -> web.StreamResponse:
        id, _, kind = request.match_info["id"].rpartition("-")
        batch = self.batches[id]
        rows = []
        for key, body in batch.requests.items():
            if (key in batch.expired or key in batch.failed) != (kind == "err"):
                continue
            row: dict[str, Any] = {"id": f"batch_req_{key[:8]}", "custom_id": key, "response": None, "error": None}
            if key in batch.expired:
                row["error"] = {"code": "batch_expired", "message": "This request could not be executed in time."}
            elif key in batch.failed:
                error = {"error": {"message": "Invalid request", "type": "invalid_request_error"}}
                row["response"] = {"status_code": 400, "request_id": "r", "body": error}
            else:
                completion = response(body) if "input" in body else chat_completion(body, "openai")
                row["response"] = {"status_code": 200, "request_id": "r", "body": completion}
            rows.append(row)
        return await self._jsonl(request, rows)

    # ---- Anthropic's batches ----------------------------------------------------------------------------------------

    async def _anthropic_create(self, request: web.Request) -> web.StreamResponse:
        if self.uploads_to_refuse:
            return anthropic_error(self.uploads_to_refuse.pop(0), "not now")
        await self._perhaps_cut(request)
        body = await request.json()
        batch = self._new_batch("msgbatch_", {row["custom_id"]: row["params"] for row in body["requests"]})
        if self.lose_next_creation:
            self.lose_next_creation = False
            return await cut_off(request, json.dumps(self._anthropic_state(batch, request)))
        if self.busy_next_creation:
            self.busy_next_creation = False
            return anthropic_error(503, "busy")
        return web.json_response(self._anthropic_state(batch, request))

    async def _anthropic_list(self, request: web.Request) -> web.Response:
        data = [self._anthropic_state(batch, request) for batch in reversed(self.batches.values())]
        return web.json_response({"data": data, "has_more": False, "first_id": None, "last_id": None})

    async def _anthropic_batch(self, request: web.Request) -> web.Response:
        batch = self.batches[request.match_info["id"]]
        batch.polls += 1
        return self._job(self._anthropic_state(batch, request))

    def _anthropic_state(self, batch: _Batch, request: web.Request) -> dict[str, Any]:
        is_done = batch.polls >= self.polls_until_done
        num, bad = len(batch.requests), len(batch.expired) + len(batch.failed)
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": "ended" if is_done else "in_progress",
            "request_counts": {
                "processing": 0 if is_done else num,
                "succeeded": num - bad if is_done else 0,
                "errored": len(batch.failed) if is_done else 0,
                "canceled": 0,
                "expired": len(batch.expired) if is_done else 0,
            },
            "created_at": datetime.fromtimestamp(batch.created, UTC).isoformat(),
            "expires_at": "2026-11-23T10:00:00Z",
            "ended_at": "2026-11-22T10:30:00Z" if is_done else None,
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": f"{self.anthropic}/messages/batches/{batch.id}/results" if is_done else None,
        }

    async def _anthropic_results(self, request: web.Request) -> web.StreamResponse:
        batch = self.batches[request.match_info["id"]]
        rows = []
        for key, params in batch.requests.items():
            result: dict[str, Any] = {"type": "succeeded"}
            if key in batch.expired:
                result = {"type": "expired"}
            elif key in batch.failed:
                error = {"type": "invalid_request_error", "message": "Invalid request"}
                result = {"type": "errored", "error": {"type": "error", "error": error, "request_id": "r"}}
            else:
                result["message"] = message(params)
            rows.append({"custom_id": key, "result": result})
        return await self._jsonl(request, rows)

    # ---- Gemini's batches -------------------------------------------------------------------------------------------

    async def _gemini_upload(self, request: web.Request) -> web.Response:
        if self.uploads_to_refuse:
            return gemini_error(self.uploads_to_refuse.pop(0), "not now")
        assert request.headers["X-Goog-Upload-Protocol"] == "resumable"
        assert request.headers["X-Goog-Upload-Command"] == "start"
        id = f"up{len(self._uploads)}"
        self._uploads[id] = (await request.json())["file"].get("displayName", "")
        headers = {"x-goog-upload-url": f"{self.root}/upload/go/{id}", "x-goog-upload-status": "active"}
        return web.json_response({}, headers=headers)

    async def _gemini_upload_bytes(self, request: web.Request) -> web.Response:
        assert request.headers["X-Goog-Upload-Command"] == "upload, finalize"
        await self._perhaps_cut(request)
        id = request.match_info["id"]
        self.files[f"files/{id}"] = await request.read()
        file = {
            "name": f"files/{id}",
            "displayName": self._uploads[id],
            "state": "ACTIVE",
            "mimeType": "application/jsonl",
        }
        return web.json_response({"file": file}, headers={"x-goog-upload-status": "final"})

    async def _gemini_create(self, model: str, body: dict[str, Any]) -> web.Response:
        batch_in = body["batch"]
        rows = [json.loads(line) for line in self.files[batch_in["inputConfig"]["fileName"]].splitlines()]
        requests = {row["key"]: row["request"] for row in rows}
        batch = self._new_batch("batches/", requests, tag=batch_in.get("displayName", ""), model=model)
        if self.busy_next_creation:
            self.busy_next_creation = False
            return gemini_error(503, "busy")
        return web.json_response(self._gemini_state(batch))

    async def _gemini_list(self, request: web.Request) -> web.Response:
        return web.json_response({"operations": [self._gemini_state(b) for b in reversed(self.batches.values())]})

    async def _gemini_batch(self, request: web.Request) -> web.Response:
        batch = self.batches["batches/" + request.match_info["id"]]
        batch.polls += 1
        return self._job(self._gemini_state(batch))

    def _gemini_state(self, batch: _Batch) -> dict[str, Any]:
        is_done = batch.polls >= self.polls_until_done
        metadata: dict[str, Any] = {
            "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
            "model": f"models/{batch.model}",
            "displayName": batch.tag,
            "createTime": "2026-11-22T10:00:00.000000000Z",
            "updateTime": "2026-11-22T10:00:00.000000000Z",
            "batchStats": {"requestCount": str(len(batch.requests))},
            "state": "BATCH_STATE_SUCCEEDED" if is_done else "BATCH_STATE_RUNNING",
            "name": batch.id,
        }
        out: dict[str, Any] = {"name": batch.id, "metadata": metadata}
        if is_done:
            file = {"responsesFile": "files/" + batch.id.replace("/", "-")}
            metadata["output"] = file
            out |= {"done": True, "response": {"@type": "type.googleapis.com/x.GenerateContentBatchOutput", **file}}
        return out

    async def _gemini_file(self, request: web.Request) -> web.StreamResponse:
        id = request.match_info["id"].removesuffix(":download")
        batch = self.batches[id.replace("-", "/", 1)]
        rows = []
        for key, body in batch.requests.items():
            if key in batch.expired:
                rows.append({"key": key, "error": {"code": 4, "message": "Deadline exceeded"}})
            elif key in batch.failed:
                rows.append({"key": key, "error": {"code": 3, "message": "Invalid request"}})
            else:
                rows.append({"key": key, "response": generated_content(body, batch.model)})
        return await self._jsonl(request, rows)

    # ---- shared -----------------------------------------------------------------------------------------------------

    def _new_batch(self, prefix: str, requests: dict[str, dict[str, Any]], tag: str = "", model: str = "") -> _Batch:
        number = len(self.batches)
        batch = _Batch(f"{prefix}b{number}", requests, model, tag)
        for key, body in requests.items():
            question = question_in(body)
            if self.bad(question):
                batch.failed.add(key)
            elif self.expire(number, question):
                batch.expired.add(key)
        self.batches[batch.id] = batch
        return batch

    def _job(self, state: dict[str, Any]) -> web.Response:
        if self.gone == "job" and self.num_not_found:
            self.num_not_found -= 1
            return openai_error(404, "there is no such batch")
        told = self.change_job(state)
        return web.Response(text=told, content_type="text/html") if isinstance(told, str) else web.json_response(told)

    async def _jsonl(self, request: web.Request, rows: list[dict[str, Any]]) -> web.StreamResponse:
        if self.gone == "results":
            return openai_error(404, "the file is deleted")
        if self.shuffle_results:
            rows = [*reversed(rows), *rows[:2]]
        text = self.change_results("".join(json.dumps(row) + "\n" for row in rows))
        if self.num_downloads_to_fail:
            self.num_downloads_to_fail -= 1
            return await cut_off(request, text) if self.num_downloads_to_fail % 2 else openai_error(503, "busy")
        return web.Response(text=text, content_type="application/jsonl")


def question_in(body: dict[str, Any]) -> str:
    if "contents" in body:
        return str(body["contents"][-1]["parts"][-1]["text"])
    if "input" in body:
        given = body["input"]
        return str(given if isinstance(given, str) else given[-1]["content"])
    return str(body["messages"][-1]["content"])


def chat_completion(body: dict[str, Any], dialect: str) -> dict[str, Any]:
    """A chat completion as OpenAI (no thinking), DeepSeek (`reasoning_content`), OpenRouter (`reasoning`) or a plain
    server (`<think>` in the text) send it."""
    question = str(body["messages"][-1]["content"])
    thinking, answer = thinking_of(question), answer_of(question)
    msg: dict[str, Any] = {"role": "assistant", "content": answer}
    if dialect == "openai":
        assert "max_completion_tokens" in body
        msg["refusal"] = None
    elif dialect == "deepseek":
        msg["reasoning_content"] = thinking
    elif dialect == "openrouter":
        msg["reasoning"] = thinking
    else:
        msg["content"] = f"<think>\n{thinking}\n</think>\n\n{answer}"
    num_in, num_think, num_out = words(question), words(thinking), words(thinking) + words(answer)
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1763800000,
        "model": body["model"],
        "choices": [{"index": 0, "message": msg, "finish_reason": "stop", "logprobs": None}],
        "usage": {
            "prompt_tokens": num_in,
            "completion_tokens": num_out,
            "total_tokens": num_in + num_out,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": num_think},
        },
    }


def generated_content(body: dict[str, Any], model: str) -> dict[str, Any]:
    question = question_in(body)
    thinking, answer = thinking_of(question), answer_of(question)
    config = body.get("generationConfig", {})
    thinking_config = config.get("thinkingConfig", {})
    # Protocol buffers take both spellings; the newest client uses the second.
    shows = thinking_config.get("includeThoughts", thinking_config.get("include_thoughts"))
    parts = [{"text": thinking, "thought": True}] if shows else []
    num_in, num_think, num_out = words(question), words(thinking), words(answer)
    return {
        "candidates": [
            {"content": {"parts": [*parts, {"text": answer}], "role": "model"}, "finishReason": "STOP", "index": 0}
        ],
        "usageMetadata": {
            "promptTokenCount": num_in,
            "candidatesTokenCount": num_out,
            "totalTokenCount": num_in + num_think + num_out,
            "thoughtsTokenCount": num_think,
        },
        "modelVersion": model,
        "responseId": "r",
    }


def response(body: dict[str, Any], shows_all: bool = False) -> dict[str, Any]:
    """A response with a summary of its thinking where one was asked for, or with all of it, as vLLM shows it."""
    question = question_in(body)
    thinking, answer = thinking_of(question), answer_of(question)
    reasoning: dict[str, Any] = {"id": "rs_1", "type": "reasoning", "summary": []}
    if shows_all:
        reasoning["content"] = [{"type": "reasoning_text", "text": thinking}]
    elif (body.get("reasoning") or {}).get("summary"):
        reasoning["summary"] = [{"type": "summary_text", "text": thinking}]
    said = [{"type": "output_text", "text": answer, "annotations": [], "logprobs": []}]
    num_in, num_think, num_out = words(question), words(thinking), words(thinking) + words(answer)
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1763800000,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": body["model"],
        "output": [
            reasoning,
            {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": said},
        ],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": num_in,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": num_out,
            "output_tokens_details": {"reasoning_tokens": num_think},
            "total_tokens": num_in + num_out,
        },
    }


def message(body: dict[str, Any]) -> dict[str, Any]:
    content = body["messages"][-1]["content"]
    question = content if isinstance(content, str) else content[0]["text"]
    thinking, answer = thinking_of(question), answer_of(question)
    blocks: list[dict[str, Any]] = [{"type": "text", "text": answer}]
    if body.get("thinking", {}).get("type") in ("enabled", "adaptive"):
        blocks.insert(0, {"type": "thinking", "thinking": thinking, "signature": "c2ln"})
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": blocks,
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": words(question),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": words(thinking) + words(answer),
            "service_tier": "standard",
        },
    }


def openai_error(status: int, text: str, code: str | None = None) -> web.Response:
    kind = "invalid_request_error" if status < 429 else "server_error"
    return web.json_response({"error": {"message": text, "type": kind, "param": None, "code": code}}, status=status)


def gemini_error(status: int, text: str, reason: str = "") -> web.Response:
    error: dict[str, Any] = {"code": status, "message": text, "status": "INVALID_ARGUMENT"}
    if reason:
        error["details"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]
    return web.json_response({"error": error}, status=status)


def anthropic_error(status: int, text: str) -> web.Response:
    kind = {401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}.get(status, "api_error")
    return web.json_response({"type": "error", "error": {"type": kind, "message": text}}, status=status)


async def cut_off(request: web.Request, text: str) -> web.StreamResponse:
    """Half of the body that the headers promise, then nothing."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(text))})
    await response.prepare(request)
    await response.write(text[: len(text) // 2].encode())
    assert request.transport is not None
    request.transport.close()
    return response


def main() -> None:
    """A server in a process of its own, for tests that kill the client: prints its port, logs when it got which
    question."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--fault-every", type=int, default=0)
    arguments = parser.parse_args()
    with ProviderServer() as server, open(arguments.log, "a", buffering=1) as log:
        every = arguments.fault_every

        def faults(number: int, question: str) -> Fault:
            if every and number % every == every - 1:
                return [Fault(status=429, retry_after="0.01"), Fault(status=500), Fault(cut=True)][number // every % 3]
            log.write(f"{time.monotonic():.4f} {question}\n")
            return Fault(seconds=arguments.seconds)

        server.faults = faults
        print(server.root, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
