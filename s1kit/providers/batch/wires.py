"""The batch APIs' wire formats. Each takes requests by key, runs them within a day, and replies in any order.

Sources: platform.openai.com/docs/api-reference/batch, ai.google.dev/api/batch-api and /api/files,
platform.claude.com/docs/en/api/messages/batches. Limits are the published ones, with a margin.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from s1kit.providers.chat import ChatRequest, Problem, WireFormat
from s1kit.providers.http import Answer, Http, to_json
from s1kit.providers.wires.anthropic import message_parameters
from s1kit.providers.wires.gemini import generate_content

MAX_PAGES = 20
SECONDS_CLOCKS_DIFFER = 300.0

JobState = Literal["running", "ended", "failed"]


@dataclass(frozen=True)
class Line:
    """One request's fate in a batch."""

    key: str
    body: dict[str, Any] | None
    """The reply, as it would have come online; None when there is none."""
    reason: str = ""
    """Why there is none: expired, cancelled, an error."""
    is_final: bool = False
    """Whether asking again cannot help: the request itself was refused."""


@dataclass(frozen=True)
class Status:
    state: JobState
    done: int = 0
    reason: str = ""
    is_crowded: bool = False
    """Whether the job was refused because too many tokens wait in the provider's queue already."""


class BatchWire(Protocol):
    """One provider's batch API."""

    @property
    def max_requests(self) -> int: ...

    @property
    def max_bytes(self) -> int: ...

    def line(self, key: str, request: ChatRequest) -> bytes: ...

    async def submit(self, http: Http, model: str, tag: str, lines: Sequence[bytes]) -> str:
        """Start a job; returns its id. `tag` finds it again should the answer be lost."""
        ...

    async def find(self, http: Http, tag: str, num_requests: int, since: str) -> list[str]:
        """Jobs that may be the one with this tag, submitted at `since` (UTC, ISO 8601)."""
        ...

    async def status(self, http: Http, job: str) -> Status: ...

    def results(self, http: Http, job: str) -> AsyncIterator[Line]: ...


@dataclass(frozen=True)
class OpenAIBatch:
    wire: WireFormat
    """Chat completions or responses."""
    endpoint: str
    max_requests: int = 50_000
    max_bytes: int = 190 * 10**6

    def line(self, key: str, request: ChatRequest) -> bytes:
        body = self.wire.call(request).body
        return to_json({"custom_id": key, "method": "POST", "url": self.endpoint, "body": body})

    async def submit(self, http: Http, model: str, tag: str, lines: Sequence[bytes]) -> str:
        uploaded = await http.upload("/files", {"purpose": "batch"}, f"{tag}.jsonl", b"\n".join(lines) + b"\n")
        body = {
            "input_file_id": _field(uploaded, "id"),
            "endpoint": self.endpoint,
            "completion_window": "24h",
            "metadata": {"s1kit": tag},
        }
        return _field(await http.post("/batches", to_json(body)), "id")

    async def find(self, http: Http, tag: str, num_requests: int, since: str) -> list[str]:
        jobs = _pages(http, "/batches?limit=100", "after")
        return [str(job["id"]) async for job in jobs if (job.get("metadata") or {}).get("s1kit") == tag]

    async def status(self, http: Http, job: str) -> Status:
        body = (await http.get(f"/batches/{job}")).body or {}
        counts = body.get("request_counts") or {}
        done = int(counts.get("completed") or 0) + int(counts.get("failed") or 0)
        match body.get("status"):
            case "completed" | "expired" | "cancelled":
                return Status("ended", done)
            case "failed":
                errors = (body.get("errors") or {}).get("data") or [{}]
                reason = str(errors[0].get("message") or "no explanation")
                # "Enqueued token limit reached for ... in organization ..."
                is_crowded = errors[0].get("code") == "token_limit_exceeded" or "enqueued token" in reason.lower()
                return Status("failed", done, reason, is_crowded)
            case _:
                return Status("running", done)

    async def results(self, http: Http, job: str) -> AsyncIterator[Line]:
        body = (await http.get(f"/batches/{job}")).body or {}
        for file in (body.get("output_file_id"), body.get("error_file_id")):
            if not file:
                continue
            async for row in _rows(http, f"/files/{file}/content"):
                response = row.get("response") or {}
                status, reply = response.get("status_code"), response.get("body")
                if status == 200 and isinstance(reply, dict):
                    yield Line(str(row.get("custom_id")), reply)
                else:
                    error = row.get("error") or (reply or {}).get("error") or {}
                    reason = str(error.get("message") or error.get("code") or f"status {status}")
                    yield Line(str(row.get("custom_id")), None, reason, is_final=status in (400, 413, 422))


