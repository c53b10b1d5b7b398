"""Gemini's batch API (ai.google.dev/api/batch-api) and its files (ai.google.dev/api/files)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from s1kit.providers.batch.wire import (
    NO_REASON,
    Line,
    Status,
    failed_line,
    job_in,
    key_in,
    no_results,
    rows,
    text_field,
)
from s1kit.providers.bodies import error_message
from s1kit.providers.chat import ChatRequest, Problem
from s1kit.providers.http import Http, to_json
from s1kit.providers.wires.gemini import generate_content
from s1kit.providers.wires.reading import count, dict_of, list_of

_STATUS = {3: 400, 5: 404, 7: 403, 8: 429, 9: 400, 11: 400, 16: 401}
"""gRPC's error codes as HTTP statuses (google.rpc.Code)."""


@dataclass(frozen=True)
class GeminiBatch:
    """The published limit of an input file is 2 GB; a driver splits far below it, for memory."""

    max_requests: int = 100_000
    max_bytes: int = 1900 * 10**6

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
        if not address:
            raise Problem("server", "the upload was given no address")
        finish = {"X-Goog-Upload-Offset": "0", "X-Goog-Upload-Command": "upload, finalize"}
        uploaded = (await http.send("POST", address, data, finish)).body or {}
        name = dict_of(uploaded.get("file")).get("name")
        if not isinstance(name, str) or not name:
            raise Problem("server", "the upload gave no file name")
        body = {"batch": {"displayName": tag, "inputConfig": {"fileName": name}}}
        return text_field(await http.post(f"/models/{model}:batchGenerateContent", to_json(body)), "name")

    async def find(self, http: Http, tag: str, num_requests: int, since: str) -> list[str]:
        listed = ((await http.get("/batches?pageSize=100")).body or {}).get("operations")
        jobs = [job for job in map(dict_of, list_of(listed)) if isinstance(job.get("name"), str)]
        return [job["name"] for job in jobs if dict_of(job.get("metadata")).get("displayName") == tag]

    async def status(self, http: Http, job: str) -> Status:
        body = job_in(await http.get(f"/{job}"), "name")
        metadata = dict_of(body.get("metadata"))
        answered = count(metadata.get("batchStats"), "successfulRequestCount") or 0
        done = answered + (count(metadata.get("batchStats"), "failedRequestCount") or 0)
        state = str(metadata.get("state")).removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_")
        if state == "FAILED" or (body.get("error") and state not in ("EXPIRED", "CANCELLED")):
            return Status("failed", done, error_message({"error": body.get("error")}) or NO_REASON)
        if state in ("SUCCEEDED", "PARTIALLY_SUCCEEDED", "EXPIRED", "CANCELLED") or body.get("done") is True:
            return Status("ended", done, num_answered=answered, is_cancelled=state == "CANCELLED")
        return Status("running", done)

    async def results(self, http: Http, job: str) -> AsyncIterator[Line]:
        body = job_in(await http.get(f"/{job}"), "name")
        metadata = dict_of(body.get("metadata"))
        output = dict_of(metadata.get("output")) or dict_of(body.get("response"))
        inlined = list_of(dict_of(output.get("inlinedResponses")).get("inlinedResponses"))
        for row in map(dict_of, inlined):
            yield _line({"key": dict_of(row.get("metadata")).get("key"), **row}, to_json(row))
        file = output.get("responsesFile")
        if isinstance(file, str) and file:
            async for found, raw in rows(http, f"{http.root}/download/v1beta/{file}:download?alt=media"):
                yield _line(found, raw)
        elif not inlined and (answered := count(metadata.get("batchStats"), "successfulRequestCount")):
            raise no_results(answered)


def _line(row: dict[str, Any], raw: bytes) -> Line:
    key, response = key_in(row, "key"), row.get("response")
    if isinstance(response, dict):
        return Line(key, response, raw=raw)
    error = row.get("error") or row.get("status")
    code = count(error, "code") or 0
    return failed_line(key, code if 400 <= code <= 599 else _STATUS.get(code, 500), error, raw, fallback=NO_REASON)