@dataclass(frozen=True)
class AnthropicBatch:
    max_requests: int = 100_000
    max_bytes: int = 240 * 2**20

    def line(self, key: str, request: ChatRequest) -> bytes:
        return to_json({"custom_id": key, "params": message_parameters(request)})

    async def submit(self, http: Http, model: str, tag: str, lines: Sequence[bytes]) -> str:
        body = b'{"requests":[' + b",".join(lines) + b"]}"
        return _field(await http.send("POST", "/messages/batches", body, {"Content-Type": "application/json"}), "id")

    async def find(self, http: Http, tag: str, num_requests: int, since: str) -> list[str]:
        # A message batch carries no tag of ours; its size and its time narrow the search, its results settle it.
        jobs = _pages(http, "/messages/batches?limit=100", "after_id")
        return [
            str(job["id"])
            async for job in jobs
            if sum((job.get("request_counts") or {}).values()) == num_requests and _may_be_of(job, since)
        ]

    async def status(self, http: Http, job: str) -> Status:
        body = (await http.get(f"/messages/batches/{job}")).body or {}
        counts = dict(body.get("request_counts") or {})
        done = sum(counts.values()) - int(counts.get("processing") or 0)
        return Status("ended" if body.get("processing_status") == "ended" else "running", done)

    async def results(self, http: Http, job: str) -> AsyncIterator[Line]:
        body = (await http.get(f"/messages/batches/{job}")).body or {}
        url = str(body.get("results_url") or f"/messages/batches/{job}/results")
        async for row in _rows(http, url):
            result = row.get("result") or {}
            if result.get("type") == "succeeded" and isinstance(result.get("message"), dict):
                yield Line(str(row.get("custom_id")), result["message"])
            else:
                error = (result.get("error") or {}).get("error") or {}
                reason = str(error.get("message") or result.get("type") or "no explanation")
                is_final = error.get("type") in ("invalid_request_error", "request_too_large")
                yield Line(str(row.get("custom_id")), None, reason, is_final)


@dataclass(frozen=True)
class GeminiBatch:
    max_requests: int = 100_000
    max_bytes: int = 1900 * 10**6
    """The published limit of an input file is 2 GB; a driver splits far below it, for memory."""

    def line(self, key: str, request: ChatRequest) -> bytes:
        return to_json({"key": key, "request": generate_content(request)})

    async def submit(self, http: Http, model: str, tag: str, lines: Sequence[bytes]) -> str:
        data = b"\n".join(lines) + b"\n"
        start = await http.send(
            "POST",
            http.root + "/upload/v1beta/files",
            to_json({"file": {"displayName": tag, "mimeType": "application/jsonl"}}),
            {
                "Content-Type": "application/json",
                "X-Goog-Upload-Protocol": "resumable",
                "X-Goog-Upload-Command": "start",
                "X-Goog-Upload-Header-Content-Length": str(len(data)),
                "X-Goog-Upload-Header-Content-Type": "application/jsonl",
            },
        )
        address = start.headers.get("x-goog-upload-url", "")
        finish = {"X-Goog-Upload-Offset": "0", "X-Goog-Upload-Command": "upload, finalize"}
        uploaded = (await http.send("POST", address, data, finish)).body or {}
        name = (uploaded.get("file") or {}).get("name")
        if not name:
            raise Problem("server", "the upload gave no file name")
        body = {"batch": {"displayName": tag, "inputConfig": {"fileName": name}}}
        return _field(await http.post(f"/models/{model}:batchGenerateContent", to_json(body)), "name")

    async def find(self, http: Http, tag: str, num_requests: int, since: str) -> list[str]:
        jobs = ((await http.get("/batches?pageSize=100")).body or {}).get("operations") or []
        return [str(job["name"]) for job in jobs if (job.get("metadata") or {}).get("displayName") == tag]

    async def status(self, http: Http, job: str) -> Status:
        body = (await http.get(f"/{job}")).body or {}
        metadata = body.get("metadata") or {}
        stats = metadata.get("batchStats") or {}
        done = int(stats.get("successfulRequestCount") or 0) + int(stats.get("failedRequestCount") or 0)
        match str(metadata.get("state")).removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_"):
            case "SUCCEEDED" | "EXPIRED" | "CANCELLED":
                return Status("ended", done)
            case "FAILED":
                return Status("failed", done, str((body.get("error") or {}).get("message") or "no explanation"))
            case _:
                return Status("running", done)

    async def results(self, http: Http, job: str) -> AsyncIterator[Line]:
        body = (await http.get(f"/{job}")).body or {}
        output = (body.get("metadata") or {}).get("output") or body.get("response") or {}
        if not (file := output.get("responsesFile")):
            return
        async for row in _rows(http, f"{http.root}/download/v1beta/{file}:download?alt=media"):
            if isinstance(row.get("response"), dict):
                yield Line(str(row.get("key")), row["response"])
            else:
                error = row.get("error") or row.get("status") or {}
                yield Line(
                    str(row.get("key")),
                    None,
                    str(error.get("message") or "no explanation"),
                    error.get("code") in (3, 400),
                )


async def _pages(http: Http, path: str, cursor: str) -> AsyncIterator[dict[str, Any]]:
    """The jobs of a list, newest first, over so many pages as may hold one that was just submitted."""
    after = ""
    for _ in range(MAX_PAGES):
        body = (await http.get(path + after)).body or {}
        jobs = [job for job in body.get("data") or [] if isinstance(job, dict) and "id" in job]
        for job in jobs:
            yield job
        if not body.get("has_more") or not jobs:
            return
        after = f"&{cursor}={jobs[-1]['id']}"


def _may_be_of(job: dict[str, Any], since: str) -> bool:
    """Whether a job was not there before it was submitted, give or take what clocks differ by."""
    try:
        made, asked = (datetime.fromisoformat(str(text)) for text in (job.get("created_at"), since))
        return (made - asked).total_seconds() > -SECONDS_CLOCKS_DIFFER
    except (ValueError, TypeError):
        return True


async def _rows(http: Http, path: str) -> AsyncIterator[dict[str, Any]]:
    """The JSON objects of a results file; a line that is none is left out, so its request counts as missing."""
    async for line in http.lines(path):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


def _field(answer: Answer, name: str) -> str:
    value = (answer.body or {}).get(name)
    if not isinstance(value, str):
        raise Problem("server", f"the reply has no {name}")
    return value
